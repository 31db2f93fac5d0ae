"""
A packet inside the table while the table changes.

A commit is atomic for the table, but a packet may have read its verdict in an older generation
and draw its slot in a newer one. The model looks at the tables of a `FakeKernel` after each
transaction, with the eyes of every packet that can still be on its way.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from support.kernel.fake import FakeKernel

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.nft.chains import Guard, Policy, Shape, parse_guard, parse_shape
from nfproxy.plan.desired import Desired
from nfproxy.plan.frontends import Frontend, FrontendKey, ListKey, SlotRanges
from nfproxy.reconcile.tracker import LINGER_S

#: The keys of source ranges, by family and guard.
Ranges = dict[tuple[Family, bytes], set[bytes]]
Slot = tuple[FrontendKey, int]

_CLIENTS = re.compile(r"update @(clients-[a-z0-9-]+)")


class Wanted(NamedTuple):
    """A desired state: its frontends, the source ranges of their guards, and shared lists."""

    frontends: Mapping[FrontendKey, Frontend]
    ranges: Ranges
    lists: Mapping[ListKey, SlotRanges]


class Recording(NamedTuple):
    """The map in which a record chain remembers clients."""

    family: Family
    clients: str


@dataclass
class Generation:
    """The tables between two transactions; `since` is the first wanted state that may show."""

    since: int
    verdicts: dict[FrontendKey, schema.Verdict] = field(default_factory=dict)
    slots: dict[Slot, bytes] = field(default_factory=dict)
    behind: dict[tuple[str, FrontendKey], schema.Verdict] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)
    lists: dict[ListKey, dict[int, bytes]] = field(default_factory=dict)
    chains: dict[Family, set[str]] = field(default_factory=dict)
    recordings: list[Recording] = field(default_factory=list)
    until: float = math.inf


class PacketModel:
    """
    Checks after each transaction that no packet is lost or led astray.

    `want` gets each new desired state before it is synchronised, `synced` when that
    has succeeded. Raises AssertionError.
    """

    def __init__(self, kernel: FakeKernel, clock: Callable[[], float]) -> None:
        """Look at a kernel, by a clock."""
        self._kernel = kernel
        self._clock = clock
        self._wanted = [Wanted({}, {}, {})]
        self._applied = 0
        self._generations = [self._read()]

    def want(self, desired: Desired) -> None:
        """Note what the reconciler is about to bring into force."""
        ranges: Ranges = {}
        for element in desired.shared_elements:
            if element.set == schema.SOURCE_RANGES:
                guard = element.family, guard_of(element.family, element.key)
                ranges.setdefault(guard, set()).add(element.key)
        self._wanted.append(Wanted(dict(desired.frontends), ranges, dict(desired.lists)))

    def synced(self) -> None:
        """Note that the last desired state is in force."""
        self._applied = len(self._wanted) - 1
        self._generations[-1].since = self._applied

    def committed(self) -> None:
        """Check everything, as a transaction has just taken effect."""
        now = self._clock()
        self._generations[-1].until = now
        self._generations.append(self._read())
        self._generations = self._alive()
        for generation in self._generations:
            for key, verdict in generation.verdicts.items():
                self._answers(key, verdict, self._wanted[generation.since :])
        self._no_client_forgotten()

    def recordings(self) -> list[Recording]:
        """Return what packets that are on their way now may record."""
        return [recording for g in self._alive() for recording in g.recordings]

    def _alive(self) -> list[Generation]:
        """Return the generations whose packets may still be inside the table."""
        now = self._clock()
        return [g for g in self._generations if now < g.until + LINGER_S]

    def _no_client_forgotten(self) -> None:
        """Each frontend that was in force and is still wanted has a verdict."""
        for key in self._wanted[self._applied].frontends:
            if all(key in wanted.frontends for wanted in self._wanted[self._applied :]):
                assert key in self._generations[-1].verdicts, f"{key} is unknown for a moment"

    def _answers(self, key: FrontendKey, verdict: schema.Verdict, window: list[Wanted]) -> None:
        """What the verdict of some generation leads to now was right at some time since."""
        meant = [wanted.frontends[key] for wanted in window if key in wanted.frontends]
        assert verdict in {f.verdict for f in meant}, f"{key}: {verdict} was never right"
        for name in schema.BEHIND:
            if not verdict.is_jump:
                break
            chain = verdict.chain
            assert chain in self._generations[-1].chains[key.family], f"{key}: {chain} is gone"
            if guard := parse_guard(chain):
                self._passes(key, guard, window)
            behind = self._generations[-1].behind.get((name, key))
            if behind is not None:
                right = {f.answer for f in meant} | {e.value for f in meant for e in f.own_elements}
                assert behind in right, f"{key}: {behind} is behind {chain}"
                verdict = behind
        if verdict.is_jump:
            assert len(meant) < len(window), f"{key}: nothing is behind {verdict}"
            return
        self._balances(key, verdict.chain, window)

    def _balances(self, key: FrontendKey, chain: str, window: list[Wanted]) -> None:
        """Every slot that a balancing chain can draw has an endpoint that was right."""
        meant = [wanted.frontends[key] for wanted in window if key in wanted.frontends]
        table = self._generations[-1]
        assert not chain or chain in table.chains[key.family], f"{key}: chain {chain} is gone"
        shape = parse_shape(chain)
        if shape is None:
            return
        if shape.list:
            self._draws(key, shape, window)
            return
        for slot_range, slot in drawn(shape):
            right = {destination for f in meant for destination in f.slot_ranges[slot_range]}
            found = table.slots.get((key, slot))
            assert found is not None, f"{key}: {chain} draws slot {slot}, which is empty"
            assert found in right, f"{key}: {chain} draws slot {slot}, which holds a wrong endpoint"

    def _draws(self, key: FrontendKey, shape: Shape, window: list[Wanted]) -> None:
        """A list's first slot is filled, and those that a chain may draw hold right endpoints."""
        table = self._generations[-1]
        name = ListKey(key.family, shape.protocol, schema.number64_bytes(shape.list))
        for draw in shape.draws:
            assert draw.name in table.chains[key.family], f"{key}: chain {draw.name} is gone"
            base = 0 if draw.local else schema.CLUSTER_BASE
            slots = table.lists.get(name, {})
            found = {slots[slot] for slot in range(base, base + draw.size) if slot in slots}
            right = set().union(*(w.lists[name][not draw.local] for w in window if name in w.lists))
            assert base in slots, f"{key}: {draw.name} finds no endpoint"
            assert found <= right, f"{key}: {draw.name} draws a wrong endpoint"

    def _passes(self, key: FrontendKey, guard: Guard, window: list[Wanted]) -> None:
        """A client that some state since then allows passes, and only ranges of the guard count."""
        where = key.family, guard.packed
        ranges = self._generations[-1].ranges.get(where, set())
        found = {r for r in ranges if schema.number_of(r, len(r) - 4) in guard.lengths}
        wanted = [w.ranges.get(where, set()) for w in window]
        assert any(w and w <= found for w in wanted) or not all(wanted), f"{key}: ranges are gone"
        known = set().union(*(w.ranges.get(where, set()) for w in self._wanted))
        assert found <= known, f"{key}: strange ranges"

    def _read(self) -> Generation:
        new = Generation(self._applied)
        for family in FAMILIES:
            self._read_frontends(family, new)
            self._read_slots(family, new)
            self._read_lists(family, new)
            new.chains[family] = {chain.name for chain in self._kernel.chains(family)}
            new.recordings += self._read_recordings(family)
        return new

    def _elements(self, family: Family, name: str) -> dict[bytes, schema.Value]:
        """Return a set's elements, past the faults of a FlakyKernel."""
        table = self._kernel.tables.get(family)
        return table.elements.get(name, {}) if table else {}

    def _read_frontends(self, family: Family, new: Generation) -> None:
        for name in (schema.FRONTENDS, schema.NODE_PORTS):
            for key, verdict in self._elements(family, name).items():
                assert isinstance(verdict, schema.Verdict)
                new.verdicts[frontend_key(family, key)] = verdict
        for name in schema.BEHIND:
            for key, verdict in self._elements(family, name).items():
                assert isinstance(verdict, schema.Verdict)
                new.behind[name, frontend_key(family, key)] = verdict
        for key in self._elements(family, schema.SOURCE_RANGES):
            new.ranges.setdefault((family, guard_of(family, key)), set()).add(key)

    def _read_slots(self, family: Family, new: Generation) -> None:
        for maps, size in ((schema.ENDPOINTS, family.size), (schema.NODE_PORT_ENDPOINTS, 0)):
            for protocol, name in maps.items():
                for key, value in self._elements(family, name).items():
                    port, slot = schema.port_of(key, size), schema.number_of(key, size + 4)
                    where = FrontendKey(family, key[:size], protocol, port)
                    assert isinstance(value, bytes)
                    new.slots[where, slot] = value

    def _read_lists(self, family: Family, new: Generation) -> None:
        for protocol, names in schema.LIST_ENDPOINTS.items():
            elements = (one for name in names for one in self._elements(family, name).items())
            for key, value in elements:
                assert isinstance(value, bytes)
                slots = new.lists.setdefault(ListKey(family, protocol, key[:8]), {})
                slots[schema.number_of(key, 8)] = value

    def _read_recordings(self, family: Family) -> Iterator[Recording]:
        for name in (*schema.RECORD_FRONTENDS.values(), *schema.RECORD_NODE_PORTS.values()):
            for verdict in self._elements(family, name).values():
                assert isinstance(verdict, schema.Verdict)
                for rule in self._kernel.tables[family].rules[verdict.chain]:
                    yield from (Recording(family, clients) for clients in _CLIENTS.findall(rule))


def drawn(shape: Shape) -> Iterator[tuple[int, int]]:
    """Yield (slot range, slot) of all slots that a shape's chain can draw."""
    if shape.policy is Policy.LOCAL:
        yield from ((0, slot) for slot in range(shape.local))
        yield from ((1, schema.CLUSTER_BASE + i) for i in range(shape.cluster))
    else:
        yield from ((0, slot) for slot in range(shape.cluster))


def guard_of(family: Family, key: bytes) -> bytes:
    """Return the packed number of the guard that a source range belongs to."""
    return key[family.size : family.size + 8]


def frontend_key(family: Family, key: bytes) -> FrontendKey:
    """Return the frontend that a key ending in (… protocol, port) is about."""
    address, protocol = key[:-8], Protocol(key[-8])
    return FrontendKey(family, address, protocol, schema.port_of(key, len(key) - 4))
