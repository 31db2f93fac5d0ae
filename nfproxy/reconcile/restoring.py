"""
From what foreign changes touched to the operations that undo them.

What was committed last is believed to be what is there. So an element that a foreign change touched
gets the value that is believed, and nothing else has to be read.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Set

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.nft.schema import SCHEMAS, Interval, Value
from nfproxy.plan.frontends import (
    AffinityListKey,
    FrontendKey,
    ListKey,
    Part,
    SharedElement,
    SlotRanges,
)
from nfproxy.reconcile.batch import LINGERING_SETS
from nfproxy.reconcile.extent import Extent
from nfproxy.reconcile.lists import NO_LIST
from nfproxy.reconcile.observed import SLOT_MAPS, Observed, key_length, part_of, slot_of
from nfproxy.reconcile.portions import portions
from nfproxy.reconcile.syncreport import Dataplane
from nfproxy.reconcile.transition import (
    ABSENT,
    RANGE_STARTS,
    Operation,
    elements_of,
    slots_of,
)

#: So many elements are put back before other changes have their turn: some 0.2 s.
AT_ONCE = 50_000


class Restored(msgspec.Struct):
    """
    What undoes foreign changes of elements: `changes`, and then what fills sets that were emptied.

    `elements_read` counts what was asked for. `frontends`, those whose elements differed, and
    `operations`, a count, are complete when all `transactions` were taken.
    """

    changes: list[Operation] = msgspec.field(default_factory=list)
    fillings: list[Iterator[Operation]] = msgspec.field(default_factory=list)
    frontends: set[FrontendKey] = msgspec.field(default_factory=set)
    elements_read: int = 0
    operations: int = 0

    def transactions(self, limit: int | None, most: int) -> Iterator[list[Operation]]:
        """
        Yield the operations in transactions of at most `limit` bytes (None: no limit).

        Each has about `most` operations. What fills a set is made when it is asked for: 20,000
        elements take 20 ms, in which the kernel can work.
        """
        filling = itertools.chain.from_iterable(self.fillings)
        chunk = self.changes
        while chunk := chunk or [*itertools.islice(filling, most)]:
            self.operations += len(chunk)
            yield from portions(chunk, limit, most)
            chunk = []


def is_much(extent: Extent, believed: Observed) -> bool:
    """Return whether undoing that would keep other changes waiting: those of whole large sets."""
    frontends = believed.frontends.values()
    slots = (len(one) for frontend in frontends for one in frontend.slot_ranges)
    return bool(extent.sets) and len(frontends) + sum(slots) > AT_ONCE


def restore(
    extent: Extent, believed: Observed, kernel: Dataplane, families: Iterable[Family]
) -> Restored:
    """
    Look at what foreign changes touched, and return what makes it what it is believed to be.

    `believed` must not change until all of that is taken.
    """
    restored = Restored()
    for family in families:
        whole = {name for of, name in extent.sets if of is family}
        names = {name for of, name in extent.elements if of is family}
        if extent.chains:
            names |= _VERDICT_MAPS
        for name in SCHEMAS:  # in their order, so that equal extents give equal operations
            if name in names - whole:
                _restore_set(extent, believed, kernel, family, name, restored)
        if whole:
            _restore_whole_sets(whole, believed, kernel, family, restored)
    # A range may have to give way to another one, so deletions come first.
    restored.changes.sort(key=lambda one: one.add or one.set not in _RANGES)
    return restored


def _restore_whole_sets(
    names: Set[str],
    believed: Observed,
    kernel: Dataplane,
    family: Family,
    restored: Restored,
) -> None:
    """Restore sets of which nothing may be as it was."""
    found = {name: dict(kernel.elements(family, name)) for name in names}
    restored.elements_read += sum(map(len, found.values()))
    parts = _parts_of(believed, family)
    if not any(found.values()):
        restored.fillings.append(_filling(names, parts, restored.frontends))
        return
    added: list[Operation] = []
    for part, elements in parts:
        before = len(added)
        for element in elements:
            name, key = element.set, element.key
            if (there := found.get(name)) is None:
                continue
            if key in there:
                if there.pop(key) == element.value:
                    continue
                added.append(Operation(False, family, name, key))
            added.append(element)
        if len(added) > before and isinstance(part, FrontendKey):
            restored.frontends.add(part)
    strays = (Operation(False, family, name, key) for name in found for key in found[name])
    restored.changes += [*strays, *added]


def _filling(
    names: Set[str],
    parts: Iterable[tuple[Part, list[Operation]]],
    frontends: set[FrontendKey],
) -> Iterator[Operation]:
    """Yield what fills empty sets, and add the frontends of whose elements that is."""
    for part, elements in parts:
        missing = [element for element in elements if element.set in names]
        if missing and isinstance(part, FrontendKey):
            frontends.add(part)
        yield from missing


def _parts_of(believed: Observed, family: Family) -> Iterator[tuple[Part, list[Operation]]]:
    """
    Yield the parts of a family that are believed to be there, and what adds their elements.

    What packets come to later comes first. Frontends are in the order in which they were programmed
    first: the important ones are at the beginning.
    """
    for listed, held in believed.lists.items():
        if listed.family is family:
            yield listed, slots_of(family, listed.map, listed.number, held.slot_ranges)
    for affinity_list, elements in believed.affinity_lists.items():
        if affinity_list.family is family:
            yield affinity_list, [Operation(True, family, *one) for one in elements]
    shared = [one for one in believed.shared_elements if one.family is family]
    for one in shared:
        if one.set in LINGERING_SETS:
            yield one, [Operation(True, *one)]
    for key, state in believed.frontends.items():
        if key.family is family:
            yield key, [*elements_of(key, state)]
    for one in shared:
        if one.set not in LINGERING_SETS:
            yield one, [Operation(True, *one)]


def _restore_set(
    extent: Extent,
    believed: Observed,
    kernel: Dataplane,
    family: Family,
    name: str,
    restored: Restored,
) -> None:
    keys: Collection[bytes] = extent.elements.get((family, name), ())
    if SCHEMAS[name].interval is not Interval.NO:
        found = dict(kernel.elements(family, name))
        shared = believed.shared_elements
        keys = found.keys() | {e.key for e in shared if (e.family, e.set) == (family, name)}
    elif extent.chains and name in _VERDICT_MAPS:
        found = dict(kernel.elements(family, name))
        keys = found.keys() | set(keys)
    else:
        found = dict(kernel.find(family, name, keys))
    restored.elements_read += len(keys)
    for key in sorted(keys):
        part = part_of(family, name, key) if len(key) == key_length(name, family) else None
        is_there, is_wanted = key in found, False
        value = None
        if part is not None:
            is_wanted, value = _believed(believed, part, name, key)
        if is_there == is_wanted and found.get(key) == value:
            continue
        if is_there:
            restored.changes.append(Operation(False, family, name, key))
        if is_wanted:
            restored.changes.append(Operation(True, family, name, key, value))
        if isinstance(part, FrontendKey):
            restored.frontends.add(part)


def _believed(believed: Observed, part: Part, name: str, key: bytes) -> tuple[bool, Value]:
    """Return whether an element of a part is believed to be there, and its value."""
    if isinstance(part, SharedElement):
        return part in believed.shared_elements, None
    if isinstance(part, AffinityListKey):
        listed = believed.affinity_lists.get(part, frozenset())
        values = [one.value for one in listed if (one.set, one.key) == (name, key)]
        return bool(values), values[0] if values else None
    if isinstance(part, ListKey):
        return _in_slot(believed.lists.get(part, NO_LIST).slot_ranges, slot_of(key))
    state = believed.frontends.get(part, ABSENT)
    if name in schema.COUNTED:
        return state.verdict is not None, state.verdict
    if name in SLOT_MAPS:
        return _in_slot(state.slot_ranges, slot_of(key))
    return (name, key) in state.own_elements, state.own_elements.get((name, key))


def _in_slot(held: SlotRanges, slot: int) -> tuple[bool, Value]:
    for start, slots in zip(RANGE_STARTS, held, strict=True):
        if 0 <= slot - start < len(slots):
            return True, slots[slot - start]
    return False, None


#: Maps whose elements lead to chains.
_VERDICT_MAPS = {name for name, one in SCHEMAS.items() if one.verdicts}

_RANGES = {name for name, one in SCHEMAS.items() if one.interval is not Interval.NO}
