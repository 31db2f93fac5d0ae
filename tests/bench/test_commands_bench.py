"""The benchmark of explain and services works. How long anything takes is not asserted."""

from __future__ import annotations

import msgspec
import pytest

from bench.commands import LARGE, Measured, targets
from bench.quickly import output_of

pytestmark = pytest.mark.doubles


def test_every_number_is_there() -> None:
    """Each command ran, and the health page answered meanwhile."""
    (result,) = msgspec.json.decode(output_of("bench.commands"), type=list[Measured])

    assert min(*result.explain_node, *result.explain_api, *result.services, *result.page) > 0
    assert min(result.health_busy_s, result.health_page_s) > 0


def test_targets_are_judged() -> None:
    """What is slow, or delays the daemon, is not met."""
    good = Measured(str(LARGE), [0.29], [1.9], [0.9], 0.001, 0.02, [0.19], 0.02, 0, 0)
    bad = Measured(str(LARGE), [0.31], [2.1], [1.1], 0.001, 0.03, [0.21], 0.02, 0, 0)

    assert [target.met for target in targets([good])] == [True] * 5
    assert [target.met for target in targets([bad])] == [False] * 5
