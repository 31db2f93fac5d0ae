"""
What ``explain`` and ``services`` print about a cluster with mistakes: at 80 and 160 columns, piped.

After a wanted change: ``pytest tests/golden --update-golden``, then read the difference.
"""

import msgspec
import pytest
from support.insight import SHOP, shop, sight

from nfproxy.cli.explaintext import explanation_lines, explanation_rows
from nfproxy.cli.services import busy_cells, busy_lines, overview_lines, overview_rows
from nfproxy.insight.client import explain_client
from nfproxy.insight.clientidentity import client_of
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.fleet import explain_everywhere
from nfproxy.insight.nodefacts import ConnectionCounts, Received
from nfproxy.insight.overview import LastVersion, overview, service_rows
from nfproxy.insight.question import parse_question
from nfproxy.insight.rowcounts import with_counts
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.plan.frontends import FrontendKey

HERE = sight(*shop())
QUESTIONS = {
    "works": "shop/web",
    "no-slices": "shop/orders",
    "port-not-in-slices": "shop/catalog",
    "port-name-differs": "shop/billing",
    "none-ready": "shop/search",
    "no-local-external": "shop/audit",
    "no-local-internal": "shop/logs",
    "source-ranges": "shop/api",
    "terminating": "shop/jobs",
    "conflict": "team-b/mail2",
    "headless": "shop/peers",
    "unknown": "shop/wbe",
    "address": "203.0.113.120:80",
    "unallocated": "10.96.0.77:80",
    "node-port": ":30080",
    "pod": "10.244.1.15",
}
#: What is asked about, and by whom.
CLIENTS = {
    "from-no-range": ("203.0.113.80:80", "192.168.77.100"),
    "from-a-range": ("shop/api", "10.1.2.3"),
    "from-itself": ("shop/web", "shop/p11"),
    "from-outside-local": ("shop/audit", "8.8.8.8"),
    "from-another-family": ("shop/web", "2001:db8::1"),
}


def text(found: Explanation) -> str:
    """Return all three forms."""
    parts = []
    for width in (80, 160):
        lines = "\n".join(explanation_lines(found, width))
        parts.append(f"##### {width} columns\n{lines}\n")
    rows = "\n".join("\t".join(row) for row in explanation_rows(found))
    return "\n".join((*parts, f"##### piped\n{rows}\n"))


def compare(name: str, written: str, pytestconfig: pytest.Config) -> None:
    """Compare with the file of that name, or write it."""
    expected = SHOP.with_name(f"{name}.txt")
    if pytestconfig.getoption("update_golden"):
        expected.write_text(written, "utf-8")

    assert written == expected.read_text("utf-8")


@pytest.mark.parametrize("name", QUESTIONS)
def test_one_node(name: str, pytestconfig: pytest.Config) -> None:
    """Verdict, findings, tables."""
    compare(name, text(explain(HERE, parse_question(QUESTIONS[name]))), pytestconfig)


@pytest.mark.parametrize("name", CLIENTS)
def test_one_client(name: str, pytestconfig: pytest.Config) -> None:
    """Its steps, and what it gets elsewhere."""
    question = parse_question(CLIENTS[name][0])
    client = client_of(HERE, CLIENTS[name][1])
    found = explain_client(HERE, question, explain(HERE, question), client)

    compare(name, text(found), pytestconfig)
    assert max(map(len, explanation_lines(found, 80))) <= 80


def test_all_nodes(pytestconfig: pytest.Config) -> None:
    """A row for each."""
    sights = [HERE, sight(*shop(), node="node-2")]
    found = explain_everywhere(sights, parse_question("shop/audit"))

    compare("all-nodes", text(found), pytestconfig)


@pytest.mark.parametrize("name", QUESTIONS)
def test_lines_fit_at_80_columns(name: str) -> None:
    """But for commands to copy, which are never broken."""
    lines = explanation_lines(explain(HERE, parse_question(QUESTIONS[name])), 80)

    assert [line for line in lines if len(line) > 80 and "kubectl" not in line] == []


@pytest.mark.parametrize("only_problems", [False, True], ids=["services", "services-problems"])
def test_services(only_problems: bool, pytestconfig: pytest.Config) -> None:
    """A row for each Service port; what is wrong with the node comes once."""
    found = overview(HERE, service_rows(HERE))
    if only_problems:
        rows = tuple(row for row in found.services if row.is_notable)
        found = msgspec.structs.replace(found, services=rows)
    parts = [
        f"##### {width} columns\n" + "\n".join(overview_lines(found, width)) + "\n"
        for width in (80, 160)
    ]
    rows_text = "\n".join("\t".join(row) for row in overview_rows(found))
    written = "\n".join((*parts, f"##### piped\n{rows_text}\n"))

    compare("services-problems" if only_problems else "services", written, pytestconfig)


def test_services_in_force(pytestconfig: pytest.Config) -> None:
    """With what the daemon knows of each, and the kernel counts; and as --watch prints them."""
    states = {
        "audit": LastVersion(is_held=True, since="2026-11-30T05:47:10Z"),
        "billing": LastVersion(
            is_held=False, error="10.96.0.40:80/tcp: the kernel refuses it (EINVAL)"
        ),
        "jobs": LastVersion(is_held=False),
    }
    usual = LastVersion(is_held=True, since="2026-11-27T01:10:00Z")
    found = overview(HERE, service_rows(HERE, in_force=lambda name: states.get(name.name, usual)))
    web = FrontendKey(Family.IPV4, parse_address("10.96.0.10"), Protocol.TCP, 80)
    orders = FrontendKey(Family.IPV4, parse_address("10.96.0.20"), Protocol.TCP, 80)
    ends = HERE.planner.desired.frontends[web].slot_ranges[0]
    counts = {ends[0]: ConnectionCounts(open=31), ends[1]: ConnectionCounts(open=9, unanswered=3)}
    received = {web: Received(212), orders: Received(1200, is_refused=True)}
    rows = with_counts(found.services, received, {web: counts})
    seen = msgspec.structs.replace(found.seen, at="2026-11-30T05:47:24Z")
    found = msgspec.structs.replace(found, services=rows, seen=seen)
    parts = [
        *(f"##### {n} columns\n" + "\n".join(overview_lines(found, n)) + "\n" for n in (80, 160)),
        "##### piped\n" + "\n".join("\t".join(row) for row in overview_rows(found)) + "\n",
        *(f"##### --watch, {n}\n" + "\n".join(busy_lines(found, n)) + "\n" for n in (80, 160)),
        "##### --watch, piped\n"
        + "\n".join("\t".join(cell or "-" for cell in busy_cells(row)) for row in rows),
    ]

    compare("services-in-force", "\n".join(parts), pytestconfig)
