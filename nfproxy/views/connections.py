"""
Connections by service port, from the counters of frontends' elements.

The kernel counts the connections to a frontend in its element of map ``frontends`` or
``node-ports``: the first packet of each, as nat chains see no other. An element that is replaced
begins at 0 again, so sums of differences are kept; what it had counted until then, the kernel
announces with its deletion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from nfproxy.model.addresses import Family
from nfproxy.model.service import Claim, ObjectName, Protocol
from nfproxy.nft import schema
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
    The elements of a map that have counted any, at one generation of the ruleset.

    Generations are numbers of 16 bits, as the kernel tells them; None where there is no map.
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
    How many connections each service port was asked for, since the first reading.

    Deletions that nobody told leave totals a little low, never too high. A Service that goes takes
    its totals along.
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
        Take over what all elements count now.

        `deletions` are those since the last call, told after all of `readings` had been made.
        `owner` tells who has a frontend, `exists` whether there is a Service. The first reading of
        a map adds nothing: what it finds was counted before anybody asked.
        """
        told: dict[Map, list[Deletion]] = {}
        for deletion in (*self._waiting, *deletions):
            told.setdefault(deletion.map, []).append(deletion)
        self._waiting = []
        for where, reading in readings.items():
            for element, count in self._changes(where, reading, told.get(where, ())):
                self._add(where, element, count, owner)
        for gone in [name for name in self.totals if not exists(name.service)]:
            del self.totals[gone]

    def _changes(
        self, where: Map, reading: Reading, deletions: Iterable[Deletion]
    ) -> Iterable[tuple[bytes, int]]:
        """
        Return how many connections came in by each element, and note the reading.

        A deletion counts before a reading that knows of it, and after one that does not: else the
        same connections would be counted twice.
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
        key = frontend_key(where, element)
        claim = owner(key) if key is not None else None
        if key is not None and claim is not None:
            name = PortName(claim.service, claim.port_name, key.protocol)
            self.totals[name] = self.totals.get(name, 0) + count


def _increase(before: int, now: int) -> int:
    """Return what a counter has counted, which may have begun anew."""
    return now - before if now >= before else now


def _later(one: int, other: int) -> bool:
    """Tell whether a generation comes after another, less than half of all numbers away."""
    return 0 < (one - other) & 0xFFFF < 0x8000


def frontend_key(where: Map, key: bytes) -> FrontendKey | None:
    """Return the frontend an element is of; None where its key is none that we would make."""
    size = where.family.size if where.name == schema.FRONTENDS else 0
    if len(key) != size + 8:
        return None
    try:
        protocol = Protocol(key[size])
    except ValueError:
        return None
    return FrontendKey(where.family, key[:size], protocol, schema.port_of(key, size + 4))
