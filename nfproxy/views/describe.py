"""The desired state as data: ``nfproxy render -o json``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import ObjectName
from nfproxy.nft.chains import NO_LOCAL, REJECT, Policy, shape_of
from nfproxy.nft.schema import CLUSTER_BASE
from nfproxy.plan.endpoints import Candidates, Destination, left_out, state_of
from nfproxy.plan.frontends import Frontend, FrontendKey, FrontendKind
from nfproxy.plan.planner import Planner
from nfproxy.plan.service import select_for
from nfproxy.text import plural
from nfproxy.views.elementwords import format_destination

Data = dict[str, Any]


def describe(planner: Planner, only: Collection[ObjectName] | None = None) -> Data:
    """
    Return each Service's frontends with their slots, and why endpoints were left out.

    Dictionaries, lists, strings and numbers, in a fixed order: cluster IPs before other frontends.
    With `only`, the answer is about these Services alone. A family that the node does not have is
    left out of what the node accepts.
    """
    config, desired = planner.config, planner.desired
    by_service: dict[ObjectName, list[Frontend]] = {}
    for _, frontend in sorted(desired.frontends.items(), key=_rank):
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
                if not config.node_ips or family in config.node_ips
            },
        },
        "services": [
            {
                "namespace": name.namespace,
                "name": name.name,
                "frontends": [_frontend(f) for f in by_service.get(name, [])],
                "ports": _ports(planner, name),
            }
            for name in sorted(planner.services if only is None else only)
        ],
        "conflicts": [
            {
                "frontend": str(c.key),
                "winner": str(c.winner),
                "loser": str(c.loser),
                "field": c.field,
            }
            for c in sorted(desired.conflicts())
            if only is None or not {c.winner, c.loser}.isdisjoint(only)
        ],
    }


def _rank(item: tuple[FrontendKey, Frontend]) -> tuple[bool, bool, FrontendKey]:
    """Return what frontends are sorted by: cluster IP, other addresses, node ports."""
    key, frontend = item
    return frontend.kind is not FrontendKind.CLUSTER_IP, not key.address, key


def answer(frontend: Frontend) -> dict[str, str]:
    """Return what a frontend does with connections of pods and the node, and of other clients."""
    verdict = frontend.answer
    if verdict in (REJECT, NO_LOCAL):
        text = "refused" if verdict == REJECT else "dropped"
        return {"pods": text, "outside": text}
    first, second = (plural(len(one), "endpoint") if one else "" for one in frontend.slot_ranges)
    shape = shape_of(verdict)
    if shape is None or shape.policy is not Policy.LOCAL:
        return {"pods": first, "outside": first}
    outside = first or ("left to the node's routes" if shape.routed else "dropped")
    return {"pods": second or "dropped", "outside": outside}


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
        "answer": answer(frontend),
        "verdict": str(frontend.answer),
        "slots": slots,
    }


def _ports(planner: Planner, name: ObjectName) -> list[Data]:
    service = planner.services[name]
    slices = planner.planned_slices_of(name)
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
                lists["cluster"] = _list(family, found, chosen.cluster, out)
                lists["cluster"]["topology"] = chosen.topology.value
            if service.internal_local or service.external_local:
                lists["local"] = _list(
                    family, found, chosen.local, left_out(found, chosen, node, local=True)
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


def _list(
    family: Family,
    found: Candidates,
    used: Collection[Destination],
    out: dict[Destination, str],
) -> Data:
    return {
        "used": [
            {"endpoint": format_destination(family, d), "state": state_of(found[d])} for d in used
        ],
        "leftOut": [
            {
                "endpoint": format_destination(family, d),
                "state": state_of(found[d]),
                "reason": out[d],
            }
            for d in sorted(out)
        ],
    }
