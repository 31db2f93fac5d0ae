"""Node and ServiceCIDR: from the wire to the model."""

from __future__ import annotations

from msgspec import UNSET

from nfproxy.errors import InputError
from nfproxy.kube import wire
from nfproxy.kube.addresses import parsed_list
from nfproxy.kube.decoded import Decoded, Problems, cluster_scoped_name, uid_tag
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import parse_address, parse_prefix
from nfproxy.model.node import Node, ServiceCIDR

_ADDRESS_TYPES = ("InternalIP", "ExternalIP")  # in the order of preference
_TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"


def decode_node(obj: wire.NodeForm, source_file: str = "") -> Decoded[Node]:
    """
    Return the Node. Addresses and pod CIDRs that cannot be parsed are left out, with a problem.
    """
    problems = Problems(source_file, Kind.NODE, obj.metadata)
    name = cluster_scoped_name(obj.metadata, problems)
    if name is None:
        return Decoded(None, None, problems.found, usable=False)
    zone = obj.metadata.labels.zone if obj.metadata.labels else None
    value = Node(
        name=name.name,
        addresses=_addresses((obj.status.addresses if obj.status else None) or [], problems),
        zone="" if zone is UNSET or zone is None else zone,
        pod_cidrs=parsed_list(
            obj.spec.pod_cidrs if obj.spec else None, "spec.podCIDRs", problems, parse_prefix
        ),
        leaving=_leaving(obj),
        uid_tag=uid_tag(obj.metadata),
    )
    return Decoded(name, value, problems.found)


def _leaving(obj: wire.NodeForm) -> bool:
    """Return whether the Node is about to be removed."""
    taints = (obj.spec.taints if obj.spec else None) or ()
    return bool(obj.metadata.deletion_timestamp) or any(t.key == _TO_BE_DELETED for t in taints)


def _addresses(items: list[wire.NodeAddress], problems: Problems) -> tuple[bytes, ...]:
    """Return all internal addresses in order, then all external ones, each once."""
    found: dict[str, dict[bytes, None]] = {kind: {} for kind in _ADDRESS_TYPES}
    for index, item in enumerate(items):
        if item.type not in found:
            continue
        try:
            found[item.type][parse_address(item.address)] = None
        except InputError as error:
            problems.add(f"status.addresses[{index}].address", f"{error}; ignored")
    return tuple(dict.fromkeys(address for kind in _ADDRESS_TYPES for address in found[kind]))


def decode_service_cidr(obj: wire.ServiceCIDRForm, source_file: str = "") -> Decoded[ServiceCIDR]:
    """
    Return the ServiceCIDR.

    CIDRs that cannot be parsed are left out, with a problem. So is one of length 0: nfproxy drops
    traffic to addresses of these ranges that no Service has, which would be all traffic.
    """
    problems = Problems(source_file, Kind.SERVICE_CIDR, obj.metadata)
    name = cluster_scoped_name(obj.metadata, problems)
    if name is None:
        return Decoded(None, None, problems.found, usable=False)
    cidrs = parsed_list(obj.spec.cidrs, "spec.cidrs", problems, parse_prefix)
    for cidr in cidrs:
        if not cidr.length:
            problems.add("spec.cidrs", f"{cidr} holds every address there is; ignored")
    usable = tuple(cidr for cidr in cidrs if cidr.length)
    value = ServiceCIDR(name.name, usable, uid_tag(obj.metadata))
    return Decoded(name, value, problems.found)
