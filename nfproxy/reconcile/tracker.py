"""
What the reconciler believes the kernel to hold, and what it has to remove from there later.

Everything here computes. :mod:`nfproxy.reconcile.reconciler` reads and writes the kernel, and
reports here what it has read and committed. Between two readings of the tables, what was
committed is what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Generic, TypeVar

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.nft.chains import Chain
from nfproxy.plan.desired import Desired, Touched
from nfproxy.plan.frontends import AffinityListKey, FrontendKey, SharedElement
from nfproxy.reconcile.observed import Observed
from nfproxy.reconcile.portions import groups_of, pieces, portions
from nfproxy.reconcile.transition import ABSENT, FrontendState, Operation, clean, transition

#: How long the kernel keeps what an old verdict may still ask for. A packet passes the chains in
#: microseconds; this allows for one whose processor did something else in between.
LINGER_S = 0.1

#: Sets of shared elements that packets look up one after the other, inside a guard: elements that
#: are no longer needed linger there, so that a packet meets either the old range or the new one.
LINGERING_SETS = frozenset({schema.SOURCE_RANGES})

#: How long an unused chain stays. Rollouts go through the same numbers of endpoints again and
#: again, and making a chain takes a child process.
IDLE_S = 300.0

#: More operations than this are staged in several transactions; the last one switches over.
STAGE_OPERATIONS = 20_000

ChainKey = tuple[Family, str]
K = TypeVar("K")

_NO_ADDRESSES: frozenset[bytes] = frozenset()


class Deadlines(Generic[K]):
    """When keys are due. Each waits equally long, so those that began first are due first."""

    def __init__(self, delay_s: float) -> None:
        """Start without keys."""
        self._delay_s = delay_s
        self._due_at: dict[K, float] = {}

    def begin(self, key: K, now: float) -> None:
        """Let a key wait from now on, also one that waits already."""
        self._due_at.pop(key, None)  # so that the keys stay in order of time
        self._due_at[key] = now + self._delay_s

    def end(self, key: K) -> None:
        """Let a key wait no longer."""
        self._due_at.pop(key, None)

    def clear(self) -> None:
        """Let no key wait any longer."""
        self._due_at.clear()

    @property
    def next_at(self) -> float | None:
        """The time at which the first key is due; None without keys."""
        return next(iter(self._due_at.values()), None)

    def due(self, now: float) -> list[K]:
        """Return the keys that are due; they wait until `end`."""
        return [key for key, _ in takewhile(lambda item: item[1] <= now, self._due_at.items())]


class Batch(msgspec.Struct, frozen=True):
    """
    The element operations of one synchronisation, and the frontends' states after them.

    `prepare` must take effect before `main`; `stage` may, as no packet can reach it yet.
    The flag beside a state says that it holds leftovers. `shrunk_lists` are the affinity lists
    that endpoints leave, and `leaving` shared elements that go later. `ends` are the indexes in
    `main` where a frontend ends. `changed` are the frontends that answer differently afterwards.
    """

    prepare: list[Operation] = msgspec.field(default_factory=list)
    stage: list[Operation] = msgspec.field(default_factory=list)
    main: list[Operation] = msgspec.field(default_factory=list)
    frontends: list[tuple[FrontendKey, FrontendState, bool]] = msgspec.field(default_factory=list)
    shared: list[Operation] = msgspec.field(default_factory=list)
    leaving: list[SharedElement] = msgspec.field(default_factory=list)
    shrunk_lists: list[AffinityListKey] = msgspec.field(default_factory=list)
    ends: list[int] = msgspec.field(default_factory=list)
    changed: set[FrontendKey] = msgspec.field(default_factory=set)

    @property
    def operations(self) -> int:
        """The number of operations."""
        return len(self.prepare) + len(self.stage) + len(self.main)

    def transactions(self, limit: int | None = None) -> Iterator[list[Operation]]:
        """
        Yield the operations in the order in which to commit them; nearly always at once.

        No transaction is larger than `limit` bytes, where there is a limit.
        """
        if limit is not None:
            yield from portions(pieces(self.prepare), limit)
            groups = [*pieces(self.stage), *groups_of(self.main, self.ends)]
            yield from portions(groups, limit)
            return
        if self.prepare:
            yield self.prepare
        if len(self.stage) + len(self.main) <= STAGE_OPERATIONS:
            yield self.stage + self.main
            return
        for at in range(0, len(self.stage), STAGE_OPERATIONS):
            yield self.stage[at : at + STAGE_OPERATIONS]
        yield self.main


class ChainUses:
    """
    Which chains the tables have, which of them frontends use, and which are idle.

    `loaded` has what a chain's rules were made from, None for a chain with unknown rules.
    """

    def __init__(self) -> None:
        """Start without chains."""
        self.loaded: dict[ChainKey, Chain | None] = {}
        self._of: dict[FrontendKey, tuple[Chain, ...]] = {}
        self._uses: Counter[ChainKey] = Counter()
        self._idle: Deadlines[ChainKey] = Deadlines(IDLE_S)

    def reset(self, loaded: Mapping[ChainKey, Chain | None], now: float) -> None:
        """Begin again with these chains, all of them idle."""
        self.loaded = dict(loaded)
        self._of = {}
        self._uses = Counter()
        self._idle.clear()
        for chain in loaded:
            self._idle.begin(chain, now)

    def use(self, key: FrontendKey, chains: tuple[Chain, ...], now: float) -> None:
        """Record the chains that a frontend's elements point to."""
        old = self._of.get(key, ())
        if chains == old:
            return
        if chains:
            self._of[key] = chains
        else:
            del self._of[key]
        # First the new ones, so that a chain that both use does not become idle.
        for chain in chains:
            self._uses[key.family, chain.name] += 1
            self._idle.end((key.family, chain.name))
        for chain in old:
            where = (key.family, chain.name)
            self._uses[where] -= 1
            if not self._uses[where]:
                del self._uses[where]
                self._idle.begin(where, now)

    @property
    def next_at(self) -> float | None:
        """When the first idle chain is due to go; None without one."""
        return self._idle.next_at

    def due(self, now: float) -> list[ChainKey]:
        """Return the chains that have been idle long enough to go."""
        return self._idle.due(now)

    def removed(self, chains: Iterable[ChainKey]) -> None:
        """Forget chains that are gone."""
        for chain in chains:
            self._idle.end(chain)
            self.loaded.pop(chain, None)

    def removal_failed(self, chains: Iterable[ChainKey], now: float) -> None:
        """Try again later; chains that may be gone are loaded before they are used again."""
        for chain in chains:
            self._idle.begin(chain, now)
            self.loaded.pop(chain, None)


