"""The benchmark of scaling works. How long anything takes is not asserted."""

from __future__ import annotations

import msgspec
import pytest

from bench.quickly import output_of
from bench.scaling import Change, percentiles, targets


@pytest.mark.doubles
def test_each_change_says_what_it_waited_for() -> None:
    """The processor, at least, and what the daemon's log says of it."""
    changes = msgspec.json.decode(output_of("bench.scaling"), type=list[Change])
    assert [change.endpoints for change in changes] == [3, 4, 5, 6]
    assert all(change.seconds > 0 for change in changes)
    assert all("for a processor: nfproxy" in change.cause for change in changes)
    assert "INFO synced bench/service-00000:http" in changes[0].cause


def test_targets_are_judged() -> None:
    """One slow change of a hundred is allowed, up to 50 ms."""
    changes = [Change(5, 0.001, (0.0, 0.0), [], [])] * 99
    slow, very_slow = (Change(6, s, (s, 0.0), [0.004], ["line"]) for s in (0.04, 0.06))

    assert percentiles([*changes, slow]) == (0.001, 0.001, 0.04)
    assert [target.met for target in targets([*changes, slow])] == [True, True]
    assert [target.met for target in targets([*changes[2:], slow, very_slow])] == [False, False]
    assert slow.cause == (
        "for a processor: nfproxy 40.0 ms, the bench 0.0 ms; "
        "for a commit without elements after 4.0 ms; line"
    )
