"""
How much each family's table should hold, counted as it changes.

A frontend that several Services ask for counts once: for the Service that has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.plan.frontends import Frontend, SlotRanges


class FamilySize(NamedTuple):
    """What one family's table should hold: `endpoints` counts slots, `elements` everything."""

    frontends: int = 0
    endpoints: int = 0
    elements: int = 0


class Sizes(Mapping[Family, FamilySize]):
    """The sizes by family. A change costs what it changes."""

    def __init__(self) -> None:
        """Start with empty tables."""
        self._counts = {family: [0] * len(FamilySize._fields) for family in FAMILIES}

    def __getitem__(self, family: Family) -> FamilySize:
        """Return what the family's table should hold."""
        return FamilySize(*self._counts[family])

    def __iter__(self) -> Iterator[Family]:
        """Yield all families."""
        return iter(self._counts)

    def __len__(self) -> int:
        """Return how many families there are."""
        return len(self._counts)

    def frontend(self, one: Frontend, times: int) -> None:
        """Count a frontend that came (1) or went (-1), with its slots and elements."""
        counts = self._counts[one.key.family]
        first, second = one.own_slots
        slots = len(first) + len(second)
        counts[0] += times
        counts[1] += times * slots
        counts[2] += times * (1 + slots + len(one.own_elements))

    def slots(self, family: Family, ranges: SlotRanges, times: int) -> None:
        """Count the slots of a list that came or went."""
        counts, number = self._counts[family], len(ranges[0]) + len(ranges[1])
        counts[1] += times * number
        counts[2] += times * number

    def elements(self, family: Family, change: int) -> None:
        """Count other elements that came or went."""
        self._counts[family][2] += change
