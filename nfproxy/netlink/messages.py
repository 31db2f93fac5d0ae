"""
Headers, attributes and flags: what all netlink messages share.

Source: netlink(7), ``linux/netlink.h``, ``linux/netfilter/nfnetlink.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from nfproxy.errors import DataplaneError

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
GENERIC_SIZE = 4  # nfgenmsg: family, version, resource id (big endian)

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_CREATE = 0x400
NESTED = 0x8000
TYPE_MASK = 0x3FFF

_ERROR = struct.Struct("=i")  # the number in NLMSG_ERROR and NLMSG_DONE; negative


#: Type, flags, sequence number, start and end of the payload in the buffer, netlink port.
Message = tuple[int, int, int, int, int, int]


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """Return a request to the kernel."""
    return (
        HEADER.pack(HEADER.size + len(payload), kind, flags | NLM_F_REQUEST, sequence, 0) + payload
    )


def generic(family: int) -> bytes:
    """Return an nfgenmsg: the head of the payload of every netfilter message."""
    return bytes((family, 0, 0, 0))


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to 4 bytes."""
    size = len(payload) + 4
    return ATTRIBUTE.pack(size, kind) + payload + b"\0" * (-size % 4)


def string(kind: int, text: str) -> bytes:
    """Return a string attribute."""
    return attribute(kind, text.encode() + b"\0")


def messages(data: bytes) -> Iterator[Message]:
    """
    Yield the messages in a received buffer; their payloads are parts of it.

    Raises DataplaneError where a message does not fit the buffer.
    """
    at, total = 0, len(data)
    while at + HEADER.size <= total:
        size, kind, flags, sequence, port = HEADER.unpack_from(data, at)
        if size < HEADER.size or at + size > total:
            raise malformed("message")
        # No NamedTuple, which takes twice the time: a listing of connections has 200,000 of these.
        yield kind, flags, sequence, at + HEADER.size, at + size, port
        at += (size + 3) & ~3


def attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (type, start, end) of each attribute's payload. Raises DataplaneError."""
    while at + 4 <= end:
        size, kind = ATTRIBUTE.unpack_from(data, at)
        # A size below 4 would never move on.
        if size < 4 or at + size > end:
            raise malformed("attribute")
        yield kind & TYPE_MASK, at + 4, at + size
        at += (size + 3) & ~3


def values(data: bytes, start: int = 0, end: int | None = None) -> dict[int, bytes]:
    """Return the payloads of attributes by type. Raises DataplaneError."""
    stop = len(data) if end is None else end
    return {kind: data[a:b] for kind, a, b in attributes(data, start, stop)}


def number(value: bytes) -> int:
    """Return an unsigned number in network order; 0 for b""."""
    return int.from_bytes(value, "big")


def text(value: bytes) -> str:
    """Return a string without its closing zero; what is not UTF-8 is replaced."""
    return value.rstrip(b"\0").decode("utf-8", "replace")


def error_number(data: bytes, start: int) -> int:
    """
    Return the errno in the payload of NLMSG_ERROR or NLMSG_DONE; 0 for success.

    Raises DataplaneError where the payload is too short.
    """
    if start + _ERROR.size > len(data):
        raise malformed("answer")
    (code,) = _ERROR.unpack_from(data, start)
    return -int(code)


def family_of(data: bytes, start: int = 0) -> int:
    """Return the family in the nfgenmsg of a payload. Raises DataplaneError without one."""
    if start + GENERIC_SIZE > len(data):
        raise malformed("message")
    return data[start]


def malformed(what: str) -> DataplaneError:
    """Return the error of something that no kernel is known to send."""
    return DataplaneError(f"the kernel sent a malformed netlink {what}")
