"""How long to wait before another try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfproxy.backoff import FIRST_S, LAST_S, LONGEST_WISH_S, delay_s

chances = st.floats(0, 1)


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 0.1), (2, 0.2), (5, 1.6), (9, 25.6), (10, 30.0), (10**9, 30.0)]
)
def test_each_failure_doubles_the_wait_up_to_half_a_minute(failures, expected):
    """
    Quick at first, since most troubles are short.
    """
    assert delay_s(failures, 0.0) == pytest.approx(expected)


@given(st.integers(1, 10**6), chances, st.none() | st.floats(allow_nan=False))
def test_no_wait_is_nothing_or_for_ever(failures, chance, wish_s):
    """
    Whatever a server wishes, there is a pause, and an end to it.
    """
    assert FIRST_S / 2 <= delay_s(failures, chance, wish_s) <= LONGEST_WISH_S + LAST_S


@given(st.integers(1, 50), chances, st.floats(0, LONGEST_WISH_S))
def test_a_wish_is_never_undercut(failures, chance, wish_s):
    """
    Retry-After is the least there is.
    """
    assert delay_s(failures, chance, wish_s) >= wish_s


def test_chance_spreads_the_nodes_of_a_cluster():
    """
    Half of the wait is left to it, after a wish too.
    """
    assert [delay_s(5, c) for c in (0.0, 0.5, 1.0)] == pytest.approx([1.6, 1.2, 0.8])
    assert delay_s(5, 0.0, 10.0) < delay_s(5, 1.0, 10.0)
