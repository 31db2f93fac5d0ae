"""The benchmark works: its tables are complete. How long anything takes is not asserted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from bench.quickly import output_of
from bench.report import markdown, tables
from bench.results import Change, Results, Spread

pytestmark = pytest.mark.doubles


@pytest.fixture(scope="module")
def output() -> str:
    """Run the benchmark once, as its script does."""
    return output_of("bench")


def test_every_number_is_positive(output: str) -> None:
    """Nothing is left at 0, which is what a clock that was never read would show."""
    results = json.loads(output)

    zero = [path for path, number in numbers(results, "") if not number > 0]

    # Nothing may have gone undisturbed, and an nft that loads a tiny ruleset may end before
    # its memory has been looked at, or a clock of 10 ms has ticked.
    tiny = (".quiet", ".baseline[0].peak", ".cpu")
    assert [path for path in zero if not path.endswith(tiny)] == []


def numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield every number in data, with where it is."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from numbers(item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from numbers(item, f"{path}[{index}]")
    elif isinstance(value, int | float):
        yield path, value


def test_tables_are_complete(output: str) -> None:
    """Every size, kind of change, baseline and variant has its place in the tables."""
    results = msgspec.json.decode(output, type=Results)
    shown = {table.title: table for table in tables(results)}

    assert [(m.endpoints, m.services) for m in results.nfproxy] == [(2, 50), (1, 200)]
    for measured in results.nfproxy:
        assert len(measured.changes) == 6
        assert measured.services * (measured.endpoints + 2) <= measured.first_load.operations
    assert list(results.connections) == ["nfproxy", "baseline", "none"]
    for table in shown.values():
        assert all(len(row) == len(table.heads) and all(row) for row in table.rows if row[-1])
    assert len(shown) == 4  # the targets are about other sizes
    assert "| one endpoint replaced |" in markdown(results)


def test_spread_shows_the_middle_and_the_tail() -> None:
    """The 99th percentile is beyond 98 of 100 values, and the median between both halves."""
    changes = [Change(float(n), n / 2, n % 2 == 0) for n in range(100, 0, -1)]

    spread = Spread.of_changes(changes)

    assert spread == Spread(100, 50.5, 100.0, 100.0, kernel=25.25, quiet=50, quiet_p99=99.0)
