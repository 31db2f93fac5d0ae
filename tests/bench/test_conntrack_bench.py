"""
The conntrack benchmark works: what it fills in is found. How long anything takes is not asserted.
"""

import pytest

from bench.conntrack import HEADS, measure
from nfproxy.tools.lab import Lab

pytestmark = pytest.mark.doubles


def test_every_stale_entry_is_found(namespaces_allowed: None) -> None:
    """A tenth of the entries leads to each endpoint, and pyroute2 counts the same."""
    with Lab() as lab:
        rows = lab.namespace("conntrack").call(lambda: list(measure(2000, 20)))

    counts = {name: (listed, deleted) for name, _, _, listed, deleted, _ in rows}
    assert counts == {
        "entries in the table": ("2,000", ""),
        "one frontend, nothing stale": ("100", "0"),
        "one frontend, a tenth stale": ("100", "10"),
        "20 frontends, nothing stale": ("1,990", "0"),
        "20 frontends, a tenth stale": ("1,990", "190"),
        "all 20 frontends, nothing stale": ("1,800", "0"),
        "pyroute2: one frontend listed": ("90", ""),
        "pyroute2: all listed": ("1,800", ""),
        "all 20 frontends, a tenth stale": ("1,800", "0"),
        "all 20 frontends, everything stale": ("1,800", "1,800"),
        "one frontend, table empty": ("0", "0"),
    }
    assert all(len(row) == len(HEADS) for row in rows)
