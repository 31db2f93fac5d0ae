"""
Operations in transactions that each fit the kernel's buffer.

A process in a user namespace cannot have a larger buffer than the system's limit. In their order,
operations may be cut wherever two of them are not about one element.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from nfproxy.nft import schema
from nfproxy.nft.schema import Interval
from nfproxy.reconcile.transition import Operation

#: What an operation takes beside its key and value: the heads of attributes and, where another set
#: follows, of a message. A range is two elements, and a verdict names a chain.
_OVERHEAD = 224

#: And with the name of a service port.
_COMMENT = 140

#: Ranges of these sets may give way to larger ones, so neighbours among their changes go together.
_RANGES = frozenset(name for name, one in schema.SCHEMAS.items() if one.interval is not Interval.NO)


def most_bytes(operation: Operation) -> int:
    """Return a bound of the bytes that an operation takes in a transaction."""
    value = operation.value
    if operation.set in schema.COUNTED:
        return _OVERHEAD + 2 * len(operation.key) + _COMMENT
    return _OVERHEAD + 2 * len(operation.key) + (len(value) if isinstance(value, bytes) else 0)


def portions(
    operations: list[Operation], limit: int | None, most: int = sys.maxsize
) -> Iterator[list[Operation]]:
    """
    Yield operations in transactions of at most `limit` bytes, in their order; None: no limit.

    Without one, a transaction has about `most` operations.
    """
    if limit is None:
        yield from _cut(operations, most)
        return
    portion: list[Operation] = []
    size = 0
    for unit in _units(operations):
        needed = sum(map(most_bytes, unit))
        if portion and size + needed > limit:
            yield portion
            portion, size = [], 0
        portion += unit
        size += needed
    if portion:
        yield portion


def _cut(operations: list[Operation], most: int) -> Iterator[list[Operation]]:
    start, end = 0, len(operations)
    while start < end:
        stop = min(start + most, end)
        while stop < end and not _may_cut(operations[stop - 1], operations[stop]):
            stop += 1
        yield operations[start:stop] if start or stop < end else operations
        start = stop


def _units(operations: Iterable[Operation]) -> Iterator[list[Operation]]:
    """Yield what must not be cut."""
    unit: list[Operation] = []
    for operation in operations:
        if unit and _may_cut(unit[-1], operation):
            yield unit
            unit = []
        unit.append(operation)
    if unit:
        yield unit


def _may_cut(before: Operation, after: Operation) -> bool:
    if before.set in _RANGES and before[1:3] == after[1:3]:
        return False
    return before[1:4] != after[1:4]
