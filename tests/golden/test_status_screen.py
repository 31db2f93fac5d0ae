"""
What ``status`` prints: at 80 and 160 columns, piped.

After a wanted change: ``pytest tests/golden --update-golden``, then read the difference.
"""

from pathlib import Path

import pytest

from nfproxy.cli.status import status_lines, status_rows
from nfproxy.insight.changerecord import ChangeRecord
from nfproxy.insight.nodefacts import TrackedUse
from nfproxy.insight.nodestatus import (
    DaemonFacts,
    ForeignSummary,
    ServiceStates,
    daemon_rows,
)
from nfproxy.insight.statusscreen import Mark, StatusRow, StatusScreen
from nfproxy.insight.trackedtotals import TrackedTotals
from nfproxy.model.addresses import Family, parse_prefix
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.plan.sizes import FamilySize

CALM = DaemonFacts(
    sizes={Family.IPV4: FamilySize(22, 30)},
    config=NodeConfig(
        node_name="node-1",
        local_pods=LocalPods(
            {Family.IPV4: parse_prefix("10.244.0.0/16")},
            own={Family.IPV4: (parse_prefix("10.244.1.0/24"),)},
        ),
        node_port_prefixes={Family.IPV4: (parse_prefix("192.168.77.11/32"),)},
    ),
    source=("API server", "192.168.77.1:6443"),
    trouble="",
    overdue="",
    kernel="",
    node_trouble="",
    read_ago_s=725.0,
    services=ServiceStates(total=15),
    foreign=ForeignSummary(),
    tracked=TrackedUse(149, 262144),
    heard_ago_s=0.84,
    slices=14,
    totals=TrackedTotals({}),
)
LAST = ChangeRecord(
    at="2026-11-30T05:47:21.000Z",
    what="deleted table ip nfproxy",
    by="nft (pid 1924)",
    after_ms=30_000.0,
)
TROUBLED = CALM._replace(
    config=NodeConfig(
        node_name="node-1",
        local_pods_mismatch=("clusterCIDR 10.245.0.0/16 does not hold podCIDR 10.244.1.0/24",),
        node_port_prefixes={Family.IPV4: None},
    ),
    trouble="the API server cannot be followed; the log says why",
    overdue="nft (pid 1924) deleted table ip nfproxy",
    kernel="the kernel refuses 1 part of what it should hold; see the log",
    node_trouble="the Node object was deleted",
    services=ServiceStates(
        total=15, refused=4, dropped=1, outside=1, conflicts=1, claims_refused=2, limited=1
    ),
    foreign=ForeignSummary(12, LAST),
    tracked=TrackedUse(262000, 262144),
)
SCREENS = {
    "calm": (CALM, "2026-11-30T05:47:12Z"),
    "troubled": (TROUBLED, ""),
    "left": (
        CALM._replace(totals=TrackedTotals({}, overdue=1200, stale=3), heard_ago_s=45.0),
        "2026-11-30T05:47:12Z",
    ),
    "starting": (
        CALM._replace(
            config=None,
            sizes={},
            overdue="0 of 15 Services are programmed",
            read_ago_s=None,
            totals=None,
        ),
        "",
    ),
}


def screen(facts: DaemonFacts, since: str) -> StatusScreen:
    """Return the status of a node at a certain time."""
    return StatusScreen(
        node="node-1",
        version="0.1.0",
        pid=1,
        started="2026-11-27T01:00:00Z",
        since=since,
        at="2026-11-30T05:47:26Z",
        rows=tuple(daemon_rows(facts)),
    )


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen(name: str, pytestconfig: pytest.Config) -> None:
    """The verdict, then a row for each subject."""
    found = screen(*SCREENS[name])
    parts = [f"##### {n} columns\n" + "\n".join(status_lines(found, n)) for n in (80, 160)]
    parts.append("##### piped\n" + "\n".join("\t".join(row) for row in status_rows(found)))
    written = "\n\n".join(parts) + "\n"
    expected = Path(__file__).with_name("status") / f"{name}.txt"
    if pytestconfig.getoption("update_golden"):
        expected.write_text(written, "utf-8")

    assert written == expected.read_text("utf-8")


@pytest.mark.parametrize(
    ("facts", "subject", "level"),
    [
        (CALM, "services", Mark.OK),
        (CALM._replace(services=ServiceStates(outside=3)), "services", Mark.OK),
        (CALM._replace(services=ServiceStates(conflicts=1)), "services", Mark.WARN),
        (CALM._replace(services=ServiceStates(refused=1)), "services", Mark.FAIL),
        (CALM._replace(services=ServiceStates(waiting=1)), "programmed", Mark.WARN),
        (CALM._replace(totals=TrackedTotals({}, stale=1)), "connections", Mark.WARN),
        (CALM._replace(tracked=TrackedUse(210_000, 262_144)), "connections", Mark.WARN),
        (CALM._replace(tracked=TrackedUse(262_144, 262_144)), "connections", Mark.FAIL),
        (CALM._replace(foreign=ForeignSummary(1, LAST)), "changed by others", Mark.WARN),
    ],
)
def test_levels(facts: DaemonFacts, subject: str, level: Mark) -> None:
    """What answers outside clients on other nodes only is intended."""
    rows: dict[str, StatusRow] = {row.subject: row for row in daemon_rows(facts)}
    assert rows[subject].level is level
    assert bool(rows[subject].look) == (level is not Mark.OK)
