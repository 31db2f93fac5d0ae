"""The table of connection tracking: read and judged."""

from pathlib import Path

import pytest
from support.preflight import levels, put

from nfproxy.tools.preflight.conntrack import ConntrackTable, judge_conntrack, read_conntrack
from nfproxy.tools.preflight.findings import Level


def test_what_is_read(tmp_path: Path) -> None:
    """Whole numbers are read; anything else is None."""
    directory = "sys/net/netfilter/nf_conntrack"
    files = {f"{directory}_max": "1000\n", f"{directory}_count": "7\n", f"{directory}_buckets": "x"}

    assert ConntrackTable(7, 1000, None, True) == read_conntrack(put(tmp_path / "a", files))
    assert ConntrackTable(None, None, None, False) == read_conntrack(tmp_path / "b")


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        (ConntrackTable(10, 1000, 250, is_writable=True), None, [Level.OK]),
        (ConntrackTable(799, 1000, 250, is_writable=True), 1000, [Level.OK]),
        (ConntrackTable(800, 1000, 250, is_writable=True), None, [Level.WARN]),
        (ConntrackTable(10, 1000, 250, is_writable=True), 2000, [Level.OK, Level.OK]),
        (ConntrackTable(10, 1000, 250, is_writable=False), 2000, [Level.OK, Level.OK]),
        (ConntrackTable(10, 1000, 250, is_writable=True), 500, [Level.OK, Level.OK]),
        (ConntrackTable(10, 1000, 100, is_writable=True), 500, [Level.OK, Level.OK]),
        (ConntrackTable(10, 1000, 1, is_writable=True), 400, [Level.OK, Level.OK, Level.NOTE]),
        (ConntrackTable(10, 1000, 100, is_writable=True), None, [Level.OK, Level.NOTE]),
        (ConntrackTable(10, 0, 0, is_writable=True), None, [Level.WARN]),
        (ConntrackTable(None, None, None, is_writable=False), 1000, [Level.WARN]),
    ],
)
def test_what_is_judged(found: ConntrackTable, wanted: int | None, expected: list[Level]) -> None:
    """A table may be full, short of buckets, or missing."""
    assert expected == levels(judge_conntrack(found, wanted))
