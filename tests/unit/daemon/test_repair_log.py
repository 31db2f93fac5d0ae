"""What the log says about foreign changes and their repair."""

import logging

import pytest

from nfproxy.daemon.repairlog import RepairLog
from nfproxy.dataplane.notifications import Damage, ForeignChange
from nfproxy.model.addresses import FAMILIES, Family

DELETED = ForeignChange(
    Damage.TABLE, frozenset(FAMILIES), "nft (pid 7) deleted table ip nfproxy and ip6 nfproxy"
)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines since the last call, with their level."""
    found = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    caplog.clear()
    return found


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_a_deleted_table_is_an_error_and_its_repair_says_how_long_it_took(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From the change on, not from the beginning of the repair."""
    log = RepairLog(FAMILIES)
    log.changed(DELETED, 0.0, 100.0)
    log.repair_failed(OSError("No buffer space"), 0.25)
    log.repaired(12, 100.074)

    assert lines(caplog) == [
        "ERROR nft (pid 7) deleted table ip nfproxy and ip6 nfproxy: NO SERVICE WORKS ON THIS NODE "
        "until it is repaired; repairing now",
        "ERROR No buffer space; the tables are not repaired yet, next try in 0.25 s",
        "INFO repaired table ip nfproxy and ip6 nfproxy, 74 ms after the change: 12 elements "
        "put right",
    ]


def test_a_repair_of_rules_alone_counts_no_elements(caplog: pytest.LogCaptureFixture) -> None:
    """They are loaded as a whole: "0 elements put right" would say that nothing was wrong."""
    log = RepairLog(FAMILIES)
    log.changed(DELETED._replace(damage=Damage.RULES), 0.0, 100.0)
    log.repaired(0, 100.02)

    assert lines(caplog)[-1] == (
        "INFO repaired table ip nfproxy and ip6 nfproxy, 20 ms after the change"
    )


@pytest.mark.parametrize(
    ("families", "over"), [(FAMILIES, " OVER IPv4"), ((Family.IPV4,), "")], ids=["dual", "one"]
)
def test_the_consequence_names_the_family_where_there_is_another(
    caplog: pytest.LogCaptureFixture, families: tuple[Family, ...], over: str
) -> None:
    """Of a base chain, not every Service may depend."""
    one = DELETED._replace(families=frozenset({Family.IPV4}))
    log = RepairLog(families)
    log.changed(one, 0.0, 100.0)
    log.changed(one._replace(damage=Damage.BASE_CHAIN), 0.0, 100.0)

    said = [line.partition(": ")[2].partition(" until")[0] for line in lines(caplog)]
    assert said == [f"NO SERVICE WORKS{over} ON THIS NODE", f"SERVICES FAIL{over} ON THIS NODE"]


def test_dropped_announcements_are_no_foreign_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The tables may turn out to be right."""
    log = RepairLog(FAMILIES)
    log.changed(DELETED._replace(damage=Damage.UNKNOWN, what="perhaps"), 0.0, 100.0)
    assert not log.knows_a_change
    log.repaired(0, 101.0)

    assert lines(caplog) == ["INFO perhaps; reading the tables"]


def test_a_process_that_goes_on_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """
    The first few changes have their lines, then one each ten seconds, which counts the others.
    """
    log = RepairLog(FAMILIES)
    for number in range(200):
        log.changed(DELETED, 0.0, 100.0 + number / 4)
        log.repaired(0, 100.1 + number / 4)
    found = [line for line in lines(caplog) if "deleted" in line]

    assert len(found) == 5 + 4
    assert found[-1].endswith("; repairing now (39 earlier repairs not logged)")

    log.changed(DELETED, 0.0, 1000.0)
    assert len(lines(caplog)) == 1
