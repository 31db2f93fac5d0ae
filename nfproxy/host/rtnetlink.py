"""
The kernel's address table over rtnetlink: its announcements, and a listing.

Source: rtnetlink(7), ``linux/if_addr.h``.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import FAMILIES, Family

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_ATTR = struct.Struct("=HH")  # length, type

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP_INTR, _NLM_F_DUMP = 0x1, 0x10, 0x300
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_TENTATIVE, _OPTIMISTIC, _DAD_FAILED = 0x40, 0x04, 0x08
_TRIES = 8

#: More than the kernel puts into one buffer.
RECEIVE = 1 << 16


class Assigned(NamedTuple):
    """An address on an interface; the same may be there twice, with two lengths."""

    family: Family
    interface: int
    length: int
    address: bytes


class Change(NamedTuple):
    """An address that is there now and can be used, or is not (any more)."""

    assigned: Assigned
    usable: bool


def open_socket(*, listening: bool) -> socket.socket:
    """
    Return a socket for `read_all`, or one that is `listening` to changes and does not block.

    Raises DataplaneError.
    """
    kind = socket.SOCK_RAW | (socket.SOCK_NONBLOCK if listening else 0)
    try:
        opened = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        opened.bind((0, _GROUPS if listening else 0))
    except OSError as error:
        raise DataplaneError(f"cannot open a routing netlink socket: {error}") from error
    return opened


def read_changes(data: bytes) -> Iterator[Change]:
    """Yield the changes in what was received, in order."""
    for kind, _, start, end in _messages(data):
        if kind in (_NEWADDR, _DELADDR):
            change = _change(data, start, end, kind == _NEWADDR)
            if change is not None:
                yield change


def read_all(asked: socket.socket) -> set[Assigned]:
    """
    Return every address that can be used now, of both families.

    Read again where the table changed meanwhile. Raises DataplaneError.
    """
    for _ in range(_TRIES):
        try:
            found = _list(asked)
        except OSError as error:
            raise DataplaneError(f"cannot list this node's addresses: {error}") from error
        if found is not None:
            return found
    raise DataplaneError("this node's addresses keep changing while they are listed")


def _list(asked: socket.socket) -> set[Assigned] | None:
    """Return the addresses of a listing, None if it was disturbed."""
    body = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    size = _HEADER.size + len(body)
    asked.send(_HEADER.pack(size, _GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 0, 0) + body)
    found: set[Assigned] = set()
    disturbed = False
    while True:
        data = asked.recv(RECEIVE)
        found.update(change.assigned for change in read_changes(data) if change.usable)
        for kind, flags, start, _ in _messages(data):
            disturbed |= bool(flags & _NLM_F_DUMP_INTR)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                (code,) = struct.unpack_from("=i", data, start)
                if code and -code != errno.EINTR:
                    raise OSError(-code, os.strerror(-code))
                return None if disturbed or code else found


def _change(data: bytes, start: int, end: int, there: bool) -> Change | None:
    """Return what one message says, None if it is of a family that does not concern us."""
    family, length, flags, _, interface = _IFADDRMSG.unpack_from(data, start)
    if family not in FAMILIES:
        return None
    values = dict(_attributes(data, start + _IFADDRMSG.size, end))
    # On a point-to-point link IFA_ADDRESS is the other end.
    address = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS) or b""
    if len(address) != Family(family).size:
        return None
    waiting = bool(flags & _TENTATIVE and not flags & _OPTIMISTIC)
    usable = there and not waiting and not flags & _DAD_FAILED
    return Change(Assigned(Family(family), interface, length, address), usable)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (type, flags, start, end) of each message in a buffer."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, flags, _, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, flags, at + _HEADER.size, at + size
        at += (size + 3) & ~3


def _attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while at + _ATTR.size <= end:
        size, kind = _ATTR.unpack_from(data, at)
        if size < _ATTR.size:
            return
        yield kind, data[at + _ATTR.size : at + size]
        at += (size + 3) & ~3
