"""
From the elements of a shared list in the kernel to those it should have.

The chains that draw from a list pass over empty slots and end at slot 0. So slots of endpoints that
left go at once, and nothing lingers as long as a slot range has endpoints. When it has none any
more, no chain leads to it, but a packet inside an old one may still draw: then all of it lingers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfproxy.nft import schema
from nfproxy.plan.endpoints import Destination, pack
from nfproxy.plan.frontends import NO_SLOTS, ListKey, SlotRanges
from nfproxy.reconcile.transition import NO_LIMIT, RANGE_STARTS, Operation, SlotPlaces, fill


class ListState(NamedTuple):
    """A list as the kernel has it; `in_use` says of each slot range that chains may lead to it."""

    slot_ranges: SlotRanges = NO_SLOTS
    in_use: tuple[bool, bool] = (False, False)

    def __bool__(self) -> bool:
        """Return whether the kernel has any of it."""
        return any(self.slot_ranges)


NO_LIST = ListState()


class ListStep(NamedTuple):
    """
    The operations of one transition in their order, and the state after them.

    `is_whole` is false where more operations than allowed are needed, and others must follow.
    """

    operations: list[Operation]
    state: ListState
    is_whole: bool = True

    @property
    def lingers(self) -> bool:
        """Whether a slot range is of no use and goes later."""
        ranges = zip(self.state.slot_ranges, self.state.in_use, strict=True)
        return any(slots and not in_use for slots, in_use in ranges)


def list_transition(
    key: ListKey, state: ListState, wanted: SlotRanges | None, most: int = NO_LIMIT
) -> ListStep:
    """
    Return the least operations that make a list hold what is wanted (None: no list).

    Where more than `most` are needed, return about as many. The slots have no gaps after them.
    """
    operations: list[Operation] = []
    held: list[Sequence[Destination]] = []
    wanted = wanted or NO_SLOTS
    for start, slots, want in zip(RANGE_STARTS, state.slot_ranges, wanted, strict=True):
        held.append(_fill(key, start, slots, want, operations, most) if want else slots)
    in_use = bool(wanted[0]), bool(wanted[1])
    return ListStep(operations, ListState((held[0], held[1]), in_use), len(operations) < most)


def _fill(
    key: ListKey,
    start: int,
    slots: Sequence[Destination],
    want: Sequence[Destination],
    operations: list[Operation],
    most: int,
) -> Sequence[Destination]:
    """Append the operations that fill a slot range, up to `most`; return what it holds then."""
    held = [*slots]
    where = SlotPlaces(key.family, key.map, key.number, start)
    new, is_whole = fill(where, held, want, operations, most)
    if not is_whole:
        return new
    left = max(len(new), len(held) - max(0, most - len(operations)))
    operations += (_deletion(key, start + index) for index in range(left, len(held)))
    return want if left == len(new) and want == new else pack([*new, *held[len(new) : left]])


def clean_list(key: ListKey, state: ListState, most: int = NO_LIMIT) -> ListStep:
    """Return the operations that remove the slot ranges that linger, `most` of their slots."""
    gone: list[Operation] = []
    kept: list[Sequence[Destination]] = []
    for start, slots, in_use in zip(RANGE_STARTS, state.slot_ranges, state.in_use, strict=True):
        left = len(slots) if in_use else max(0, len(slots) - (most - len(gone)))
        gone += (_deletion(key, start + index) for index in range(left, len(slots)))
        kept.append(slots[:left])
    after = ListState((kept[0], kept[1]), state.in_use)
    return ListStep(gone, after, not ListStep(gone, after).lingers)


def _deletion(key: ListKey, slot: int) -> Operation:
    return Operation(False, key.family, key.map, key.number + schema.number_bytes(slot))
