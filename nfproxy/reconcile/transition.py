"""
From one frontend's elements in the kernel to those it should have.

A commit is atomic for the table, but not for a packet that is inside it: a packet may read the
old verdict and draw its slot after the commit. So whatever an old verdict can ask for outlives
the commit: slots that are no longer needed linger, as does a verdict behind a jump, and a later
transaction removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.nft.chains import Policy, shape_of
from nfproxy.nft.schema import Value, Verdict
from nfproxy.plan.endpoints import Destination, pack
from nfproxy.plan.frontends import (
    NO_SLOTS,
    Frontend,
    FrontendKey,
    SlotRanges,
    balancing_verdict,
    verdicts_behind,
)

#: Set or map, and key: names an element within a family's table.
ElementKey = tuple[str, bytes]

#: The first slots of the two slot ranges.
RANGE_STARTS = (0, schema.CLUSTER_BASE)


class Operation(NamedTuple):
    """
    One change of an element; `add` false deletes it.

    nf_tables cannot change an element's value in place: a change is a deletion and an addition
    in one transaction.
    """

    add: bool
    family: Family
    set: str
    key: bytes
    value: Value = None


class SlotPlaces(NamedTuple):
    """Where the slots of a range are: a map, and keys of a prefix and a number from `start` on."""

    family: Family
    map: str
    prefix: bytes
    start: int


class FrontendState(NamedTuple):
    """
    One frontend's elements as the kernel has them.

    `verdict` is None where the frontend has no verdict element. `slot_ranges` and `own_elements`
    include what lingers.
    """

    verdict: Verdict | None = None
    slot_ranges: SlotRanges = NO_SLOTS
    own_elements: dict[ElementKey, Value] = {}  # noqa: RUF012 - never written to


ABSENT = FrontendState()


#: More operations than any frontend needs.
NO_LIMIT = 1 << 62


class Step(NamedTuple):
    """
    The operations of one transition, in the order in which they must take effect.

    `state` is the kernel's after them; `lingers` says whether it holds leftovers. `is_whole` is
    false where more operations than allowed are needed, and others must follow.
    """

    operations: list[Operation]
    state: FrontendState
    lingers: bool
    is_whole: bool = True


def transition(
    key: FrontendKey,
    state: FrontendState,
    wanted: Frontend | None,
    most: int = NO_LIMIT,
    *,
    is_renamed: bool = False,
) -> Step:
    """
    Return the least operations that make a frontend do what is wanted (None: no frontend).

    Where it `is_renamed`, its verdict is written again, since the element carries the name.

    Where slots need more than `most` operations, return about as many of them. Packets may draw
    from these slots already: each then has its old or its new endpoint. The verdict is the last to
    change, so packets find the old number of slots until all new ones are there.
    """
    operations: list[Operation] = []
    verdict, slot_ranges = (wanted.verdict, wanted.own_slots) if wanted else (None, NO_SLOTS)
    first = _fill_range(key, 0, state.slot_ranges[0], slot_ranges[0], operations, most)
    second = _fill_range(
        key, schema.CLUSTER_BASE, state.slot_ranges[1], slot_ranges[1], operations, most
    )
    if len(operations) >= most:
        partial = FrontendState(state.verdict, (first, second), state.own_elements)
        return Step(operations, partial, lingers=False, is_whole=False)
    own_elements = _own_elements(key, state, wanted, operations)
    if verdict != state.verdict or (is_renamed and verdict is not None):
        where, name = key.element_key, verdict_map(key)
        if state.verdict is not None:
            operations.append(Operation(False, key.family, name, where))
        if verdict is not None:
            operations.append(Operation(True, key.family, name, where, verdict))
    held: SlotRanges = (first, second)
    if first is slot_ranges[0] and second is slot_ranges[1]:
        held = slot_ranges  # one tuple instead of two, for each of many frontends
    after = FrontendState(verdict, held, own_elements)
    return Step(operations, after, _lingers(after, wanted))


def clean(key: FrontendKey, state: FrontendState, most: int = NO_LIMIT) -> Step:
    """
    Return the operations that remove leftovers: what the kernel's verdict cannot ask for.

    They follow from the verdicts alone, as what is wanted may be ahead of the kernel. At most
    `most` slots are removed, the highest ones first: those that stay have no gaps.
    """
    gone: list[Operation] = []
    kept: list[Sequence[Destination]] = []
    is_whole = True
    name, prefix = slot_map(key), slot_prefix(key)
    drawn = drawn_counts(balancing_verdict(key, state.verdict, state.own_elements))
    for start, slots, count in zip(RANGE_STARTS, state.slot_ranges, drawn, strict=True):
        left = max(count, len(slots) - (most - len(gone)))
        gone += [
            Operation(False, key.family, name, prefix + schema.number_bytes(start + slot))
            for slot in range(left, len(slots))
        ]
        is_whole &= left == count
        kept.append(slots[:left])
    own_elements = state.own_elements
    if own_elements:
        needed = verdicts_behind(key, state.verdict, own_elements)
        stale = [k for k in own_elements if k[0] in schema.BEHIND and k[0] not in needed]
        gone += [Operation(False, key.family, *k) for k in stale]
        own_elements = {k: v for k, v in own_elements.items() if k not in stale}
    after = FrontendState(state.verdict, (kept[0], kept[1]), own_elements)
    return Step(gone, after, lingers=not is_whole, is_whole=is_whole)


def drawn_counts(verdict: Verdict | None) -> tuple[int, int]:
    """Return how many slots of each range a verdict's chain draws from."""
    shape = shape_of(verdict)
    if shape is None or shape.list:
        return 0, 0
    return (shape.local, shape.cluster) if shape.policy is Policy.LOCAL else (shape.cluster, 0)


