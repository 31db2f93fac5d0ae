"""What the templates of the web page show, as values: heads, tables of text, links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlencode

from nfproxy.insight.changerecord import CHANGES_PATH, ChangeRecord, concerning
from nfproxy.insight.explainwords import (
    ANSWERS,
    ENDPOINT_TITLES,
    FRONTEND_TITLES,
    endpoint_cells,
    frontend_cells,
    headline,
    port_label,
    port_text,
    seen_text,
)
from nfproxy.insight.explanation import Conclusion, ExplainedPort, Explanation
from nfproxy.insight.overview import Overview, ServiceRow
from nfproxy.insight.question import ServiceQuestion
from nfproxy.insight.servicelist import Choice, ServiceList
from nfproxy.insight.statusscreen import (
    NODE_PATH,
    SERVICES,
    Mark,
    StatusRow,
    StatusScreen,
    age_text,
)
from nfproxy.insight.unitedfindings import united_findings

_SIGNS = {
    Conclusion.WORKS: "✓",
    Conclusion.PARTLY: "◐",
    Conclusion.REFUSED: "✗",
    Conclusion.DROPPED: "✗",
    Conclusion.UNKNOWN: "?",
}
_CHANGE_TITLES = ("Time", "Service", "Change", "Why", "In force after")
_TIME = len("05:47:12Z")


class Tab(NamedTuple):
    """A link at the head of each page; `number` counts what is there, None where unknown."""

    name: str
    path: str
    number: int | None = None


class Head(NamedTuple):
    """
    The head of a page.

    `in_step` says since when the tables hold what they should, "" while they do not. `banners` are
    what else needs a look.
    """

    node: str
    version: str
    up: str
    in_step: str
    banners: tuple[StatusRow, ...]
    tabs: tuple[Tab, ...]


class TextTable(NamedTuple):
    """A table; columns that are empty in each row are left out."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class PortTables(NamedTuple):
    """A service port in one family."""

    label: str
    frontends: TextTable
    endpoints: TextTable


def page_head(screen: StatusScreen, found: Overview | None) -> Head:
    """Return the head of a page; the counts of Services only where `found` is given."""
    problems = None if found is None else sum(row.is_notable for row in found.services)
    looks = [row for row in screen.rows if row.level is not Mark.OK and row.subject != SERVICES]
    return Head(
        node=screen.node,
        version=screen.version,
        up=_between(screen.started, screen.at),
        in_step=f"{screen.since[-_TIME:]} ({_between(screen.since, screen.at)})"
        if screen.since
        else "",
        banners=tuple(looks),
        tabs=(
            Tab("Services", "/", None if found is None else found.total),
            Tab("Problems", "/?problems=1", problems),
            Tab("Changes", CHANGES_PATH),
            Tab("Status", NODE_PATH),
        ),
    )


def list_values(shown: ServiceList, choice: Choice) -> dict[str, object]:
    """Return what the list's template shows."""
    return {
        "listing": shown,
        "choice": choice,
        "path": _service_path,
        "port_text": port_text,
        "answers": ANSWERS,
        "signs": _SIGNS,
    }


def service_values(
    found: Explanation, question: ServiceQuestion, records: Sequence[ChangeRecord]
) -> dict[str, object]:
    """Return what a Service's template shows; `records` are all changes of the node."""
    return {
        "found": found,
        "findings": united_findings(found),
        "headline": headline(found),
        "seen": seen_text(found),
        "ports": [_port_tables(port, found) for port in found.ports],
        "changes": change_rows(concerning(records, question, "")),
        "remembered": len(records),
        "commands": (
            f"nfproxy explain {question}",
            f"nfproxy trace {question}",
            f"nfproxy changes {question}",
        ),
    }


def change_rows(records: Iterable[ChangeRecord]) -> TextTable:
    """Return changes as a table, the last one first."""
    rows = [
        (one.at.replace("T", " "), one.subject, one.change, one.why, one.in_force)
        for one in records
    ]
    return _table(_CHANGE_TITLES, reversed(rows))


def _port_tables(port: ExplainedPort, found: Explanation) -> PortTables:
    endpoints = [
        (*endpoint_cells(row, found.service), share)
        for row, share in zip(port.endpoints, _shares(port), strict=True)
    ]
    return PortTables(
        port_label(port),
        _table(FRONTEND_TITLES, (frontend_cells(row, found.service) for row in port.frontends)),
        _table((*ENDPOINT_TITLES, "SHARE"), endpoints),
    )


def _shares(port: ExplainedPort) -> list[str]:
    """Return each endpoint's share of new connections, of policy Cluster and of policy Local."""
    cluster = sum(row.used.cluster for row in port.endpoints)
    local = sum(row.used.local for row in port.endpoints)
    shares = []
    for row in port.endpoints:
        parts = [f"{100 / cluster:.3g} %"] if row.used.cluster else []
        if row.used.local:
            parts.append(f"{100 / local:.3g} % of policy Local")
        shares.append(", ".join(parts))
    return shares


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> TextTable:
    cells = [tuple(row) for row in rows]
    used = [i for i in range(len(titles)) if i == 0 or any(row[i] for row in cells)]
    shown = tuple(titles[i].capitalize() for i in used)
    return TextTable(shown, tuple(tuple(row[i] for i in used) for row in cells))


def _service_path(row: ServiceRow) -> str:
    return "/service?" + urlencode({"name": f"{row.namespace}/{row.name}"}, safe="/")


def _between(earlier: str, later: str) -> str:
    """Return how much time is between two times of the API."""
    both = datetime.fromisoformat(earlier), datetime.fromisoformat(later)
    return age_text((both[1] - both[0]).total_seconds())
