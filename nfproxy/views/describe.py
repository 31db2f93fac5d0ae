"""The desired state as data: ``nfproxy render -o json``."""

from __future__ import annotations

from typing import Any

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import ObjectName
from nfproxy.nft.schema import CLUSTER_BASE
from nfproxy.plan.endpoints import left_out
from nfproxy.plan.frontends import Frontend
from nfproxy.plan.planner import Planner
from nfproxy.plan.service import select_for
from nfproxy.views.compare import format_destination

Data = dict[str, Any]


def describe(planner: Planner) -> Data:
    """
    Return each Service's frontends with their slots, and why endpoints were left out.

    Dictionaries, lists, strings and numbers, in a fixed order.
    """
    config, desired = planner.config, planner.desired
    by_service: dict[ObjectName, list[Frontend]] = {}
    for _, frontend in sorted(desired.frontends.items()):
        by_service.setdefault(frontend.claim.service, []).append(frontend)
    return {
        "node": {
            "name": config.node_name,
            "zone": config.zone,
            "masqueradeAll": config.masquerade_all,
            "masqueradeMark": config.masquerade_mark,
            "nodePortAddresses": {
                family.label: _prefixes(config.node_port_prefixes.get(family))
                for family in FAMILIES
            },
        },
        "services": [
            {
                "namespace": name.namespace,
                "name": name.name,
                "frontends": [_frontend(f) for f in by_service.get(name, [])],
                "ports": _ports(planner, name),
            }
            for name in sorted(planner.services)
        ],
        "conflicts": [
            {
                "frontend": str(c.key),
                "winner": str(c.winner),
                "loser": str(c.loser),
                "field": c.field,
            }
            for c in sorted(desired.conflicts())
        ],
    }


def _prefixes(prefixes: Any) -> list[str] | str:
    return "all local addresses" if prefixes is None else [str(p) for p in prefixes]


def _frontend(frontend: Frontend) -> Data:
    key = frontend.key
    slots = [
        {"slot": base + index, "endpoint": format_destination(key.family, destination)}
        for base, slot_range in zip((0, CLUSTER_BASE), frontend.slot_ranges, strict=True)
        for index, destination in enumerate(slot_range)
    ]
    return {
        "family": key.family.label,
        "kind": frontend.kind.value,
        "frontend": str(key),
        "port": frontend.claim.port_name,
        "verdict": str(frontend.answer),
        "slots": slots,
    }


def _ports(planner: Planner, name: ObjectName) -> list[Data]:
    service = planner.services[name]
    slices = planner.slices_of(name)
    result = []
    for family in FAMILIES:
        if family not in service.families:
            continue
        for port in service.ports:
            found, chosen = select_for(service, port, family, slices, planner.config)
            node = planner.config.node_name
            lists: Data = {}
            if not service.internal_local or chosen.cluster:
                out = left_out(found, chosen, node, local=False)
                lists["cluster"] = _list(family, chosen.cluster, out)
                lists["cluster"]["topology"] = chosen.topology.value
            if service.internal_local or service.external_local:
                lists["local"] = _list(
                    family, chosen.local, left_out(found, chosen, node, local=True)
                )
            result.append(
                {
                    "family": family.label,
                    "name": port.name,
                    "port": port.port,
                    "protocol": port.protocol.name,
                    "endpoints": lists,
                }
            )
    return result


def _list(family: Family, used: tuple[bytes, ...], out: dict[bytes, str]) -> Data:
    return {
        "used": [format_destination(family, d) for d in used],
        "leftOut": {format_destination(family, d): out[d] for d in sorted(out)},
    }