def arrange(slots: Sequence[Destination], wanted: Sequence[Destination]) -> list[Destination]:
    """
    Return what the first len(wanted) slots should hold, with the fewest changes.

    Which endpoint is in which slot has no meaning, so endpoints keep the slots they have.
    """
    count = len(wanted)
    result = list(slots[:count])
    missing = dict.fromkeys(wanted)
    holes = []
    for index, destination in enumerate(result):
        if destination in missing:
            del missing[destination]
        else:
            holes.append(index)
    fresh = iter(missing)
    for index in holes:
        result[index] = next(fresh)
    result.extend(fresh)
    return result


def _fill_range(
    key: FrontendKey,
    start: int,
    slots: Sequence[Destination],
    wanted: Sequence[Destination],
    operations: list[Operation],
    most: int,
) -> Sequence[Destination]:
    """
    Append the operations that fill a slot range, up to `most`; return what it holds afterwards.

    From `most` operations on, those of the slots that come next are missing.
    """
    if not wanted:
        return slots  # all of them linger
    if len(slots) == len(wanted) and slots == wanted:
        return wanted
    held = [*slots]
    where = SlotPlaces(key.family, slot_map(key), slot_prefix(key), start)
    new, is_whole = fill(where, held, wanted, operations, most)
    if not is_whole:
        return new
    if len(held) <= len(new) and wanted == new:
        return wanted
    # Slots from len(new) on stay as they are: an old verdict may still draw one of them.
    return pack([*new, *held[len(new) :]])


def fill(
    where: SlotPlaces,
    held: Sequence[Destination],
    wanted: Sequence[Destination],
    operations: list[Operation],
    most: int,
) -> tuple[Sequence[Destination], bool]:
    """
    Append the operations that put what is wanted into the first slots, up to `most`.

    Return what the first slots then hold, and true; where `most` is too few, what all of them hold,
    and false. The slots have no gaps.
    """
    if not held and len(operations) + len(wanted) <= most:
        # Of a new frontend it is the wanted sequence itself: a first load copies nothing.
        operations += slots_at(where, wanted)
        return wanted, True
    new: Sequence[Destination] = arrange(held, wanted)
    family, name, prefix, start = where
    for index, destination in enumerate(new):
        if index < len(held) and held[index] == destination:
            continue
        if len(operations) >= most:
            return pack([*new[:index], *held[index:]]), False
        slot = prefix + schema.number_bytes(start + index)
        if index < len(held):
            operations.append(Operation(False, family, name, slot))
        operations.append(Operation(True, family, name, slot, destination))
    return new, True


def _own_elements(
    key: FrontendKey,
    state: FrontendState,
    wanted: Frontend | None,
    operations: list[Operation],
) -> dict[ElementKey, Value]:
    """Append the operations on the frontend's own elements; return those there are afterwards."""
    held = state.own_elements
    if not held and not (wanted and wanted.own_elements):
        return held
    want: dict[ElementKey, Value] = (
        {(e.set, e.key): e.value for e in wanted.own_elements} if wanted else {}
    )
    # A packet that a jump is about to return still looks behind it. It meets the new answer. That
    # of a frontend that is gone is no answer, for which new packets look there, too.
    for element in held.keys() - want.keys() if wanted else ():
        if element[0] in schema.BEHIND:
            want[element] = wanted.answer if wanted else None
    if want == held:
        return held
    for element, value in held.items():
        if element not in want or want[element] != value:
            operations.append(Operation(False, key.family, *element))
    for element, value in want.items():
        if element not in held or held[element] != value:
            operations.append(Operation(True, key.family, *element, value))
    return want


def _lingers(state: FrontendState, wanted: Frontend | None) -> bool:
    """Return whether a state holds more than what is wanted."""
    slot_ranges = wanted.own_slots if wanted else NO_SLOTS
    if state.slot_ranges is not slot_ranges and any(
        len(held) > len(want) for held, want in zip(state.slot_ranges, slot_ranges, strict=True)
    ):
        return True
    return len(state.own_elements) > (len(wanted.own_elements) if wanted else 0)


def slot_map(key: FrontendKey) -> str:
    """Return the map that holds a frontend's slots."""
    maps = schema.ENDPOINTS if key.address else schema.NODE_PORT_ENDPOINTS
    return maps[key.protocol]


def slot_prefix(key: FrontendKey) -> bytes:
    """Return what all keys of a frontend's slots begin with."""
    return key.address + schema.port_bytes(key.port)


def verdict_map(key: FrontendKey) -> str:
    return schema.FRONTENDS if key.address else schema.NODE_PORTS


def elements_of(key: FrontendKey, state: FrontendState) -> Iterator[Operation]:
    """
    Yield every element of a frontend in the kernel, as the operation that adds it.

    What packets come to later comes first.
    """
    yield from slots_of(key.family, slot_map(key), slot_prefix(key), state.slot_ranges)
    for element, value in state.own_elements.items():
        yield Operation(True, key.family, *element, value)
    if state.verdict is not None:
        yield Operation(True, key.family, verdict_map(key), key.element_key, state.verdict)


def slots_of(family: Family, name: str, prefix: bytes, held: SlotRanges) -> list[Operation]:
    """Return the operations that add the slots of a map whose keys have a prefix."""
    return [
        operation
        for start, slots in zip(RANGE_STARTS, held, strict=True)
        for operation in slots_at(SlotPlaces(family, name, prefix, start), slots)
    ]


def slots_at(where: SlotPlaces, slots: Sequence[Destination]) -> list[Operation]:
    """Return the operations that add the first slots of a range."""
    family, name, prefix, start = where
    return [
        Operation(True, family, name, prefix + schema.number_bytes(number), destination)
        for number, destination in enumerate(slots, start)
    ]
