"""Sockets that receive the kernel's announcements of commits to nf_tables, some or others."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence

from nfproxy.errors import DataplaneError, reason_of
from nfproxy.host import bpf
from nfproxy.netlink.sockets import (
    NETLINK_ADD_MEMBERSHIP,
    SO_ATTACH_FILTER,
    SO_RCVBUFFORCE,
    SOL_NETLINK,
    grow_buffer,
    open_socket,
)

_NFNLGRP_NFTABLES = 7
_RECEIVE = 1 << 17  # more than the kernel puts into one notification


def buffers(sock: socket.socket) -> Iterator[bytes | None]:
    """Yield what waits in a socket's buffer; None where the kernel dropped something."""
    while True:
        try:
            yield sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield None


_PORT_OFFSET = 12  # of nlmsg_pid in nlmsghdr
_NOTHING, _EVERYTHING = 0, 0xFFFFFFFF  # bytes of a buffer to let through


def listen(port: int, *, ours: bool, buffer: int) -> socket.socket:
    """
    Return a socket that does not block and receives notifications of commits from now on.

    With `ours` of the commits by the socket with netlink port `port`, else of all others. Without
    privileges its buffer is smaller than `buffer` bytes. Raises DataplaneError.
    """
    opened = open_socket(blocking=False)
    try:
        grow_buffer(opened, SO_RCVBUFFORCE, buffer)
        # The filter first: after joining the group, unfiltered notifications could come in.
        attach_filter(opened, (port,), ours=ours)
        opened.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
    except OSError as error:
        opened.close()
        raise DataplaneError(f"cannot listen to nf_tables: {reason_of(error)}") from error
    return opened


def attach_filter(sock: socket.socket, ports: Sequence[int], *, ours: bool) -> None:
    """
    Let through only what begins with a message of one of the ports, or only what does not.

    The kernel sends each commit in buffers of its own, so the first message of a buffer speaks for
    all of them. BPF loads words as big endian, and the port is in host order.
    """
    swapped = [int.from_bytes(struct.pack("=I", port & 0xFFFFFFFF), "big") for port in ports]
    program = (
        (bpf.LOAD_WORD, 0, 0, _PORT_OFFSET),
        # Each jumps over those that follow, and over the answer to any other port.
        *(
            (bpf.JUMP_IF_EQUAL, left, 0, port)
            for left, port in zip(range(len(swapped), 0, -1), swapped, strict=True)
        ),
        (bpf.RETURN, 0, 0, _NOTHING if ours else _EVERYTHING),
        (bpf.RETURN, 0, 0, _EVERYTHING if ours else _NOTHING),
    )
    bpf.attach(sock, SO_ATTACH_FILTER, program)
