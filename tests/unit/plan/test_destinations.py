"""Destinations in one piece are the sequence that they were made of."""

from __future__ import annotations

import sys

import pytest

from nfproxy.plan.endpoints import Destinations, pack

SOME = tuple(b"\x0a\x00\x00" + bytes([number]) + b"\x00\x50\x00\x00" for number in range(50))


@pytest.mark.parametrize("given", [SOME, SOME[:1], tuple(d * 2 for d in SOME)])
def test_they_are_a_sequence(given: tuple[bytes, ...]) -> None:
    """Length, order, membership and single ones."""
    packed = pack(given)

    assert isinstance(packed, Destinations)
    assert (*packed,) == given
    assert len(packed) == len(given)
    assert packed[0] == given[0]
    assert packed[-1] == given[-1]
    assert given[-1] in packed
    assert given[-1][1:] not in packed
    with pytest.raises(IndexError):
        packed[len(given)]


def test_nothing_is_false() -> None:
    """As a tuple."""
    assert pack(()) == ()


@pytest.mark.parametrize("part", [slice(0), slice(3), slice(10, 20), slice(99), slice(None, 0, -7)])
def test_a_part_is_a_sequence_too(part: slice) -> None:
    """The same part of a tuple."""
    assert (*pack(SOME)[part],) == SOME[part]


def test_the_whole_exists_once() -> None:
    """A limit that nothing exceeds copies nothing."""
    packed = pack(SOME)
    assert packed[:50] is packed
    assert packed[:99] is packed


def test_equality_looks_at_what_they_hold() -> None:
    """Of a tuple and of another object; a hash follows."""
    packed = pack(SOME)

    assert packed == pack(iter(SOME))
    assert packed == SOME
    assert packed == SOME
    assert packed != pack(SOME[1:])
    assert packed != SOME[:-1]
    assert packed != b"".join(SOME)
    assert hash(packed) == hash(SOME)


def test_they_take_little_memory() -> None:
    """Objects of their own would take six times as much."""
    packed = pack(SOME)
    alone = sys.getsizeof(SOME) + sum(map(sys.getsizeof, SOME))

    assert sys.getsizeof(packed) + sys.getsizeof(packed._packed) < alone / 4
