"""
What the reconciler believes the kernel to hold, and what it has to change there, now and later.

Everything here computes. :mod:`nfproxy.reconcile.reconciler` reads and writes the kernel, and
reports here what it has read and committed. Between two readings of the tables, what was
committed is what is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName
from nfproxy.plan.desired import NODE, Desired, Touched
from nfproxy.plan.frontends import (
    AffinityListKey,
    Element,
    Frontend,
    FrontendKey,
    ListKey,
    Part,
    SharedElement,
)
from nfproxy.reconcile.backlog import UNKNOWN, Backlog, ServicePart, Turn, is_range
from nfproxy.reconcile.batch import LINGERING_SETS, Batch
from nfproxy.reconcile.chainuses import ChainUses, Deadlines
from nfproxy.reconcile.costs import TRANSACTION_S, Costs
from nfproxy.reconcile.lists import NO_LIST, ListState, ListStep, clean_list, list_transition
from nfproxy.reconcile.observed import Observed
from nfproxy.reconcile.transition import (
    ABSENT,
    NO_LIMIT,
    FrontendState,
    Operation,
    clean,
    transition,
)

#: How long the kernel keeps what an old verdict may still ask for: microseconds, and what a
#: packet's processor may do in between.
LINGER_S = 0.1
_CHAIN_OPERATIONS = 20  # a missing chain counts as so many: libnftables compiles its text
_TURNS = 8  # a turn's share of a transaction is at least one of so many


class Tracker:
    """
    The kernel's elements as last read or committed, compared with a Desired.

    `strays` are elements that fit nowhere and go with the next batch. One thread at a time.
    """

    def __init__(self, desired: Desired, families: Sequence[Family]) -> None:
        """Start with empty tables, and compare them with what is desired for some families."""
        self.chains = ChainUses()
        self.costs = Costs()
        self.backlog = Backlog(families)
        self.strays: list[Operation] = []
        self._desired, self._names = desired, desired.names
        self._families = tuple(families)
        self._states: dict[FrontendKey, FrontendState] = {}
        self._lost: set[FrontendKey] = set()  # tracked once, and missing when the tables were read
        self._shared: set[SharedElement] = set()
        self._shared_lists: dict[ListKey, ListState] = {}
        self._changed_lists: dict[ObjectName, set[ListKey]] = {}  # of Services that wait
        self._lists: dict[AffinityListKey, frozenset[Element]] = {}
        self._left_out: dict[Part, tuple[ObjectName, object]] = {}  # refused: whose, and what
        self._lingering: Deadlines[FrontendKey] = Deadlines(LINGER_S)
        self._lingering_lists: Deadlines[ListKey] = Deadlines(LINGER_S)
        self._leaving: Deadlines[SharedElement] = Deadlines(LINGER_S)
        # Of no use once the backlog is empty: until then frontends may still lead there.
        self._unused_lists: set[ListKey] = set()
        self._unused_elements: set[SharedElement] = set()

    def reset(self, observed: Observed) -> None:
        """
        Take over what was read from the kernel, and forget what was believed.

        All that is desired or there waits in the backlog, to be compared.
        """
        self._lost |= self._states.keys() - observed.frontends.keys()
        self._states = observed.frontends
        self._shared = observed.shared_elements
        self._shared_lists = observed.lists
        self.strays = observed.strays
        self._lists = observed.affinity_lists
        self._changed_lists.clear()
        self._left_out.clear()  # the kernel may take it by now
        self._lingering.clear()
        self._lingering_lists.clear()
        self._leaving.clear()
        self._unused_lists.clear()
        self._unused_elements.clear()
        self.backlog.clear()
        self.backlog.add(self._desired.everything())
        # Ranges all have their turn at once: one may have to go before another can come.
        shared = {each: NODE if is_range(each) else UNKNOWN for each in self._shared}
        shared_lists = dict.fromkeys(self._shared_lists, UNKNOWN)
        lists = dict.fromkeys(self._lists, UNKNOWN)
        states = dict.fromkeys(self._states, UNKNOWN)
        self.backlog.add(Touched(states, shared, lists, lists=shared_lists))

    @property
    def held(self) -> Observed:
        """What the kernel is believed to hold."""
        return Observed(self._states, self._shared_lists, self._shared, self._lists)

    # --- what is due now -----------------------------------------------------------------

    def portion(self, most_operations: int | None = None, backlog: Backlog | None = None) -> Batch:
        """
        Return what makes as much of the kernel as desired as fits one transaction.

        It is taken out of the backlog. `most_operations` is a further limit. Given another
        backlog, return all that waits there.
        """
        batch, turns = Batch(), backlog or self.backlog
        most = int(TRANSACTION_S / self.costs.operation_s)
        if most_operations is not None:
            most = min(most, most_operations)
        if backlog is not None:
            most = NO_LIMIT
        # A stray slot may be where a new one is to be written, so all strays go first.
        strays = self.strays[:most]
        batch.strays = len(strays)
        left = most - batch.strays
        unfinished: dict[ObjectName, Turn] = {}
        while left > 0 and (turn := turns.next_turn()) is not None:
            service = turn.service
            share = max(left // (len(turns) + 1), most // _TURNS, 2)
            used = 0  # operations, and what counts like them
            while turn and (used < share or is_range(turn.next_part)):
                part = turn.take()
                if part in self._left_out and self._is_left_out(part):
                    continue
                if self._hand_over(part, service, turns, unfinished):
                    continue
                batch.parts.append((service, part))
                most_here, operations, is_whole = max(2, share - used), 0, True
                if isinstance(part, FrontendKey):
                    wanted = self._desired.frontends.get(part)
                    if wanted is not None and wanted.list in self._left_out:
                        self._left_out[part] = service, wanted  # as long as its list
                        continue
                    state, renamed = self._states.get(part, ABSENT), part in self._names.changed
                    step = transition(part, state, wanted, most_here, is_renamed=renamed)
                    operations, is_whole = batch.take(part, step), step.is_whole
                    if is_whole:
                        operations += self._finish(batch, service, part, wanted)
                elif isinstance(part, ListKey):
                    operations, is_whole = self._take_shared_list(batch, service, part, most_here)
                elif isinstance(part, SharedElement):
                    self._take_element(batch, part)
                else:
                    operations, is_whole = self._take_affinity_list(batch, part, most_here)
                used += operations + 1
                if not is_whole:
                    turn.give_back(part)
            if turn or turn.came_back:
                unfinished[service] = turn
            else:
                self._changed_lists.pop(service, None)
            left -= used
        batch.unfinished = list(unfinished.values())
        batch.order(strays)
        batch.changed.update(self._lost)
        return batch

    def _hand_over(
        self,
        part: Part,
        service: ObjectName,
        turns: Backlog,
        unfinished: dict[ObjectName, Turn],
    ) -> bool:
        """
        Let a frontend wait that another waiting Service gets; return whether it does.

        That Service's list and source ranges may not be there yet, and have to come first.
        """
        wanted = self._desired.frontends.get(part) if isinstance(part, FrontendKey) else None
        if wanted is None or (owner := wanted.claim.service) == service:
            return False
        if owner in unfinished:
            unfinished[owner].give_back(part)
        elif owner in turns:
            turns.add_part(owner, part)
        else:
            return False
        return True

    # --- what the kernel refuses ---------------------------------------------------------

    def forget_strays(self, batch: Batch) -> None:
        """Leave the strays of a batch where they are until the tables are read again."""
        del self.strays[: batch.strays]

    def in_order(self, parts: Sequence[ServicePart]) -> list[ServicePart]:
        """Return parts in an order in which each may be committed by itself."""
        # Parts of a Service are in order already. A range may have to go before others can come.
        return sorted(parts, key=lambda one: not is_range(one[1]) or bool(self._wanted(one[1])))

    def batch_of(self, parts: Sequence[ServicePart]) -> Batch:
        """Return a batch with some parts as a whole."""
        backlog = Backlog(self._families)
        for service, part in parts:
            backlog.add_part(service, part)
        return self.portion(backlog=backlog)

    def leave_out(self, service: ObjectName, part: Part) -> None:
        """Leave a part as it is in the kernel until another one is wanted in its place."""
        self._left_out[part] = service, self._wanted(part)

    def left_out(self) -> frozenset[ServicePart]:
        """Return the parts that are left as they are."""
        return frozenset((service, part) for part, (service, _) in self._left_out.items())

    def _wanted(self, part: Part) -> object:
        """Return what is wanted of a part, for comparisons."""
        if isinstance(part, FrontendKey):
            return self._desired.frontends.get(part)
        if isinstance(part, ListKey):
            return self._desired.lists.get(part)
        if isinstance(part, SharedElement):
            return self._is_wanted(part)
        return self._desired.affinity_lists.get(part)

    def _is_left_out(self, part: Part) -> bool:
        """Return whether a part still is left out; if not, let what waits for it have its turn."""
        if self._left_out[part][1] == self._wanted(part):
            return True
        del self._left_out[part]
        if isinstance(part, ListKey):
            frontends = {
                key: wanted.claim.service
                for key in self._left_out
                if isinstance(key, FrontendKey)
                and (wanted := self._desired.frontends.get(key)) is not None
                and wanted.list == part
            }
            for key in frontends:
                del self._left_out[key]
            self.backlog.add(Touched(frontends))
        return False

    def _take_shared_list(
        self, batch: Batch, service: ObjectName, key: ListKey, most: int
    ) -> tuple[int, bool]:
        held, wanted = self._shared_lists.get(key, NO_LIST), self._desired.lists.get(key)
        step = list_transition(key, held, wanted, most)
        if step.operations:
            self._changed_lists.setdefault(service, set()).add(key)
        return batch.take_list(key, step), step.is_whole

    def _finish(
        self, batch: Batch, service: ObjectName, key: FrontendKey, wanted: Frontend | None
    ) -> int:
        """Note that a frontend's last step is in a batch; return how much missing chains count."""
        if self.backlog.is_planned(service):
            batch.planned[key] = service
        if wanted is not None and wanted.list in self._changed_lists.get(service, ()):
            batch.changed.add(key)
        chains, loaded = wanted.chains if wanted else (), self.chains.loaded
        return _CHAIN_OPERATIONS * sum((key.family, each.name) not in loaded for each in chains)

    def _take_element(self, batch: Batch, part: SharedElement) -> None:
        is_wanted = self._is_wanted(part)
        if part in self._shared and not is_wanted and part.set in LINGERING_SETS:
            batch.leaving.append(part)
        elif is_wanted != (part in self._shared):
            batch.shared.append((is_wanted, part))

    def _take_affinity_list(
        self, batch: Batch, part: AffinityListKey, most: int
    ) -> tuple[int, bool]:
        """
        Take over at most so many changes of an affinity list; return their number, and if all.

        Endpoints leave first: no remembered client is led to them afterwards.
        """
        have = self._lists.get(part, frozenset())
        want = self._desired.affinity_lists.get(part, frozenset())
        gone, come = [*(have - want)], [*(want - have)]
        is_whole = len(gone) + len(come) <= most
        gone, come = gone[:most], come[: max(0, most - len(gone))]
        batch.operations.extend(Operation(False, part.family, e.set, e.key) for e in gone)
        batch.operations.extend(Operation(True, part.family, *e) for e in come)
        batch.lists.append((part, want if is_whole else have.difference(gone).union(come)))
        return len(gone) + len(come), is_whole

    def committed(self, batch: Batch, now: float) -> None:
        """Take over a batch that the kernel has accepted, just now."""
        del self.strays[: batch.strays]
        self._lost = set()
        for key, step in batch.steps:
            self._settle(key, step.state)
            if step.lingers:
                self._lingering.begin(key, now)
            else:
                self._lingering.end(key)
            if step.is_whole:
                wanted = self._desired.frontends.get(key)
                self.chains.use(key, wanted.chains if wanted else (), now)
                self._names.changed.discard(key)
        for list_key, change in batch.list_steps:
            self._settle_list(list_key, change)
            self._lingering_lists.end(list_key)
            (self._unused_lists.add if change.lingers else self._unused_lists.discard)(list_key)
        for is_wanted, element in batch.shared:
            (self._shared.add if is_wanted else self._shared.discard)(element)
        self._unused_elements.update(batch.leaving)
        for listed, elements in batch.lists:
            if elements:
                self._lists[listed] = elements
            else:
                self._lists.pop(listed, None)
        for turn in batch.unfinished:
            self.backlog.put_back(turn)
        if not self.backlog:
            self._names.changed.clear()  # of families that this node does not proxy
            for list_key in self._unused_lists:
                self._lingering_lists.begin(list_key, now)
            for element in self._unused_elements:
                self._leaving.begin(element, now)
            self._unused_lists.clear()
            self._unused_elements.clear()

    def _settle(self, key: FrontendKey, state: FrontendState) -> None:
        if state == ABSENT:
            self._states.pop(key, None)
        else:
            self._states[key] = state

    def _settle_list(self, key: ListKey, step: ListStep) -> None:
        if step.state:
            self._shared_lists[key] = step.state
        else:
            self._shared_lists.pop(key, None)

    # --- what is due later ---------------------------------------------------------------

    @property
    def next_at(self) -> float | None:
        """The time at which leftovers are due to go; None without any."""
        waiting = (self._lingering, self._lingering_lists, self._leaving)
        times = (*(deadlines.next_at for deadlines in waiting), self.chains.next_at)
        return min((at for at in times if at is not None), default=None)

    def leftovers(self, now: float) -> Batch:
        """Return the removal of what no packet can ask for any more, as fits one transaction."""
        batch = Batch()
        left = int(TRANSACTION_S / self.costs.operation_s)
        for key in self._lingering.due(now):
            if left <= 0:
                break
            left -= batch.take(key, clean(key, self._states.get(key, ABSENT), left))
        for list_key in self._lingering_lists.due(now):
            if left <= 0:
                break
            held = self._shared_lists.get(list_key, NO_LIST)
            left -= batch.take_list(list_key, clean_list(list_key, held, left))
        batch.leaving.extend(self._leaving.due(now)[: max(0, left)])
        batch.shared.extend((False, e) for e in batch.leaving if not self._is_wanted(e))
        batch.operations.extend(Operation(False, *element) for _, element in batch.shared)
        return batch

    def _is_wanted(self, element: SharedElement) -> bool:
        """Return whether an element is wanted, perhaps again since it was left."""
        return element in self._desired.shared_elements

    def removed(self, batch: Batch) -> None:
        """Take over that leftovers are gone."""
        for key, step in batch.steps:
            self._settle(key, step.state)
            if step.is_whole:
                self._lingering.end(key)
        for list_key, change in batch.list_steps:
            self._settle_list(list_key, change)
            if change.is_whole:
                self._lingering_lists.end(list_key)
        self._shared.difference_update(element for _, element in batch.shared)
        for element in batch.leaving:
            self._leaving.end(element)
