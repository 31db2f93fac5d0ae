"""
Operations in portions that each fit the kernel's buffer for one transaction.

A process in a user namespace cannot have a larger buffer than the system's limit. Then a first load
takes many transactions, in an order in which each of them leaves rules that work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nfproxy.nft import schema
from nfproxy.nft.schema import Interval
from nfproxy.reconcile.transition import Operation

#: What an operation takes beside its key and value: the heads of attributes and, where another set
#: follows, of a message. A range is two elements, and a verdict names a chain.
_OVERHEAD = 224

#: Ranges of these sets may give way to larger ones, so all changes of them go together.
_RANGES = frozenset(name for name, one in schema.SCHEMAS.items() if one.interval is not Interval.NO)


def most_bytes(operation: Operation) -> int:
    """Return a bound of the bytes that an operation takes in a transaction."""
    value = operation.value
    return _OVERHEAD + 2 * len(operation.key) + (len(value) if isinstance(value, bytes) else 0)


def groups_of(operations: Sequence[Operation], ends: Iterable[int]) -> Iterator[list[Operation]]:
    """
    Yield operations in groups that belong into one transaction, in their order.

    `ends` are the indexes where the operations of one frontend end. Those behind the last index are
    in the smallest groups.
    """
    start = 0
    for end in ends:
        if end > start:
            yield list(operations[start:end])
        start = end
    rest = operations[start:]
    ranges = [one for one in rest if one.set in _RANGES]
    if ranges:
        yield ranges
    yield from pieces([one for one in rest if one.set not in _RANGES])


def pieces(operations: Iterable[Operation]) -> Iterator[list[Operation]]:
    """Yield operations one by one; the two that follow each other on one element together."""
    before: Operation | None = None
    for one in operations:
        if before is None:
            before = one
        elif (one.family, one.set, one.key) == (before.family, before.set, before.key):
            yield [before, one]
            before = None
        else:
            yield [before]
            before = one
    if before is not None:
        yield [before]


def portions(groups: Iterable[Sequence[Operation]], limit: int) -> Iterator[list[Operation]]:
    """
    Yield groups of operations joined to transactions of at most `limit` bytes, in their order.

    A group that is larger is cut. A frontend's verdict is the last of its operations, so packets
    find the old number of endpoints until all new ones are there.
    """
    portion: list[Operation] = []
    size = 0
    for group in groups:
        needed = sum(map(most_bytes, group))
        if portion and size + needed > limit:
            yield portion
            portion, size = [], 0
        if needed > limit and len(group) > 2:
            yield from portions(pieces(group), limit)
            continue
        portion.extend(group)
        size += needed
    if portion:
        yield portion
