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
    assert min(*result.status, *result.service_page) > 0
    assert min(result.health_busy_s, result.health_page_s, result.planning_busy_s) > 0


def test_targets_are_judged() -> None:
    """What is slow, or delays the daemon, is not met."""
    good = Measured(
        size=str(LARGE),
        explain_node=[0.29],
        explain_api=[1.9],
        services=[0.9],
        health_idle_s=0.001,
        health_busy_s=0.02,
        status=[0.19],
        page=[0.19],
        service_page=[0.1],
        health_page_s=0.02,
        planning_idle_s=0.002,
        planning_busy_s=0.02,
        resident=100_000_000,
        resident_after=102_000_000,
    )
    bad = msgspec.structs.replace(
        good,
        explain_node=[0.31],
        explain_api=[2.1],
        services=[1.1],
        health_busy_s=0.03,
        status=[0.21],
        page=[0.21],
        planning_busy_s=0.03,
        resident_after=104_000_000,
    )

    assert [target.met for target in targets([good])] == [True] * 8
    assert [target.met for target in targets([bad])] == [False] * 8
