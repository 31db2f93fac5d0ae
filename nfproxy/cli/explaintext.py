"""The text of ``nfproxy explain``: verdict, findings, evidence; or a line for each of them."""

from __future__ import annotations

from collections.abc import Iterator

from nfproxy.cli.clienttext import client_lines, client_rows
from nfproxy.cli.textlayout import paragraph, table_lines
from nfproxy.insight.diagnosis import Diagnosis
from nfproxy.insight.explainwords import (
    ENDPOINT_TITLES,
    FRONTEND_TITLES,
    PORT_WORDS,
    endpoint_cells,
    frontend_cells,
    headline,
    port_label,
    reaction_text,
    seen_text,
)
from nfproxy.insight.explanation import (
    ExplainedPort,
    ExplainedService,
    Explanation,
    NodeView,
)
from nfproxy.insight.unitedfindings import united_findings

_LABEL, _TEXT = 6, 19  # columns where a finding's message begins, and what is below it


def explanation_lines(explanation: Explanation, width: int) -> Iterator[str]:
    """Yield the lines for a terminal, of `width` columns where words allow it."""
    yield from paragraph("", headline(explanation), width, 0)
    for concerns, finding in united_findings(explanation):
        yield ""
        yield from finding_lines(finding, width, concerns)
    if explanation.client is not None:
        yield from client_lines(explanation.client, width)
    for port in explanation.ports:
        yield ""
        if len(explanation.ports) > 1:
            words = f": {PORT_WORDS[port.conclusion]}" if port.frontends else ""
            yield f"{port_label(port)}{words}"
        if port.frontends:
            rows = (frontend_cells(row, explanation.service) for row in port.frontends)
            yield from table_lines(FRONTEND_TITLES, rows, width)
            yield ""
        yield from _endpoints(port, explanation.service, width)
    if explanation.nodes:
        yield ""
        yield from _nodes(explanation.nodes, width)
    yield ""
    yield from _seen(explanation, width)


# --- findings ----------------------------------------------------------------------------------


def finding_lines(finding: Diagnosis, width: int, concerns: str = "") -> Iterator[str]:
    """Yield a finding's lines; `concerns` names ports and families."""
    message = f"{concerns}: {finding.message}" if concerns else finding.message
    yield from paragraph(finding.level.value, message, width, _LABEL)
    for word, lines in (("because", finding.because), ("look", finding.look)):
        for index, line in enumerate(lines):
            label = " " * _LABEL + (word if not index else "")
            if word == "look":  # a command, to be copied: never broken
                yield label.ljust(_TEXT) + line
            else:
                yield from paragraph(label, line, width, _TEXT)
    if finding.about is not None:
        yield from paragraph(" " * _LABEL + "object", str(finding.about), width, _TEXT)
    yield " " * _LABEL + "code".ljust(_TEXT - _LABEL) + finding.code.value


# --- tables ------------------------------------------------------------------------------------


def _endpoints(port: ExplainedPort, service: ExplainedService | None, width: int) -> Iterator[str]:
    if not port.endpoints:
        yield "no endpoint"
        return
    cells = (endpoint_cells(row, service) for row in port.endpoints)
    yield from table_lines(ENDPOINT_TITLES, cells, width)


def _nodes(views: tuple[NodeView, ...], width: int) -> Iterator[str]:
    several = len({(view.port, view.family) for view in views}) > 1
    rows = [
        (
            view.node,
            f"{view.port} {view.family}".strip() if several else "",
            f"{view.local_endpoints} of {view.all_endpoints}",
            reaction_text(view.inside, view.inside_endpoints),
            ""
            if view.outside is None
            else _capitals(reaction_text(view.outside, view.outside_endpoints)),
            "" if view.health_check is None else f"{view.health_check} expected",
        )
        for view in views
    ]
    titles = ("NODE", "PORT", "ENDPOINTS", "FROM PODS AND NODES", "FROM OUTSIDE", "HEALTH CHECK")
    yield from table_lines(titles, rows, width)


def _capitals(words: str) -> str:
    return words.upper() if words in ("dropped", "refused") else words


# --- what it rests on --------------------------------------------------------------------------


def _seen(explanation: Explanation, width: int) -> Iterator[str]:
    text = seen_text(explanation)
    if not explanation.seen.kernel:
        text += f" On a node `nfproxy explain {explanation.asked}` also asks the kernel."
    yield from paragraph("", text, width, 0)
    for line in explanation.seen.missing:
        yield from paragraph("", f"not seen: {line}.", width, 0)


# --- into a pipe -------------------------------------------------------------------------------


def explanation_rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    """Yield the cells of tab-separated lines; the first cell says what kind of line it is."""
    yield ("verdict", explanation.asked, explanation.conclusion.value, headline(explanation))
    for one in explanation.findings:
        yield (one.level.value, one.code.value, one.port or "-", one.family or "-", one.message)
    if explanation.client is not None:
        yield from client_rows(explanation.client)
    for port in explanation.ports:
        label = port_label(port)
        for row in port.frontends:
            yield (
                "frontend",
                label,
                *(cell or "-" for cell in frontend_cells(row, explanation.service)),
            )
        for endpoint in port.endpoints:
            cells = endpoint_cells(endpoint, explanation.service)
            yield ("endpoint", label, *(cell or "-" for cell in cells))
    for view in explanation.nodes:
        yield (
            "node",
            view.node,
            f"{view.service}:{view.port} {view.family}",
            f"{view.local_endpoints}/{view.all_endpoints}",
            view.inside.value,
            view.outside.value if view.outside else "-",
            str(view.health_check or "-"),
        )
    for line in explanation.seen.missing:
        yield ("not seen", line)
