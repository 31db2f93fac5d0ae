"""Exponential back-off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfproxy.backoff import FIRST_S, LAST_S, MAX_RETRY_AFTER_S, Backoff

chances = st.floats(0, 1)


def delay_s(failures: int, chance: float, retry_after_s: float | None = None) -> float:
    """Return the wait after so many failures in a row."""
    backoff = Backoff(jitter=lambda: chance)
    backoff.failures = failures - 1
    return backoff.next_s(retry_after_s)


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 0.1), (2, 0.2), (5, 1.6), (9, 25.6), (10, 30.0), (10**9, 30.0)]
)
def test_each_failure_doubles_the_wait_up_to_half_a_minute(failures, expected):
    """The first attempts follow quickly, since most troubles are short."""
    assert delay_s(failures, 0.0) == pytest.approx(expected)


@given(st.integers(1, 10**6), chances, st.none() | st.floats(allow_nan=False))
def test_every_wait_is_positive_and_bounded(failures, chance, retry_after_s):
    """Whatever Retry-After says, there is a pause, and it ends."""
    wait_s = delay_s(failures, chance, retry_after_s)
    assert FIRST_S / 2 <= wait_s <= MAX_RETRY_AFTER_S + LAST_S


@given(st.integers(1, 50), chances, st.floats(0, MAX_RETRY_AFTER_S))
def test_a_wait_is_never_shorter_than_retry_after(failures, chance, retry_after_s):
    """Retry-After is a lower bound."""
    assert delay_s(failures, chance, retry_after_s) >= retry_after_s


def test_jitter_spreads_the_nodes_of_a_cluster():
    """Up to half of the wait is left to chance, after a Retry-After too."""
    assert [delay_s(5, c) for c in (0.0, 0.5, 1.0)] == pytest.approx([1.6, 1.2, 0.8])
    assert delay_s(5, 0.0, 10.0) < delay_s(5, 1.0, 10.0)


def test_failures_are_counted_until_a_success():
    """After a reset the first wait comes again; bounds are the caller's."""
    backoff = Backoff(1.0, 5.0)
    assert [backoff.next_s() for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    assert backoff.failures == 4
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_a_last_wait_below_the_first_is_the_bound():
    """A configured maximum holds for the first wait, too."""
    assert Backoff(0.25, 0.1).next_s() == 0.1
