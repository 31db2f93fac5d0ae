"""The benchmark of remembered clients works. How long anything takes is not asserted."""

import pytest

from bench.affinity import HEADS, cells, measure

pytestmark = pytest.mark.doubles


def test_clients_are_recorded(namespaces_allowed: None) -> None:
    """With none, and with some."""
    for count in (0, 50):
        row = cells(measure(count))
        assert len(row) == len(HEADS)
        assert row[0] == str(count)
