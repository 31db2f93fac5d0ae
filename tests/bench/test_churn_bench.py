"""The benchmark of many kinds of changes works. How long anything takes is not asserted."""

import msgspec
import pytest

from bench.churn import Churned
from bench.quickly import output_of

pytestmark = pytest.mark.doubles


def test_changes_are_made_and_committed(namespaces_allowed: None) -> None:
    """All kinds in turn, with a daemon that uses processor time and memory."""
    (result,) = msgspec.json.decode(output_of("bench.churn"), type=list[Churned])

    assert result.kind == "mixed"
    assert result.made_per_s > 5
    assert result.commits_per_s > 0
    assert 0 <= result.children <= result.processor
    assert min(result.memory) > 10e6
