"""
What all netlink messages have in common: headers, attributes, flags.

Source: netlink(7), ``linux/netlink.h``, ``linux/netfilter/nfnetlink.h``. Everything here computes;
sockets belong to those who use them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from nfproxy.errors import DataplaneError

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
ERROR = struct.Struct("=i")  # the number in NLMSG_ERROR, and in NLMSG_DONE; negative
GENERIC_SIZE = 4  # nfgenmsg: family, version, resource id

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_CREATE = 0x400
NESTED = 0x8000
TYPE_MASK = 0x3FFF

# What the module socket does not name.
NETLINK_NETFILTER = 12
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_CAP_ACK = 270, 1, 10
SO_ATTACH_FILTER, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 26, 32, 33


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded."""
    size = len(payload) + 4
    return ATTRIBUTE.pack(size, kind) + payload + b"\0" * (-size % 4)


def string(kind: int, text: str) -> bytes:
    """Return a string attribute."""
    return attribute(kind, text.encode() + b"\0")


def attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (type, start, end) of each attribute's payload. Raises DataplaneError."""
    while at + 4 <= end:
        size, kind = ATTRIBUTE.unpack_from(data, at)
        if size < 4 or at + size > end:
            raise DataplaneError("the kernel sent a malformed netlink attribute")
        yield kind & TYPE_MASK, at + 4, at + size
        at += (size + 3) & ~3


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Yield (type, flags, sequence, start of payload, end, port) of each message in a buffer."""
    at, total = 0, len(data)
    while at + 16 <= total:
        size, kind, flags, sequence, port = HEADER.unpack_from(data, at)
        if size < 16:
            return
        yield kind, flags, sequence, at + 16, at + size, port
        at += (size + 3) & ~3


def error_number(data: bytes, start: int) -> int:
    """Return the number in a message that ends a listing or answers a request; 0 for none."""
    (number,) = ERROR.unpack_from(data, start)
    return -int(number)
