"""
Listening to what the kernel announces of nf_tables: every commit, message by message.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

from nfproxy.errors import DataplaneError
from nfproxy.netlink.messages import (
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_NETFILTER,
    SO_ATTACH_FILTER,
    SO_RCVBUFFORCE,
    SOL_NETLINK,
)

#: What a call of recv must have room for.
RECEIVE = 1 << 17

_NFNLGRP_NFTABLES = 7

#: Classic BPF: (code, jump if true, jump if false, operand).
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_PORT_OFFSET = 12  # of nlmsg_pid in nlmsghdr
_NOTHING, _EVERYTHING = 0, 0xFFFFFFFF  # bytes of a buffer to let pass


def listen(port: int, *, ours: bool, buffer: int) -> socket.socket:
    """
    Return a socket that does not block, which tells of commits from now on.

    With `ours` those made by the socket with netlink port `port`, else those of all others: a
    filter keeps the rest from being copied at all. Without privileges the buffer is smaller than
    `buffer` bytes. Raises DataplaneError.
    """
    try:
        opened = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
        )
        opened.bind((0, 0))
        with contextlib.suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
        _attach(opened, port, ours)
        opened.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
    except OSError as error:
        raise DataplaneError(f"cannot listen to nf_tables: {error}") from error
    return opened


def _attach(sock: socket.socket, port: int, ours: bool) -> None:
    """
    Let pass what begins with a message of `port`, or only what does not.

    The kernel announces each commit in buffers of its own, so a buffer's first message speaks
    for all. Loads are big endian there, the port is in host order.
    """
    swapped = int.from_bytes(struct.pack("=I", port & 0xFFFFFFFF), "big")
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_LOAD_WORD, 0, 0, _PORT_OFFSET),
            (_JUMP_IF_EQUAL, 0, 1, swapped),
            (_RETURN, 0, 0, _EVERYTHING if ours else _NOTHING),
            (_RETURN, 0, 0, _NOTHING if ours else _EVERYTHING),
        )
    )
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)
