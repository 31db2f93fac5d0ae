"""
Messages about the addresses on network interfaces: a listing, and the kernel's notifications.

Source: rtnetlink(7), ``linux/if_addr.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.messages import malformed, messages, values

NETLINK_ROUTE = 0
GET_ADDRESSES = 22  # RTM_GETADDR
ADDRESS_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

_NEW_ADDRESS, _DELETE_ADDRESS = 20, 21  # RTM_…
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_TENTATIVE, _OPTIMISTIC, _DAD_FAILED = 0x40, 0x04, 0x08  # IFA_F_…

_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface

#: The payload of a listing's request: addresses of every family, on every interface.
EVERY_ADDRESS = bytes(_IFADDRMSG.size)


class Assigned(NamedTuple):
    """An address on an interface; an interface may hold it twice, with two prefix lengths."""

    family: Family
    interface: int
    length: int
    address: bytes


class AddressChange(NamedTuple):
    """An address that can be used from now on, or cannot be used any more."""

    assigned: Assigned
    is_usable: bool


def address_changes(data: bytes) -> Iterator[AddressChange]:
    """Yield the changes in a buffer of notifications, in order. Raises DataplaneError."""
    for kind, _, _, start, end, _ in messages(data):
        if kind in (_NEW_ADDRESS, _DELETE_ADDRESS):
            change = _address_change(data[start:end], exists=kind == _NEW_ADDRESS)
            if change is not None:
                yield change


def listed_address(data: bytes) -> Assigned | None:
    """Return the address in one message of a listing, None if it cannot be used."""
    change = _address_change(data, exists=True)
    return change.assigned if change is not None and change.is_usable else None


def _address_change(data: bytes, *, exists: bool) -> AddressChange | None:
    """
    Return what a message's payload says, None if it is of another family.

    Raises DataplaneError where the payload is too short.
    """
    if len(data) < _IFADDRMSG.size:
        raise malformed("message")
    family, length, flags, _, interface = _IFADDRMSG.unpack_from(data)
    if family not in FAMILIES:
        return None
    found = values(data, _IFADDRMSG.size)
    # On a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL this node.
    address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or b""
    if len(address) != Family(family).size:
        return None
    # The kernel sets both flags on an optimistic address, which may be used at once (RFC 4429).
    is_waiting = bool(flags & _TENTATIVE and not flags & _OPTIMISTIC)
    is_usable = exists and not is_waiting and not flags & _DAD_FAILED
    return AddressChange(Assigned(Family(family), interface, length, address), is_usable)