class Tracker:
    """
    The kernel's elements as last read or committed, compared with a Desired.

    `strays` are elements that fit nowhere and go with the next batch. One thread at a time.
    """

    def __init__(self, desired: Desired, families: Sequence[Family]) -> None:
        """Start with empty tables, and compare them with what is desired for some families."""
        self.chains = ChainUses()
        self.strays: list[Operation] = []
        self._desired = desired
        self._families = tuple(families)
        self._states: dict[FrontendKey, FrontendState] = {}
        self._lost: set[FrontendKey] = set()  # tracked once, and missing when the tables were read
        self._shared: set[SharedElement] = set()
        self._lists: dict[AffinityListKey, frozenset[bytes]] = {}
        self._lingering: Deadlines[FrontendKey] = Deadlines(LINGER_S)
        self._leaving: Deadlines[SharedElement] = Deadlines(LINGER_S)
        self._shrunk_lists: Deadlines[AffinityListKey | None] = Deadlines(LINGER_S)

    def reset(self, observed: Observed) -> None:
        """Take over what was read from the kernel, and forget what was believed."""
        self._lost |= self._states.keys() - observed.frontends.keys()
        self._states = observed.frontends
        self._shared = observed.shared_elements
        self.strays = observed.strays
        self._lists = {}
        self._lingering.clear()
        self._leaving.clear()
        self._shrunk_lists.clear()

    def everything(self) -> Touched:
        """Return all that is desired or there, to be compared as a whole."""
        touched = self._desired.everything()
        touched.frontends |= self._states.keys()
        touched.shared_elements |= self._shared
        return touched

    def difference(self, touched: Touched) -> Batch:
        """Return what makes the touched parts of the kernel as desired."""
        batch = Batch()
        wanted, states = self._desired.frontends, self._states
        for key in touched.frontends:
            if key.family in self._families:
                step = transition(key, states.get(key, ABSENT), wanted.get(key))
                batch.prepare.extend(step.prepare)
                batch.stage.extend(step.stage)
                batch.main.extend(step.main)
                batch.ends.append(len(batch.main))
                batch.frontends.append((key, step.state, step.lingers))
                if step.prepare or step.stage or step.main:
                    batch.changed.add(key)
        batch.changed.update(self._lost)
        held, shared = self._shared, self._desired.shared_elements
        elements = [e for e in touched.shared_elements if e.family in self._families]
        # Deletions come before additions: a range may give way to a larger one.
        gone = [e for e in elements if e in held and e not in shared]
        batch.leaving.extend(e for e in gone if e.set in LINGERING_SETS)
        batch.shared.extend(Operation(False, *e) for e in gone if e.set not in LINGERING_SETS)
        batch.shared.extend(Operation(True, *e) for e in elements if e in shared and e not in held)
        batch.main.extend(batch.shared)
        # A stray slot may be where a new one is to be written, so strays go first.
        (batch.prepare or batch.stage)[:0] = self.strays
        for name in touched.affinity_lists:
            addresses = self._desired.affinity_lists.get(name, _NO_ADDRESSES)
            if not self._lists.get(name, _NO_ADDRESSES) <= addresses:
                batch.shrunk_lists.append(name)
        return batch

    def committed(self, batch: Batch, touched: Touched, now: float) -> None:
        """Take over a batch that the kernel has accepted, just now."""
        self.strays = []
        self._lost = set()
        for key, state, lingers in batch.frontends:
            self._settle(key, state)
            if lingers:
                self._lingering.begin(key, now)
            else:
                self._lingering.end(key)
            wanted = self._desired.frontends.get(key)
            self.chains.use(key, wanted.chains if wanted else (), now)
        for operation in batch.shared:
            element = SharedElement(operation.family, operation.set, operation.key)
            (self._shared.add if operation.add else self._shared.discard)(element)
        for element in batch.leaving:
            self._leaving.begin(element, now)
        for name in batch.shrunk_lists:
            # A packet on its way may record the endpoint after its entries were deleted.
            self._shrunk_lists.begin(name, now)
        for name in touched.affinity_lists:
            listed = self._desired.affinity_lists.get(name)
            if listed is None:
                self._lists.pop(name, None)
            else:
                self._lists[name] = listed

    def _settle(self, key: FrontendKey, state: FrontendState) -> None:
        if state == ABSENT:
            self._states.pop(key, None)
        else:
            self._states[key] = state

    # --- session affinity ----------------------------------------------------------------

    def check_all_lists_again(self, now: float) -> None:
        """Let the entries of all lists be looked at once more, when packets have passed."""
        self._shrunk_lists.begin(None, now)

    def stale_entries(
        self, family: Family, numbers: set[bytes], entries: Iterable[tuple[bytes, bytes]]
    ) -> Iterator[Operation]:
        """
        Yield the deletion of the entries whose endpoint is not on their affinity list.

        `numbers` are the lists to look at; b"" stands for all.
        """
        desired = self._desired.affinity_lists
        for key, address in entries:
            number = key[-8:]
            if b"" not in numbers and number not in numbers:
                continue
            if address not in desired.get(AffinityListKey(family, number), _NO_ADDRESSES):
                # An entry may expire at any moment, and nf_tables refuses to delete what is
                # absent. So add it first; to add what is there is no error.
                yield Operation(True, family, schema.AFFINITY, key, address)
                yield Operation(False, family, schema.AFFINITY, key)

    # --- what is due later ---------------------------------------------------------------

    @property
    def next_at(self) -> float | None:
        """The time at which leftovers are due to go; None without any."""
        waiting = (self._lingering, self._leaving, self._shrunk_lists, self.chains)
        times = (deadlines.next_at for deadlines in waiting)
        return min((at for at in times if at is not None), default=None)

    def leftovers(self, now: float) -> Batch:
        """Return the removal of what no packet can ask for any more."""
        batch = Batch()
        for key in self._lingering.due(now):
            step = clean(key, self._states.get(key, ABSENT))
            batch.main.extend(step.main)
            batch.frontends.append((key, step.state, False))
        batch.leaving.extend(self._leaving.due(now))
        batch.shared.extend(Operation(False, *e) for e in batch.leaving if not self._is_wanted(e))
        batch.main.extend(batch.shared)
        return batch

    def _is_wanted(self, element: SharedElement) -> bool:
        """Return whether an element is wanted, perhaps again since it was left."""
        return element in self._desired.shared_elements

    def lists_due(self, now: float) -> list[AffinityListKey | None]:
        """Return the affinity lists to look at once more; None stands for all of them."""
        return self._shrunk_lists.due(now)

    def removed(self, batch: Batch, lists: Iterable[AffinityListKey | None]) -> None:
        """Take over that leftovers are gone, and that lists have been looked at once more."""
        for key, state, _ in batch.frontends:
            self._settle(key, state)
            self._lingering.end(key)
        for operation in batch.shared:
            self._shared.discard(SharedElement(operation.family, operation.set, operation.key))
        for element in batch.leaving:
            self._leaving.end(element)
        for name in lists:
            self._shrunk_lists.end(name)
