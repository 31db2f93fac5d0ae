"""
From what foreign changes touched to the operations that undo them.

What was committed last is believed to be what is there. So an element that a foreign change touched
gets the value that is believed, and nothing else has to be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.nft.schema import SCHEMAS, Interval, Value
from nfproxy.plan.frontends import AffinityListKey, FrontendKey, ListKey, Part, SharedElement
from nfproxy.reconcile.extent import Extent
from nfproxy.reconcile.lists import NO_LIST
from nfproxy.reconcile.observed import SLOT_MAPS, Observed, key_length, part_of, slot_of
from nfproxy.reconcile.syncreport import Dataplane
from nfproxy.reconcile.transition import ABSENT, RANGE_STARTS, HeldRanges, Operation


class Restored(msgspec.Struct):
    """
    What undoes foreign changes of elements.

    `frontends` are those whose elements differed, `elements_read` counts what was asked for.
    """

    operations: list[Operation] = msgspec.field(default_factory=list)
    frontends: set[FrontendKey] = msgspec.field(default_factory=set)
    elements_read: int = 0


def restore(
    extent: Extent, believed: Observed, kernel: Dataplane, families: Iterable[Family]
) -> Restored:
    """Look at what foreign changes touched, and return what makes it what it is believed to be."""
    restored = Restored()
    for family in families:
        names = {name for of, name in extent.elements if of is family}
        if extent.chains:
            names |= _VERDICT_MAPS
        for name in SCHEMAS:  # in their order, so that equal extents give equal operations
            if name in names:
                _restore_set(extent, believed, kernel, family, name, restored)
    # A range may have to give way to another one, so deletions come first.
    restored.operations.sort(key=lambda operation: operation.add)
    return restored


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
            restored.operations.append(Operation(False, family, name, key))
        if is_wanted:
            restored.operations.append(Operation(True, family, name, key, value))
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


def _in_slot(held: HeldRanges, slot: int) -> tuple[bool, Value]:
    for start, slots in zip(RANGE_STARTS, held, strict=True):
        if 0 <= slot - start < len(slots):
            return True, slots[slot - start]
    return False, None


#: Maps whose elements lead to chains.
_VERDICT_MAPS = {name for name, one in SCHEMAS.items() if one.verdicts}
