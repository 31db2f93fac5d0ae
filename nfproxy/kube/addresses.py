"""
Which addresses may stand where.

kube-proxy programs what the API server has let through; manifests pass no API
server, so its checks on addresses are made here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from nfproxy.errors import InputError
from nfproxy.kube.decoded import Notes
from nfproxy.model.addresses import (
    Prefix,
    format_address,
    parse_address,
    parse_prefix,
)

Parse = Callable[[str], bytes]


def reachable_address(text: str) -> bytes:
    """
    Return the packed form of an address that packets may be sent to through a service.

    Refuses what the API refuses for endpoints, external IPs and load-balancer IPs
    (ValidateNonSpecialIP): the unspecified address, loopback, link-local and
    link-local multicast. A translation to 127.0.0.1 would open the node's own
    private sockets. Raises InputError.
    """
    try:
        packed = socket.inet_pton(socket.AF_INET, text)  # the common case, five times as fast
    except (OSError, ValueError, UnicodeError):
        packed = parse_address(text)
    if what := _special(packed):
        raise InputError(f"{format_address(packed)} is {what}, which cannot be served")
    return packed


def cluster_address(text: str) -> bytes:
    """
    Return the packed form of a cluster IP.

    The API server allocates these from its ranges and has no rule against link-local ones, so
    only what can never be routed is refused: unspecified, loopback, multicast.
    Raises InputError.
    """
    packed = parse_address(text)
    what = _special(packed)
    if what and what != _LINK_LOCAL:
        raise InputError(f"{format_address(packed)} is {what}, which cannot be a cluster IP")
    if packed[0] == 0xFF or (len(packed) == 4 and packed[0] >= 0xE0):
        raise InputError(f"{format_address(packed)} is not a unicast address")
    return packed


_LINK_LOCAL = "a link-local address"


def _special(packed: bytes) -> str:
    """Return what is special about an address, "" for an ordinary one."""
    if not any(packed):
        return "the unspecified address"
    if len(packed) == 4:
        if packed[0] == 127:
            return "a loopback address"
        if packed[:2] == b"\xa9\xfe":  # 169.254.0.0/16
            return _LINK_LOCAL
        if packed[:3] == b"\xe0\0\0":  # 224.0.0.0/24
            return "a link-local multicast address"
        return ""
    if packed == b"\0" * 15 + b"\x01":
        return "a loopback address"
    if packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:  # fe80::/10
        return _LINK_LOCAL
    if packed[0] == 0xFF and packed[1] & 0x0F == 2:  # ff02::/16 with any flags
        return "a link-local multicast address"
    return ""


def address_list(
    texts: list[str] | None, field: str, notes: Notes, parse: Parse
) -> tuple[bytes, ...]:
    """
    Return the addresses of a list field, in order and each once.

    A bad one is noted and skipped; a blank one is skipped silently, as kube-proxy does.
    """
    found: dict[bytes, None] = {}
    for index, text in enumerate(texts or ()):
        if not text.strip():
            continue
        try:
            found[parse(text)] = None
        except InputError as error:
            notes.add(f"{field}[{index}]", f"{error}; ignored")
    return tuple(found)


def prefix_list(texts: list[str] | None, field: str, notes: Notes) -> tuple[Prefix, ...]:
    """Return the prefixes of a list field, in order; a bad one is noted and skipped."""
    found: dict[Prefix, None] = {}
    for index, text in enumerate(texts or ()):
        try:
            found[parse_prefix(text)] = None
        except InputError as error:
            notes.add(f"{field}[{index}]", f"{error}; ignored")
    return tuple(found)
