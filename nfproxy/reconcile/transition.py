"""
From one frontend's elements in the kernel to those it should have.

A commit is atomic for the table, but not for a packet that is inside it: one may have
read the old verdict and draw its slot after the commit. So nothing an old verdict can
ask for goes away together with it: slots and source ranges that are no longer
needed linger, and a later transaction removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.nft.chains import Policy, shape_of
from nfproxy.nft.schema import Value, Verdict
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import NO_SLOTS, Frontend, FrontendKey

ElementKey = tuple[str, bytes]


class Operation(NamedTuple):
    """
    One change of an element; `add` false deletes it.

    nf_tables cannot change an element's value in place: a changed one is deleted and added
    in the same transaction.
    """

    add: bool
    family: Family
    set: str
    key: bytes
    value: Value = None


class FrontendState(NamedTuple):
    """
    One frontend's elements as the kernel has them.

    `verdict` is None where no verdict element exists. `slot_ranges` are the slots' contents,
    lingering ones included; `own_elements` the further elements.
    """

    verdict: Verdict | None = None
    slot_ranges: tuple[Sequence[Destination], Sequence[Destination]] = NO_SLOTS
    own_elements: dict[ElementKey, Value] = {}  # noqa: RUF012 - never written to

    @property
    def guarded(self) -> bool:
        """Tell whether packets are being checked against source ranges."""
        shape = shape_of(self.verdict)
        return shape is not None and shape.guarded


ABSENT = FrontendState()


class Step(NamedTuple):
    """
    The operations of one transition, in the order in which they must take effect.

    `prepare` must be in force before `main`; `stage` may be, as nobody can reach it yet.
    `state` is the kernel's once all are; `lingers` tells that it holds leftovers.
    """

    prepare: list[Operation]
    stage: list[Operation]
    main: list[Operation]
    state: FrontendState
    lingers: bool


def transition(key: FrontendKey, state: FrontendState, wanted: Frontend | None) -> Step:
    """Return the least operations that make a frontend do what is wanted (None: nothing)."""
    prepare: list[Operation] = []
    main: list[Operation] = []
    slots: list[Operation] = []
    slot_ranges = wanted.slot_ranges if wanted else NO_SLOTS
    first = _fill_range(key, 0, state.slot_ranges[0], slot_ranges[0], slots)
    second = _fill_range(key, schema.CLUSTER_BASE, state.slot_ranges[1], slot_ranges[1], slots)
    own_elements = _own_elements(key.family, state, wanted, prepare, main)
    verdict = wanted.verdict if wanted else None
    if verdict != state.verdict:
        where, name = _verdict_key(key), _verdict_map(key)
        if state.verdict is not None:
            main.append(Operation(False, key.family, name, where))
        if verdict is not None:
            main.append(Operation(True, key.family, name, where, verdict))
    stage = slots if state.verdict is None else []
    if state.verdict is not None:
        main = slots + main
    new = FrontendState(verdict, (first, second), own_elements)
    return Step(prepare, stage, main, new, _lingers(new, wanted))


def clean(key: FrontendKey, state: FrontendState) -> Step:
    """
    Return the operations that remove what lingers: all that the verdict in force cannot ask for.

    What is wanted does not matter here; it may be ahead of the kernel.
    """
    drawn = _drawn(state.verdict)
    gone: list[Operation] = []
    for base, slots, keep in (
        (0, state.slot_ranges[0], drawn[0]),
        (schema.CLUSTER_BASE, state.slot_ranges[1], drawn[1]),
    ):
        name, prefix = slot_map(key), slot_prefix(key)
        gone += [
            Operation(False, key.family, name, prefix + schema.number_bytes(base + i))
            for i in range(keep, len(slots))
        ]
    own_elements = state.own_elements
    if own_elements and not state.guarded:
        stale = [k for k in own_elements if k[0] == schema.SOURCE_RANGES]
        gone += [Operation(False, key.family, *k) for k in stale]
        own_elements = {k: v for k, v in own_elements.items() if k[0] != schema.SOURCE_RANGES}
    kept = (state.slot_ranges[0][: drawn[0]], state.slot_ranges[1][: drawn[1]])
    return Step([], [], gone, FrontendState(state.verdict, kept, own_elements), lingers=False)


def _drawn(verdict: Verdict | None) -> tuple[int, int]:
    """Return how many slots of each slot range a verdict's chain draws from."""
    shape = shape_of(verdict)
    if shape is None:
        return 0, 0
    return (shape.local, shape.cluster) if shape.policy is Policy.LOCAL else (shape.cluster, 0)


