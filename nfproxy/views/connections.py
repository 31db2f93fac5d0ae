"""
Connections by service port, from the counters of frontends' elements.

The kernel counts the connections to a frontend in its element of map ``frontends`` or
``node-ports``: the first packet of each, as nat chains see no other. A replaced element begins at
0, so totals are sums of differences. The kernel reports a deleted element's last count with its
deletion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from nfproxy.model.addresses import Family
from nfproxy.model.service import Claim, ObjectName, Protocol
from nfproxy.plan.frontends import FrontendKey


class Map(NamedTuple):
    """A map of one family's table whose elements count."""

    family: Family
    name: str


class Counted(NamedTuple):
    """An element of a map, and the connections that it has counted."""

    key: bytes
    packets: int


class Reading(NamedTuple):
    """
    The elements of a map that have counted connections, at one generation of the ruleset.

    `generation` are the low 16 bits of the kernel's number; None where there is no map.
    """

    generation: int | None
    elements: Iterable[Counted]


class Deletion(NamedTuple):
    """An element as it was when it was deleted; `generation` is the first without it."""

    generation: int
    map: Map
    element: Counted


class PortName(NamedTuple):
    """A service port: its Service, its name ("" where the only one has none), its protocol."""

    service: ObjectName
    port_name: str
    protocol: Protocol


class ConnectionTotals:
    """
    How many connections each service port has received since the first reading.

    A deletion whose report is lost leaves a total a little low, never too high. The totals of a
    deleted Service are deleted. One thread at a time may call it.
    """

    def __init__(self) -> None:
        """Start without a reading."""
        self.totals: dict[PortName, int] = {}
        self._counts: dict[Map, dict[bytes, int]] = {}
        self._generations: dict[Map, int] = {}
        self._waiting: list[Deletion] = []

    def read(
        self,
        readings: Mapping[Map, Reading],
        deletions: Iterable[Deletion],
        owner: Callable[[FrontendKey], Claim | None],
        exists: Callable[[ObjectName], bool],
    ) -> None:
        """
        Add what the elements have counted since the last call.

        `deletions` are those since the last call, received after all of `readings`. `owner`
        returns the claim that has a frontend, `exists` whether there is a Service. The first
        reading of a map adds nothing, as its counts are from before the start.
        """
        by_map: dict[Map, list[Deletion]] = {}
        for deletion in (*self._waiting, *deletions):
            by_map.setdefault(deletion.map, []).append(deletion)
        self._waiting = []
        for where, reading in readings.items():
            for element, count in self._changes(where, reading, by_map.get(where, ())):
                self._add(where, element, count, owner)
        for gone in [name for name in self.totals if not exists(name.service)]:
            del self.totals[gone]

    def _changes(
        self, where: Map, reading: Reading, deletions: Iterable[Deletion]
    ) -> Iterable[tuple[bytes, int]]:
        """
        Return how many connections each element has received, and keep the reading.

        A deletion counts before a reading of its generation or a later one. If the reading is
        earlier, the deletion waits for the next one; otherwise its connections would count twice.
        """
        found: list[tuple[bytes, int]] = []
        counts, known = self._counts.get(where), self._generations.get(where)
        for deletion in deletions:
            number, (key, packets) = deletion.generation, deletion.element
            if reading.generation is not None and _later(number, reading.generation):
                self._waiting.append(deletion)
            elif counts is not None and (known is None or _later(number, known)):
                found.append((key, _increase(counts.pop(key, 0), packets)))
        now = dict(reading.elements)
        if counts is not None:
            for key, packets in now.items():
                before = counts.get(key, 0)
                if packets != before:
                    found.append((key, _increase(before, packets)))
        self._counts[where] = now
        if reading.generation is not None:
            self._generations[where] = reading.generation
        return found

    def _add(
        self, where: Map, element: bytes, count: int, owner: Callable[[FrontendKey], Claim | None]
    ) -> None:
        key = FrontendKey.of_element(where.family, where.name, element)
        claim = owner(key) if key is not None else None
        if key is not None and claim is not None:
            name = PortName(claim.service, claim.port_name, key.protocol)
            self.totals[name] = self.totals.get(name, 0) + count


def _increase(before: int, now: int) -> int:
    """Return what a counter has counted; it may have started again at 0."""
    return now - before if now >= before else now


def _later(one: int, other: int) -> bool:
    """Return whether a generation comes after another, by less than half of all numbers."""
    return 0 < (one - other) & 0xFFFF < 0x8000
