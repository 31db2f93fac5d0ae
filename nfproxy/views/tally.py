"""
Numbers of frontends, endpoints and elements, for metrics.

A change costs the Services that it touches; nothing here walks all Services.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import ObjectName
from nfproxy.plan.frontends import ServicePlan
from nfproxy.plan.planner import Planner
from nfproxy.plan.service import select_for


class Amounts(NamedTuple):
    """
    Numbers of one Service, or of all, in one family.

    `endpoints` counts slots, `elements` those of all sets and maps. `internal` and `external` count
    service ports with policy Local that have endpoints, but none on this node. They drop new
    connections (for `external`, those of clients outside the node).
    """

    frontends: int = 0
    endpoints: int = 0
    elements: int = 0
    internal: int = 0
    external: int = 0


_NOTHING = Amounts()


class Tally:
    """Adds up what Services ask for. What two Services ask for counts twice."""

    def __init__(self) -> None:
        """Start with no Services."""
        self._services: dict[ObjectName, tuple[Amounts, ...]] = {}
        self._totals = {family: Counter[str]() for family in FAMILIES}

    def total(self, family: Family) -> Amounts:
        """Return the sum over all Services."""
        counts = self._totals[family]
        return Amounts(*(counts[field] for field in Amounts._fields))

    def update(self, planner: Planner, services: Iterable[ObjectName]) -> None:
        """Count again the Services that were planned."""
        for name in services:
            old = self._services.pop(name, None)
            plan = planner.desired.plan_of(name)
            new = None
            if plan is not None:
                new = tuple(_amounts(planner, plan, family) for family in FAMILIES)
                self._services[name] = new
            for index, family in enumerate(FAMILIES):
                counts = self._totals[family]
                if old:
                    counts.subtract(old[index]._asdict())
                if new:
                    counts.update(new[index]._asdict())


def _amounts(planner: Planner, plan: ServicePlan, family: Family) -> Amounts:
    frontends = [f for f in plan.frontends if f.key.family is family]
    shared = sum(1 for element in plan.shared_elements if element.family is family)
    if not frontends and not shared:
        return _NOTHING
    held = [frontend.own_slots for frontend in frontends]
    held += [listed for name, listed in plan.lists.items() if name.family is family]
    slots = sum(len(slot_range) for slot_ranges in held for slot_range in slot_ranges)
    own_elements = sum(len(frontend.own_elements) for frontend in frontends)
    elements = len(frontends) + slots + own_elements + shared
    return Amounts(len(frontends), slots, elements, *_without_local(planner, plan, family))


def _without_local(planner: Planner, plan: ServicePlan, family: Family) -> tuple[int, int]:
    """Return how many ports with policy Local have endpoints, but none on this node."""
    service = planner.services[plan.service]
    internal = external = 0
    if family not in service.cluster_ips or not (service.internal_local or service.external_local):
        return 0, 0
    slices = planner.slices_of(plan.service)
    for port in service.ports:
        _, chosen = select_for(service, port, family, slices, planner.config)
        if chosen.exists and not chosen.local:
            internal += service.internal_local
            external += service.external_local
    return internal, external
