"""
How many Service ports have endpoints, but none on this node where their policy asks for one.

A change costs the Services that it touches; nothing here walks all Services.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from typing import NamedTuple

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import ObjectName, Service
from nfproxy.plan.planner import Planner
from nfproxy.plan.portslices import slices_by_port
from nfproxy.plan.service import select_for


class Amounts(NamedTuple):
    """
    Numbers of one Service, or of all, in one family.

    `internal` and `external` count the service ports with that policy Local. They drop new
    connections (for `external`, those of clients outside the node).
    """

    internal: int = 0
    external: int = 0


#: The fields of Amounts, of one family after the other; then `external` of both families at once.
_Numbers = tuple[int, ...]

_FIELDS = len(Amounts._fields)

#: Where a family's numbers begin.
_FIRST = {family: _FIELDS * index for index, family in enumerate(FAMILIES)}


@functools.lru_cache(4096)
def _shared(numbers: _Numbers) -> _Numbers:
    """Return the one value that stands for all equal ones: many Services ask for as much."""
    return numbers


class Tally:
    """Adds up the ports of all Services."""

    def __init__(self) -> None:
        """Start with no Services."""
        self._services: dict[ObjectName, _Numbers] = {}
        self._totals = [0] * (_FIELDS * len(FAMILIES) + 1)

    def total(self, family: Family) -> Amounts:
        """Return the sum over all Services."""
        first = _FIRST[family]
        return Amounts(*self._totals[first : first + _FIELDS])

    def drops_outside(self, families: Collection[Family]) -> int:
        """Return how many service ports drop outside clients, in one of the families or more."""
        counted = sum(self.total(family).external for family in families)
        return counted - self._totals[-1] if len(families) == len(FAMILIES) else counted

    def update(self, planner: Planner, services: Iterable[ObjectName]) -> None:
        """Count again the Services that were planned."""
        changes: dict[_Numbers, int] = {}  # how often each is to be added
        for name in services:
            old = self._services.pop(name, None)
            service = planner.services.get(name)
            if service is not None and (service.internal_local or service.external_local):
                new = self._services[name] = _shared(_numbers(planner, service))
                changes[new] = changes.get(new, 0) + 1
            if old is not None:
                changes[old] = changes.get(old, 0) - 1
        for numbers, times in changes.items():
            for index, number in enumerate(numbers):
                self._totals[index] += number * times


def _numbers(planner: Planner, service: Service) -> _Numbers:
    found = [_without_local(planner, service, family) for family in FAMILIES]
    policies = (service.internal_local, service.external_local)
    numbers = [len(ports) * is_local for ports in found for is_local in policies]
    return *numbers, len(frozenset.intersection(*found)) * service.external_local


def _without_local(planner: Planner, service: Service, family: Family) -> frozenset[int]:
    """Return the indexes of ports that have endpoints for a policy Local, but none on this node."""
    if family not in service.families:
        return frozenset()
    listed = planner.planned_slices_of(service.name)
    slices_of = slices_by_port(listed, len(service.ports))
    found = set()
    for index, port in enumerate(service.ports):
        slices = slices_of(family, port.name, port.protocol)
        _, chosen = select_for(service, port, family, slices, planner.config)
        if chosen.exists and not chosen.local:
            found.add(index)
    return frozenset(found)
