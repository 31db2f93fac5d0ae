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
from nfproxy.netlink.messages import (
    HEADER,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
    error_number,
    messages,
)

_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface

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
    for kind, _, _, start, end, _ in messages(data):
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
    size = HEADER.size + len(body)
    asked.send(HEADER.pack(size, _GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + body)
    found: set[Assigned] = set()
    disturbed = False
    while True:
        data = asked.recv(RECEIVE)
        found.update(change.assigned for change in read_changes(data) if change.usable)
        for kind, flags, _, start, _, _ in messages(data):
            disturbed |= bool(flags & NLM_F_DUMP_INTR)
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                code = error_number(data, start)
                if code and code != errno.EINTR:
                    raise OSError(code, os.strerror(code))
                return None if disturbed or code else found


def _change(data: bytes, start: int, end: int, there: bool) -> Change | None:
    """Return what one message says, None if it is of a family that does not concern us."""
    family, length, flags, _, interface = _IFADDRMSG.unpack_from(data, start)
    if family not in FAMILIES:
        return None
    found = attributes(data, start + _IFADDRMSG.size, end)
    values = {kind: data[a:b] for kind, a, b in found}
    # On a point-to-point link IFA_ADDRESS is the other end.
    address = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS) or b""
    if len(address) != Family(family).size:
        return None
    waiting = bool(flags & _TENTATIVE and not flags & _OPTIMISTIC)
    usable = there and not waiting and not flags & _DAD_FAILED
    return Change(Assigned(Family(family), interface, length, address), usable)
