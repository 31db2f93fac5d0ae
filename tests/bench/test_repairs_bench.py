"""The benchmark of repairs works. How long anything takes is not asserted."""

from __future__ import annotations

import msgspec
import pytest
from support.kernel.foreignchanges import KINDS

from bench.quickly import output_of
from bench.repairs import Repair

pytestmark = pytest.mark.doubles


def test_every_kind_is_repaired() -> None:
    """Both times are there, and the one from outside is the shorter one, or nearly so."""
    results = msgspec.json.decode(output_of("bench.repairs"), type=list[Repair])
    assert [result.kind for result in results] == [*KINDS]
    assert all(0 < result.said[0] < 60 and 0 < result.seen[0] < 60 for result in results)
