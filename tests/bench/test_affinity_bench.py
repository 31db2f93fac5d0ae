"""The benchmark of session affinity works. How long anything takes is not asserted."""

import pytest

from bench.affinity import HEADS, PORT_HEADS, cells, measure, measure_ports, port_cells

pytestmark = pytest.mark.doubles


def test_clients_are_recorded(namespaces_allowed: None) -> None:
    """With none, and with some."""
    for count in (0, 50):
        row = cells(measure(count))
        assert len(row) == len(HEADS)
        assert row[0] == str(count)


def test_sticky_services_are_switched_on(namespaces_allowed: None) -> None:
    """A few, all at once."""
    row = port_cells(measure_ports(3))

    assert len(row) == len(PORT_HEADS)
    assert row[0] == "3"
