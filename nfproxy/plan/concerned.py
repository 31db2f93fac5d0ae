"""
Which Services another node configuration concerns.

A Node object changes with a label or an address, and interfaces come and go. To plan 45,000
Services takes seconds, so only those are planned again whose plan may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Service
from nfproxy.plan.claims import concerned_by

#: Returns whether a Service, with its slices, may have another plan.
Concerned = Callable[[Service, Sequence[EndpointSlice]], bool]

# What the rules and the node's own elements depend on, and no plan of a Service.
_OF_THE_NODE = frozenset(
    {
        *("local_pods", "local_pods_mismatch", "masquerade_all", "masquerade_mark"),
        "node_port_prefixes",
    }
)


def concerned(before: NodeConfig, after: NodeConfig) -> Concerned:
    """Return whether a Service is concerned by a change of the configuration, as a function."""
    names = NodeConfig.__struct_fields__
    changed = {name for name in names if getattr(before, name) != getattr(after, name)}
    rest = changed - _OF_THE_NODE
    if rest - {"kept", "zone", "node_ips"}:
        return lambda _service, _slices: True
    conditions: list[Concerned] = []
    if "kept" in rest:
        may_be_refused = concerned_by(before.kept, after.kept)
        conditions.append(lambda service, _slices: may_be_refused(service))
    if "zone" in rest:
        conditions.append(lambda _service, slices: any(map(_has_zone_hints, slices)))
    if "node_ips" in rest:
        conditions.append(lambda service, _slices: bool(service.source_ranges))
    return lambda service, slices: any(asks(service, slices) for asks in conditions)


def _has_zone_hints(piece: EndpointSlice) -> bool:
    return any(endpoint.zone_hints for endpoint in piece.kinds)
