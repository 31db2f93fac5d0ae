"""The benchmark of repairs works. How long anything takes is not asserted."""

from __future__ import annotations

import msgspec
import pytest

from bench.quickly import output_of
from bench.repairs import QUICK_KINDS, Repair

pytestmark = pytest.mark.doubles


def test_some_kinds_are_repaired() -> None:
    """Both times are there. `tests/commands/test_foreign_changes.py` makes changes of all kinds."""
    results = msgspec.json.decode(output_of("bench.repairs"), type=list[Repair])
    assert [result.kind for result in results] == QUICK_KINDS
    assert all(0 < result.said[0] < 60 and 0 <= result.seen[0] < 60 for result in results)
