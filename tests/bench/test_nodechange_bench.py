"""The benchmark of changes of the Node works. How long anything takes is not asserted."""

import msgspec
import pytest

from bench.nodechange import HEADS
from bench.quickly import output_of

pytestmark = pytest.mark.doubles


def test_the_node_changes() -> None:
    """Two endpoints of four are replaced by those of the other zone, a Service at a time."""
    rows = msgspec.json.decode(output_of("bench.nodechange"), type=list[list[str]])

    assert all(len(row) == len(HEADS) for row in rows)
    counts = {row[0]: int(row[1].replace(",", "")) for row in rows}
    assert 80 <= counts["zone"] <= 90
    assert counts["address"] <= 10
    assert counts["range of its pods"] <= 10
