"""Who a client is: a process of this node, a pod of it, or one from outside, and its addresses."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nfproxy.errors import InputError
from nfproxy.insight.packet import AddressType, NodeAddresses
from nfproxy.insight.sight import Sight
from nfproxy.kube.details import PodDetails
from nfproxy.kube.identity import DEFAULT_NAMESPACE, label, subdomain
from nfproxy.model.addresses import Family, family_of, parse_address
from nfproxy.model.service import ObjectName
from nfproxy.text import quoted, shown_name


class Client(msgspec.Struct, frozen=True):
    """Who asks. `what` is ``outside``, ``pod`` (of this node) or ``node`` (a process on it)."""

    addresses: Mapping[Family, bytes]
    what: str
    name: str


def pod_named(text: str, namespace: str = "") -> ObjectName | None:
    """Return the pod that a text names, None for an address. Raises InputError for neither."""
    try:
        parse_address(text)
        return None
    except InputError:
        if "/" not in text and (":" in text or text.replace(".", "").isdigit()):
            raise
    space, _, name = text.rpartition("/")
    try:
        return ObjectName(label(space or namespace or DEFAULT_NAMESPACE), subdomain(name))
    except InputError:
        raise InputError(
            f"{quoted(text)} is neither an IP address nor NAMESPACE/NAME of a pod"
        ) from None


def client_of(sight: Sight, text: str, namespace: str = "") -> Client:
    """
    Return the client that a text names: an address, or a pod that was read.

    That is, one of EndpointSlices, or the one that the API server was asked for. Raises InputError
    for another one.
    """
    pod = pod_named(text, namespace)
    if pod is None:
        return _by_address(sight, parse_address(text))
    own = sight.details.pods.get(pod, PodDetails())
    found = {family_of(address): address for address in own.addresses}
    for piece in sight.details.slices.values():
        for address, details in piece.endpoints.items():
            if details.pod == str(pod):
                found.setdefault(family_of(address), address)
    if not found:
        space, name = shown_name(pod.namespace), shown_name(pod.name)
        what = f"no EndpointSlice that was read names pod {quoted(str(pod))}"
        raise InputError(
            f"pod {quoted(str(pod))} has no address yet" if pod in sight.details.pods else what,
            f"name the client by its address: `kubectl -n {space} get pod {name} -o wide` shows it",
        )
    name = str(pod)
    address = next(iter(found.values()))
    first, node = _by_address(sight, address), own.node or _node_of_endpoint(sight, address)
    where = f" of node {shown_name(node)}" if node and first.what != "pod" else ""
    return Client(found, first.what, f"pod {shown_name(name)}{where}")


def _by_address(sight: Sight, address: bytes) -> Client:
    found = {family_of(address): address}
    own = sight.config.node_name
    if node_addresses(sight).type_of(address) is AddressType.LOCAL:
        return Client(found, "node", f"node {shown_name(own)} itself")
    for name, node in sorted(sight.details.nodes.items()):
        if address in node.addresses:
            return Client(found, "outside", f"node {shown_name(name)}")
    place = _node_of_endpoint(sight, address) or _node_of_range(sight, address)
    if place == own:
        return Client(found, "pod", "a pod of this node")
    if place:
        return Client(found, "outside", f"a pod of node {shown_name(place)}")
    if any(address in prefix for prefix in sight.config.kept.pod_prefixes):
        return Client(found, "outside", "a pod, of a node that is not known")
    return Client(found, "outside", "no pod, no node")


def _node_of_endpoint(sight: Sight, address: bytes) -> str | None:
    for name in sight.planner.services:
        for piece in sight.planner.slices_of(name):
            if address not in piece.addresses:
                continue  # endpoints are made when they are asked for
            for one in piece.endpoints:
                if one.address == address and one.node:
                    return one.node
    return None


def _node_of_range(sight: Sight, address: bytes) -> str | None:
    for name, node in sorted(sight.details.nodes.items()):
        if any(address in cidr for cidr in node.pod_cidrs):
            return name
    own = (sight.config.local_pods.own or {}).get(family_of(address), ())
    return sight.config.node_name if any(address in cidr for cidr in own) else None


def node_addresses(sight: Sight) -> NodeAddresses:
    """Return the addresses of this node that the configuration knows."""
    kept = sight.config.kept
    own = {*kept.node_addresses, *kept.own_addresses, *sight.config.node_ips.values()}
    return NodeAddresses(frozenset(own))
