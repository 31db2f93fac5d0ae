"""Which rows of ``services`` a page of the web page shows: chosen, what fails first, in pages."""

from __future__ import annotations

import msgspec

from nfproxy.insight.daemonstatus import API_VERSION
from nfproxy.insight.diagnosis import Diagnosis, Severity
from nfproxy.insight.overview import Overview, ServiceRow

ROWS_ON_A_PAGE = 200
LONGEST_TEXT = 200

_LEVELS = (*Severity, None)


class Choice(msgspec.Struct, frozen=True):
    """
    What a reader asked for.

    `text` is looked for in names, addresses, ports, reasons and codes; each of its words must be
    there. `namespace` is "" for all. `page` counts from 1.
    """

    text: str = ""
    namespace: str = ""
    only_problems: bool = False
    page: int = 1


class ServiceList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    One page of a node's Service ports.

    `matching` counts the rows that were asked for, on all of `pages`. `total` and `problems` count
    all of the node's.
    """

    api_version: str = API_VERSION
    kind: str = "ServiceList"
    node: str = ""
    findings: tuple[Diagnosis, ...] = ()
    services: tuple[ServiceRow, ...] = ()
    matching: int = 0
    page: int = 1
    pages: int = 1
    total: int = 0
    problems: int = 0


def service_list(found: Overview, choice: Choice) -> ServiceList:
    """Return a page: first what fails, then what is worth a look, then by name; else the last."""
    words = choice.text[:LONGEST_TEXT].lower().split()
    chosen = [row for row in found.services if _is_chosen(row, choice, words)]
    chosen.sort(key=_order)
    pages = max(1, -(-len(chosen) // ROWS_ON_A_PAGE))
    page = min(max(1, choice.page), pages)
    first = (page - 1) * ROWS_ON_A_PAGE
    return ServiceList(
        node=found.seen.node,
        findings=found.findings,
        services=tuple(chosen[first : first + ROWS_ON_A_PAGE]),
        matching=len(chosen),
        page=page,
        pages=pages,
        total=found.total,
        problems=sum(row.is_notable for row in found.services),
    )


def _order(row: ServiceRow) -> tuple[object, ...]:
    level = _LEVELS.index(row.level) if row.is_problem else len(_LEVELS)
    return (not row.is_notable, level, row.namespace, row.name, row.number, row.protocol)


def _is_chosen(row: ServiceRow, choice: Choice, words: list[str]) -> bool:
    if choice.namespace not in ("", row.namespace) or (choice.only_problems and not row.is_notable):
        return False
    if not words:
        return True
    parts = (row.label, *row.addresses, str(row.number), str(row.node_port or ""), row.because)
    text = "\n".join((*parts, *row.codes)).lower()
    return all(word in text for word in words)
