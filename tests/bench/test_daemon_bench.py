"""The daemon's benchmark works. How long anything takes is not asserted."""

from __future__ import annotations

import msgspec
import pytest

from bench.daemon import LARGE, Measured, Storm, targets
from bench.quickly import output_of

pytestmark = pytest.mark.doubles


def test_every_number_is_there() -> None:
    """A start, changes one by one and many at a time, with a daemon that uses memory."""
    (result,) = msgspec.json.decode(output_of("bench.daemon"), type=list[Measured])
    (storm,) = result.storms
    assert result.start_processor > 0
    assert result.started > 0
    assert result.resident > 10e6
    assert len(result.latency) == 5
    assert min(result.latency) > 0
    assert storm.commits_per_s > 0


def test_targets_are_judged() -> None:
    """What is slow, large, busy or behind is not met."""
    calm = Storm(50, 500, 500, 20, 0.2, 0.01)
    good = Measured(str(LARGE), 1.7, 139_000_000, 0, 0.004, [0.0019] * 100, [calm])
    bad = Measured(str(LARGE), 1.9, 141_000_000, 0, 0.006, [0.0201] * 100, [])

    assert [target.met for target in targets([good])] == [True] * 6
    assert [target.met for target in targets([bad])] == [False] * 6
