"""The benchmark of changes of everything works. How long anything takes is not asserted."""

import msgspec
import pytest

from bench.mass import HEADS
from bench.quickly import output_of

pytestmark = pytest.mark.doubles


def test_everything_changes() -> None:
    """A slot that is replaced is two changes, one of a removed Service one."""
    rows = msgspec.json.decode(output_of("bench.mass"), type=list[list[str]])

    assert all(len(row) == len(HEADS) for row in rows)
    counts = {row[0]: int(row[1].replace(",", "")) for row in rows}
    assert 140 <= counts["first load"] <= 200
    assert 200 <= counts["all endpoints replaced"] <= 210
    assert 100 <= counts["start, half is stale"] <= 110
    assert 140 <= counts["all Services removed"] <= 200