def arrange(slots: Sequence[Destination], wanted: Sequence[Destination]) -> list[Destination]:
    """
    Return what the first len(wanted) slots should hold, moving as little as possible.

    Which endpoint sits in which slot is history, not meaning: what is there and wanted stays.
    """
    count = len(wanted)
    result: list[Destination | None] = list(slots[:count])
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
    return result  # type: ignore[return-value]  # every hole has been filled


def _fill_range(
    key: FrontendKey,
    base: int,
    slots: Sequence[Destination],
    wanted: tuple[Destination, ...],
    operations: list[Operation],
) -> Sequence[Destination]:
    """Append the operations that fill a slot range, and return its contents afterwards."""
    if not wanted:
        return slots
    if not slots:
        new: Sequence[Destination] = wanted
    else:
        new = arrange(slots, wanted)
    family, name, prefix = key.family, slot_map(key), slot_prefix(key)
    held = len(slots)
    for index, destination in enumerate(new):
        if index < held:
            if slots[index] == destination:
                continue
            where = prefix + schema.number_bytes(base + index)
            operations.append(Operation(False, family, name, where))
        else:
            where = prefix + schema.number_bytes(base + index)
        operations.append(Operation(True, family, name, where, destination))
    return [*new, *slots[len(new) :]] if held > len(new) else new


def _own_elements(
    family: Family,
    state: FrontendState,
    wanted: Frontend | None,
    prepare: list[Operation],
    main: list[Operation],
) -> dict[ElementKey, Value]:
    """Append the operations on the further elements, and return those there are afterwards."""
    want: dict[ElementKey, Value] = (
        {(e.set, e.key): e.value for e in wanted.own_elements} if wanted else {}
    )
    if want == state.own_elements:
        return state.own_elements
    guarded = wanted is not None and wanted.guarded
    result = dict(want)
    for element, value in state.own_elements.items():
        if element in want and want[element] == value:
            continue
        if element[0] == schema.SOURCE_RANGES and not guarded:
            result[element] = value  # a packet on its way may still be checked against it
            continue
        ranges_unused = element[0] == schema.SOURCE_RANGES and not state.guarded
        (prepare if ranges_unused else main).append(Operation(False, family, *element))
    for element, value in want.items():
        if element in state.own_elements and state.own_elements[element] == value:
            continue
        ranges_unused = element[0] == schema.SOURCE_RANGES and not state.guarded
        (prepare if ranges_unused else main).append(Operation(True, family, *element, value))
    return result


def _lingers(state: FrontendState, wanted: Frontend | None) -> bool:
    slot_ranges = wanted.slot_ranges if wanted else NO_SLOTS
    return (
        len(state.slot_ranges[0]) > len(slot_ranges[0])
        or len(state.slot_ranges[1]) > len(slot_ranges[1])
        or (
            not (wanted and wanted.guarded)
            and any(name == schema.SOURCE_RANGES for name, _ in state.own_elements)
        )
    )


def slot_map(key: FrontendKey) -> str:
    """Return the map that holds a frontend's slots."""
    maps = schema.ENDPOINTS if key.address else schema.NODE_PORT_ENDPOINTS
    return maps[key.protocol]


def slot_prefix(key: FrontendKey) -> bytes:
    """Return what all keys of a frontend's slots begin with."""
    return key.address + schema.port_bytes(key.port)


def _verdict_map(key: FrontendKey) -> str:
    return schema.FRONTENDS if key.address else schema.NODE_PORTS


def _verdict_key(key: FrontendKey) -> bytes:
    return key.address + schema.protocol_bytes(key.protocol) + schema.port_bytes(key.port)


def elements_of(key: FrontendKey, state: FrontendState) -> Iterator[Operation]:
    """Yield every element of a frontend in the kernel, as the operation that adds it."""
    if state.verdict is not None:
        yield Operation(True, key.family, _verdict_map(key), _verdict_key(key), state.verdict)
    prefix, name = slot_prefix(key), slot_map(key)
    for base, slots in ((0, state.slot_ranges[0]), (schema.CLUSTER_BASE, state.slot_ranges[1])):
        for index, destination in enumerate(slots):
            where = prefix + schema.number_bytes(base + index)
            yield Operation(True, key.family, name, where, destination)
    for element, value in state.own_elements.items():
        yield Operation(True, key.family, *element, value)
