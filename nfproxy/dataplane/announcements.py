"""Sockets that receive the kernel's announcements of commits to nf_tables, some or others."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nfproxy.errors import DataplaneError, reason_of
from nfproxy.host import bpf
from nfproxy.netlink.elements import key_span
from nfproxy.netlink.messages import HEADER
from nfproxy.netlink.sockets import (
    NETLINK_ADD_MEMBERSHIP,
    SO_ATTACH_FILTER,
    SO_RCVBUFFORCE,
    SOL_NETLINK,
    grow_buffer,
    open_socket,
)

_NFNLGRP_NFTABLES = 7
_KIND_END = 6  # behind nlmsg_len and nlmsg_type
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


class Alike(NamedTuple):
    """
    How messages begin that are about one element of a set each: all have `size` bytes.

    `begin` is their length and kind, `head` the payload before the key.
    """

    size: int
    begin: bytes
    head: bytes
    key_length: int

    @classmethod
    def of(cls, message: bytes) -> Alike | None:
        """Return what is like a message; None for one that others may be unlike."""
        payload = message[HEADER.size :]
        span = key_span(payload)
        if span is None or len(message) % 4:  # there would be padding behind each
            return None
        return cls(len(message), message[:_KIND_END], payload[: span[0]], span[1] - span[0])

    def keys(self, data: bytes) -> list[bytes] | None:
        """
        Return the keys in a buffer; None if it has other messages.

        To decode 20,000 messages one by one takes a tenth of a second.
        """
        size, begin, head, length = self
        starts, first = range(0, len(data), size), HEADER.size + len(head)
        if len(data) % size or not all(
            data.startswith(begin, at) and data.startswith(head, at + HEADER.size) for at in starts
        ):
            return None
        return [data[at + first : at + first + length] for at in starts]


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
