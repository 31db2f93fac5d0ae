"""
EndpointSlice: from its wire form to the model.

There may be 100,000 endpoints, so values that they share (node names, hints) exist once.
"""

from __future__ import annotations

import sys
from functools import lru_cache

from msgspec import UNSET

from nfproxy.errors import InputError
from nfproxy.kube import identity, timestamps, wire
from nfproxy.kube.addresses import reachable_address
from nfproxy.kube.decoded import Decoded, Problems, namespaced_name, shared, uid_tag
from nfproxy.kube.identity import Kind
from nfproxy.kube.service import decode_protocol, port_number
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.endpoints import Endpoint, EndpointSlice, SlicePort, endpoint_kind
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.text import quoted

_FAMILIES = {family.label: family for family in FAMILIES}
_ALL_TRUE = wire.Conditions()
_MAX_NAME = 253  # of a node's name; zones, as label values, are shorter still


def decode_slice(obj: wire.EndpointSliceForm, source_file: str = "") -> Decoded[EndpointSlice]:
    """
    Return the slice, or None where kube-proxy would ignore it.

    It ignores slices with the headless label, of address type FQDN, and without the label that
    names their Service. A port without a name has the name "": an API server fills that in, and a
    manifest may leave it out. Ports without a number are left out silently; bad ports and endpoints
    are left out, with a problem. Only a name or an address type that the API would refuse makes the
    object unusable.
    """
    problems = Problems(source_file, Kind.ENDPOINT_SLICE, obj.metadata)
    name = namespaced_name(obj.metadata, identity.subdomain, problems)
    if name is None:
        return Decoded(None, None, problems.found, usable=False)
    labels = obj.metadata.labels or wire.Labels()
    if labels.headless is not UNSET or obj.address_type == "FQDN":
        return Decoded(name, None)
    family = _FAMILIES.get(obj.address_type)
    if family is None:
        problems.add("addressType", f"{quoted(obj.address_type)} is not IPv4, IPv6 or FQDN")
        return Decoded(name, None, problems.found, usable=False)
    if labels.service_name is UNSET or not labels.service_name:
        return Decoded(name, None, has_no_service=True)
    service = _service(name, labels.service_name, problems)
    if service is None:
        return Decoded(name, None, problems.found)
    ports = shared(_ports(obj.ports, problems))
    endpoints = _endpoints(obj.endpoints or [], family, problems)
    value = EndpointSlice.of_parts(name, service, family, ports, *endpoints, uid_tag(obj.metadata))
    return Decoded(name, value, problems.found, triggered_s=_triggered_s(obj.metadata))


def _triggered_s(metadata: wire.Metadata) -> float | None:
    """Return the trigger time; None where it is absent or no time, as for kube-proxy."""
    text = metadata.annotations.trigger_time if metadata.annotations else None
    if not isinstance(text, str):
        return None
    try:
        return timestamps.unix_seconds(text)
    except InputError:
        return None


def _service(name: ObjectName, text: str, problems: Problems) -> ObjectName | None:
    """Return the Service a slice belongs to; None, and a problem, where it cannot be one."""
    field = "metadata.labels['kubernetes.io/service-name']"
    try:
        return ObjectName(name.namespace, identity.label(text))
    except InputError as error:
        problems.add(field, error)
        return None


def _ports(ports: list[wire.SlicePortForm] | None, problems: Problems) -> tuple[SlicePort, ...]:
    """Return the ports that have a number."""
    found: list[SlicePort] = []
    for index, item in enumerate(ports or ()):
        if not item.port:
            continue
        part = "name"
        try:
            name = identity.port_name(item.name or "")
            part = "protocol"
            protocol = decode_protocol(item.protocol)
            part = "port"
            found.append(_slice_port(name, protocol, port_number(item.port)))
        except InputError as error:
            problems.add(f"ports[{index}].{part}", f"{error}; ignored")
    return tuple(found)


@lru_cache(4096)
def _slice_port(name: str, protocol: Protocol, port: int) -> SlicePort:
    """Return a port that is shared by all slices that have the same."""
    return SlicePort(name, protocol, port)


def _endpoints(
    items: list[wire.EndpointForm], family: Family, problems: Problems
) -> tuple[list[bytes], list[Endpoint]]:
    """Return addresses and kinds of the endpoints that have an address of the slice's family."""
    addresses: list[bytes] = []
    kinds: list[Endpoint] = []
    size = family.size
    for index, item in enumerate(items):
        if not item.addresses:
            problems.add(f"endpoints[{index}].addresses", "is empty; endpoint ignored")
            continue
        try:
            address = reachable_address(item.addresses[0])
        except InputError as error:
            problems.add(f"endpoints[{index}].addresses[0]", f"{error}; endpoint ignored")
            continue
        if len(address) != size:
            problems.add(
                f"endpoints[{index}].addresses[0]",
                f"{quoted(item.addresses[0])} is not {family.label}; endpoint ignored",
            )
            continue
        addresses.append(address)
        hints = item.hints
        kinds.append(
            _kind(item.conditions, item.node_name)
            if hints is None
            else _kind(
                item.conditions,
                item.node_name,
                _hints(hints.for_zones) if hints.for_zones else (),
                _hints(hints.for_nodes) if hints.for_nodes else (),
            )
        )
    return addresses, kinds


@lru_cache(4096)
def _kind(
    conditions: wire.Conditions | None,
    node_name: str | None,
    zone_hints: tuple[str, ...] = (),
    node_hints: tuple[str, ...] = (),
) -> Endpoint:
    """Return what an endpoint is. By default it is ready and serving, and not terminating."""
    found = conditions or _ALL_TRUE
    return endpoint_kind(
        found.ready is not False,
        found.serving is not False,
        found.terminating is True,
        None if node_name is None else _shared(node_name),
        zone_hints,
        node_hints,
    )


def _hints(hints: list[wire.Hint]) -> tuple[str, ...]:
    """Return the names of hints."""
    return _shared_hints(tuple([hint.name for hint in hints]))


@lru_cache(4096)
def _shared_hints(names_: tuple[str, ...]) -> tuple[str, ...]:
    """Return the one tuple that stands for these hints."""
    return tuple(_shared(name) for name in names_)


def _shared(text: str) -> str:
    """
    Return the one string that stands for a name of a node or zone.

    Such names are only compared. One longer than any real name is cut just beyond the limit: it
    still matches no node or zone and still counts as a hint, but takes little memory.
    """
    return sys.intern(text[: _MAX_NAME + 1])
