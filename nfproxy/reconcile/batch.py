"""One portion of work: its operations, and what holds after them."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName
from nfproxy.nft import schema
from nfproxy.plan.frontends import AffinityListKey, Element, FrontendKey, ListKey, SharedElement
from nfproxy.reconcile.backlog import ServicePart, Turn
from nfproxy.reconcile.lists import ListStep
from nfproxy.reconcile.transition import Operation, Step

#: Sets of shared elements that packets look up one after the other, inside a guard: elements that
#: are no longer needed linger there, so that a packet meets either the old range or the new one.
LINGERING_SETS = frozenset({schema.SOURCE_RANGES})

_place = itemgetter(0, 1, 2)  # of an operation: whether it adds, family and set


class Batch(msgspec.Struct):
    """
    The element operations of one portion of work, and what holds after them.

    `operations` begin with a number of `strays`. `shared` are shared elements that come (true) or
    go, `leaving` those that go later. `list_steps` are those of shared lists. `lists` are affinity
    lists with their elements afterwards.
    `changed` are the frontends that answer differently afterwards, `planned` those of Services that
    were planned, and `unfinished` the turns that were too short.
    `parts` are those that the batch is about.
    """

    operations: list[Operation] = msgspec.field(default_factory=list)
    strays: int = 0
    steps: list[tuple[FrontendKey, Step]] = msgspec.field(default_factory=list)
    list_steps: list[tuple[ListKey, ListStep]] = msgspec.field(default_factory=list)
    shared: list[tuple[bool, SharedElement]] = msgspec.field(default_factory=list)
    leaving: list[SharedElement] = msgspec.field(default_factory=list)
    lists: list[tuple[AffinityListKey, frozenset[Element]]] = msgspec.field(default_factory=list)
    changed: set[FrontendKey] = msgspec.field(default_factory=set)
    planned: dict[FrontendKey, ObjectName] = msgspec.field(default_factory=dict)
    unfinished: list[Turn] = msgspec.field(default_factory=list)
    parts: list[ServicePart] = msgspec.field(default_factory=list)

    def order(self, strays: list[Operation]) -> None:
        """Put the operations into the order in which they must take effect."""
        # Deletions come before additions: a range may give way to a larger one. Source ranges are
        # there before a verdict leads to their guard.
        self.shared.sort()
        shared = [Operation(add, *element) for add, element in self.shared]
        early = [one for one in shared if one.set in LINGERING_SETS]
        self.operations[:0] = strays + early
        self.operations.extend(one for one in shared if one.set not in LINGERING_SETS)

    def take(self, key: FrontendKey, step: Step) -> int:
        """Take over a frontend's step; return how many operations it has."""
        self.operations.extend(step.operations)
        if step.operations:
            self.changed.add(key)
        self.steps.append((key, step))
        return len(step.operations)

    def take_list(self, key: ListKey, step: ListStep) -> int:
        """Take over a list's step; return how many operations it has."""
        self.operations.extend(step.operations)
        self.list_steps.append((key, step))
        return len(step.operations)

    @property
    def leaves_something(self) -> bool:
        """Whether something that packets may still ask for goes later."""
        return (
            bool(self.leaving)
            or any(step.lingers for _, step in self.steps)
            or any(step.lingers for _, step in self.list_steps)
        )


class BatchSum(msgspec.Struct):
    """
    What batches did, in sum: their operations are not kept.

    `counts` are by whether they add, family and set. `chains_made` counts the chains that were
    loaded for them.
    """

    operations: int = 0
    counts: Counter[tuple[bool, Family, str]] = msgspec.field(default_factory=Counter)
    chains_made: int = 0
    changed: set[FrontendKey] = msgspec.field(default_factory=set)
    planned: dict[FrontendKey, ObjectName] = msgspec.field(default_factory=dict)

    def include(self, batch: Batch) -> None:
        """Count a batch."""
        self.operations += len(batch.operations)
        self.counts.update(map(_place, batch.operations))
        self.changed |= batch.changed
        self.planned |= batch.planned
