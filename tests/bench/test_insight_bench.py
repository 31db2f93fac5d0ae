"""The insight benchmark works. How long anything takes is not asserted."""

import pytest

from bench.insight import measure
from bench.objects import Size

pytestmark = pytest.mark.doubles


def test_every_row_is_measured(namespaces_allowed: None) -> None:
    rows = list(measure(Size(20, 2), 500, 20, 1))
    assert len(rows) == 6
    assert all(row.ms > 0 for row in rows)
    assert rows[3].what == "500 connections: those of one frontend"
