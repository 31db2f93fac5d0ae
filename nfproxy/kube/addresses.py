"""
The addresses and ranges in objects: which of them are allowed where.

kube-proxy relies on the checks of the API server. Manifests pass no API server, so its checks on
addresses are made here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from nfproxy.errors import InputError
from nfproxy.kube.decoded import Problems
from nfproxy.model.addresses import (
    FAMILIES,
    Family,
    Prefix,
    collapse,
    format_address,
    parse_address,
    parse_prefix,
)

T = TypeVar("T", bytes, Prefix)


def reachable_address(text: str) -> bytes:
    """
    Return the packed form of an address that packets may be sent to through a service.

    Raises InputError for what the API refuses as endpoint, external IP and load-balancer IP
    (ValidateNonSpecialIP): the unspecified address, loopback, link-local and link-local multicast.
    A translation to 127.0.0.1 would open the node's own private sockets.
    """
    packed = parse_address(text)
    if what := _special(packed):
        raise InputError(f"{format_address(packed)} is {what}, which cannot be served")
    return packed


def frontend_address(text: str) -> bytes:
    """
    Return the packed form of an external IP or a load balancer's IP.

    Raises InputError for what :func:`reachable_address` refuses, and for what is no address of one
    host on the internet: multicast, broadcast and reserved addresses.
    """
    packed = reachable_address(text)
    if what := _reserved(packed):
        raise InputError(f"{format_address(packed)} is {what}, which cannot be served")
    return packed


def cluster_address(text: str) -> bytes:
    """
    Return the packed form of a cluster IP.

    Raises InputError for what can never be routed: unspecified, loopback, multicast, broadcast. The
    API server allocates cluster IPs from its ranges and has no rule against link-local ones, nor
    against 240.0.0.0/4, which some clouds use and Linux routes.
    """
    packed = parse_address(text)
    what = _special(packed)
    if what and what != _LINK_LOCAL:
        raise InputError(f"{format_address(packed)} is {what}, which cannot be a cluster IP")
    if _reserved(packed) in (_MULTICAST, _BROADCAST):
        raise InputError(f"{format_address(packed)} is not a unicast address")
    return packed


_LINK_LOCAL, _MULTICAST, _BROADCAST = (
    "a link-local address",
    "a multicast address",
    "the broadcast address",
)


#: What the special IPv4 addresses of `_special` begin with.
_SPECIAL_FIRST = (0, 127, 169, 224)


def _special(packed: bytes) -> str:
    """Return what is special about an address, "" for an ordinary one."""
    if len(packed) == 4 and packed[0] not in _SPECIAL_FIRST:
        return ""  # nearly all of them
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


def _reserved(packed: bytes) -> str:
    """Return what keeps an address from being a Service's outside address, "" for nothing."""
    if len(packed) == 4:
        if packed[0] == 0:  # 0.0.0.0/8
            return 'an address of "this network"'
        if packed[0] & 0xF0 == 0xE0:  # 224.0.0.0/4
            return _MULTICAST
        if packed == b"\xff" * 4:
            return _BROADCAST
        if packed[0] & 0xF0 == 0xF0:  # 240.0.0.0/4
            return "a reserved address"
        return ""
    if packed[0] == 0xFF:
        return _MULTICAST
    if packed.startswith(bytes(12)):  # ::/96, "IPv4-compatible", such as ::127.0.0.1
        return "a reserved address"
    return ""


def parsed_list(
    texts: list[str] | None, field: str, problems: Problems, parse: Callable[[str], T]
) -> tuple[T, ...]:
    """
    Return the addresses or prefixes of a list field, in order and each once.

    A bad one is skipped, with a problem; a blank one is skipped silently, as in kube-proxy.
    """
    found: dict[T, None] = {}
    for index, text in enumerate(texts or ()):
        if not text.strip():
            continue
        try:
            found[parse(text)] = None
        except InputError as error:
            problems.add(f"{field}[{index}]", f"{error}; ignored")
    return tuple(found)


# No packet that reaches a service has the unspecified address as its source.
NO_SOURCE = {Family.IPV4: Prefix(bytes(4), 32), Family.IPV6: Prefix(bytes(16), 128)}


def source_ranges(texts: list[str] | None, problems: Problems) -> tuple[Prefix, ...]:
    """
    Return the ranges of ``spec.loadBalancerSourceRanges``, disjoint, of both families.

    A family without any is open to all. As in kube-proxy, a list without ranges of a family leaves
    the family open, and so does a range of length 0. An invalid range is skipped, with a problem.

    One case is stricter than in kube-proxy. Where a list holds only invalid ranges for a family,
    kube-proxy is left with an empty list, which opens what the list should close. Here the family
    is closed (`NO_SOURCE`). A range with a ``:`` counts for IPv6, any other for IPv4; if no range
    of the list is valid, both are closed. API servers refuse such lists, so clusters behave as with
    kube-proxy.
    """
    if not texts:
        return ()  # like most Services
    valid: dict[Family, list[Prefix]] = {family: [] for family in FAMILIES}
    invalid: set[Family] = set()
    for index, text in enumerate(texts):
        try:
            prefix = parse_prefix(text)
            valid[prefix.family].append(prefix)
        except InputError as error:
            problems.add(f"spec.loadBalancerSourceRanges[{index}]", f"{error}; ignored")
            invalid.add(Family.IPV6 if ":" in text else Family.IPV4)
    if not any(valid.values()) and invalid:
        invalid = set(FAMILIES)
    ranges: list[Prefix] = []
    for family, prefixes in valid.items():
        if not prefixes and family in invalid:
            problems.add(
                "spec.loadBalancerSourceRanges",
                f"holds no valid range for {family.label}, so no source may use the "
                f"{family.label} load-balancer IPs",
            )
            ranges.append(NO_SOURCE[family])
        elif all(prefix.length for prefix in prefixes):
            ranges += collapse(prefixes)
    return tuple(ranges)
