"""What elements, and the endpoints in them, are to an operator."""

from __future__ import annotations

from typing import NamedTuple

from nfproxy.model.addresses import Family, format_address
from nfproxy.nft import schema
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey, SharedElement


class _Words(NamedTuple):
    """What an element is, and what follows where it is missing, and where it is surplus."""

    what: str
    missing: str
    surplus: str


_SHARED = {
    schema.CLUSTER_IPS: _Words(
        "cluster IP",
        "not known as one: its other ports are not refused",
        "its other ports are refused, though no Service has it",
    ),
    schema.SERVICE_CIDRS: _Words(
        "ServiceCIDR",
        "its unallocated addresses are not refused",
        "its unallocated addresses are refused",
    ),
    schema.NODE_PORT_ADDRESSES: _Words(
        "node port addresses", "they accept no node ports", "they accept node ports"
    ),
    schema.SOURCE_RANGES: _Words(
        "allowed source", "clients from there are dropped", "clients from there may be let in"
    ),
    schema.LOOPBACK_REJECTS: _Words(
        "on loopback addresses", "it is not rejected there", "it is rejected there"
    ),
    schema.EQUAL_HASHES: _Words(
        "pods that reach themselves",
        "some are not recognised, and get no answer",
        "connections of other pods are masqueraded",
    ),
}

_GUARDED = ("what the source ranges let in leads nowhere", "a rest of source ranges")
_FOUND = ("session affinity is not looked up", "session affinity is looked up")
_RECORDED = ("session affinity is not recorded", "session affinity is recorded")
_OWN = {
    schema.GUARDED_FRONTENDS: _GUARDED,
    schema.STICKY_FRONTENDS: _FOUND,
    schema.STICKY_NODE_PORTS: _FOUND,
    **dict.fromkeys((*schema.RECORD_FRONTENDS.values(),), _RECORDED),
    **dict.fromkeys((*schema.RECORD_NODE_PORTS.values(),), _RECORDED),
}


def shared_element(element: SharedElement, *, is_missing: bool) -> tuple[str, str]:
    """Return what an element is, with its value, and what follows from the difference."""
    words = _SHARED[element.set]
    return f"{words.what} {_value(element)}", words.missing if is_missing else words.surplus


def own_element(name: str, *, is_missing: bool) -> str:
    """Return what it means that a frontend has no element in a map, or one too many."""
    return _OWN[name][not is_missing]


def _value(element: SharedElement) -> str:
    family, name, key = element
    if name == schema.SOURCE_RANGES:
        length = schema.number_of(key, len(key) - 4)
        return f"{format_address(key[: family.size])}/{length}"
    if name == schema.LOOPBACK_REJECTS:
        port = FrontendKey.of_element(family, schema.NODE_PORTS, key)
        return port.place if port else key.hex()
    return schema.format_element(schema.SCHEMAS[name], key, None, family)


def format_destination(family: Family, destination: Destination) -> str:
    """Return an endpoint as ``10.244.1.5:8080`` or ``[fd00::5]:8080``."""
    address = format_address(destination[: family.size])
    port = schema.port_of(destination, family.size)
    return f"[{address}]:{port}" if family is Family.IPV6 else f"{address}:{port}"
