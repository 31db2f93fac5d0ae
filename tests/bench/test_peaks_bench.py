"""The benchmark of memory works. How much it is says nothing at this size."""

import msgspec
import pytest

from bench.peaks import Measured
from bench.quickly import output_of

pytestmark = pytest.mark.doubles


def test_each_stage_is_measured(namespaces_allowed: None) -> None:
    """Three starts, and what everything changes by; in a cgroup where there can be one."""
    (result,) = msgspec.json.decode(output_of("bench.peaks"), type=list[Measured])

    assert len(result.stages) == 7
    for stage in result.stages:
        assert stage.process.peak >= stage.process.settled > 10e6
        assert stage.container is None or stage.container.peak >= stage.container.settled > 10e6
