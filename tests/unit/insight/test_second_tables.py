"""What is said of tables ``nfproxy-next``."""

from collections.abc import Iterable

import pytest
from support.onnode import held, joined

from nfproxy.insight.nodestatus import second_rows
from nfproxy.insight.secondtables import second_tables
from nfproxy.insight.statusscreen import Mark
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.nft.schema import NEXT_TABLE, TABLE
from nfproxy.nft.stages import FamilyTables

BOTH, FIRST, SECOND = (frozenset(names) for names in ((TABLE, NEXT_TABLE), (TABLE,), (NEXT_TABLE,)))


@pytest.mark.parametrize(
    ("tables", "runs", "said", "look"),
    [
        (FamilyTables(BOTH, FIRST), True, "ip nfproxy-next is not in force. If that was left", ""),
        (FamilyTables(BOTH, SECOND), True, "are being replaced: ip nfproxy-next is in force", ""),
        (
            FamilyTables(SECOND, SECOND),
            False,
            "did not end: ip nfproxy-next is in",
            "start nfproxy",
        ),
        (FamilyTables(BOTH, BOTH), True, "beside", "nft delete table ip nfproxy-next"),
        (FamilyTables(BOTH, BOTH), False, "beside", "nft delete table ip nfproxy-next"),
    ],
)
def test_words(tables: FamilyTables, runs: bool, said: str, look: str) -> None:
    """They say which table packets come to, and what to do."""
    found = second_tables({Family.IPV4: tables}, runs=runs)

    assert found is not None
    assert said in found.text
    assert found.look == look
    (row,) = second_rows({Family.IPV4: tables}, runs=runs)
    assert (row.level is Mark.FAIL) == (tables.in_force == BOTH)


def test_nothing_is_said_where_there_are_none() -> None:
    """Nearly always."""
    assert second_tables({Family.IPV4: FamilyTables(FIRST, FIRST)}, runs=True) is None
    assert second_tables({}, runs=False) is None


def test_which_table_serves() -> None:
    """The usual one, where both are in force or none is."""
    assert FamilyTables(BOTH, SECOND).serving == NEXT_TABLE
    assert {FamilyTables(BOTH, one).serving for one in (BOTH, FIRST, frozenset())} == {TABLE}


@pytest.mark.parametrize(
    ("families", "text"),
    [
        ([Family.IPV4], "ip nfproxy is of another version: its elements were not read"),
        (FAMILIES, "ip nfproxy and ip6 nfproxy are of another version: their elements were not"),
    ],
)
def test_tables_of_another_version_that_were_not_read_are_named(
    families: Iterable[Family], text: str
) -> None:
    """A note: what is in force may serve."""
    found = joined(held=held(other_layout=frozenset(families))).findings

    assert [one for one in found if one.message.startswith(text)]
