"""The text of ``nfproxy explain``: verdict, findings, evidence; or a line for each of them."""

from __future__ import annotations

from collections.abc import Iterator

from nfproxy.cli.clienttext import client_lines, client_rows, client_verdict
from nfproxy.cli.textlayout import paragraph, table_lines
from nfproxy.insight.diagnosis import Code, Diagnosis, Severity, worst
from nfproxy.insight.explanation import (
    Answers,
    Conclusion,
    EndpointRow,
    ExplainedPort,
    ExplainedService,
    Explanation,
    FrontendRow,
    NodeView,
    Reaction,
    SourceNAT,
)
from nfproxy.text import plural

_SOURCES = {
    SourceNAT.NONE: "kept",
    SourceNAT.ALWAYS: "node's",
    SourceNAT.NOT_PODS: "kept for pods",
    SourceNAT.NODE_ONLY: "kept",
}
_PORT_WORDS = {
    Conclusion.WORKS: "works",
    Conclusion.PARTLY: "works in part",
    Conclusion.REFUSED: "refuses every connection",
    Conclusion.DROPPED: "drops every connection",
    Conclusion.UNKNOWN: "not served",
}
_PARTS = {
    Conclusion.WORKS: "works",
    Conclusion.PARTLY: "WORKS IN PART",
    Conclusion.REFUSED: "REFUSES every connection",
    Conclusion.DROPPED: "DROPS every connection",
    Conclusion.UNKNOWN: "IS NOT SERVED",
}
_POD_WORDS = _PORT_WORDS | {
    Conclusion.WORKS: "gets connections",
    Conclusion.PARTLY: "gets connections of SOME Services that list it",
    Conclusion.REFUSED: "GETS NO CONNECTIONS of Services",
}
_NOT_PROXIED = (Code.HEADLESS, Code.EXTERNAL_NAME, Code.PROXIED_BY_OTHER)
_MOST_RANGES = 2
_LABEL, _TEXT = 6, 19  # columns where a finding's message begins, and what is below it


def explanation_lines(explanation: Explanation, width: int) -> Iterator[str]:
    """Yield the lines for a terminal, of `width` columns where words allow it."""
    yield from paragraph("", headline(explanation), width, 0)
    several = len(explanation.ports) > 1 or len({view.port for view in explanation.nodes}) > 1
    for finding in explanation.findings:
        yield ""
        yield from finding_lines(finding, width, several=several)
    if explanation.client is not None:
        yield from client_lines(explanation.client, width)
    for port in explanation.ports:
        yield ""
        if several:
            words = f": {_PORT_WORDS[port.conclusion]}" if port.frontends else ""
            yield f"{_port_label(port)}{words}"
        if port.frontends:
            rows = (_frontend_cells(row, explanation.service) for row in port.frontends)
            titles = ("FRONTEND", "KIND", "ANSWER", "ALLOWED", "SOURCE", "NEW", "KERNEL")
            yield from table_lines(titles, rows, width)
            yield ""
        yield from _endpoints(port, explanation.service, width)
    if explanation.nodes:
        yield ""
        yield from _nodes(explanation.nodes, width)
    yield ""
    yield from _seen(explanation, width)


# --- the verdict -------------------------------------------------------------------------------


def headline(explanation: Explanation) -> str:
    """Return the first line: what was asked about, where, and whether it works."""
    title = explanation.title or explanation.asked
    service = explanation.service
    if service is not None and title == explanation.asked:
        names = {port.name for port in explanation.ports}
        names |= {view.port for view in explanation.nodes}
        own = f"{service.namespace}/{service.name}"
        title = ":".join(filter(None, (own, names.pop()))) if len(names) == 1 else title
        words = [service.type] if service.type else []
        if "Local" in (service.external_traffic_policy, service.internal_traffic_policy):
            external = service.external_traffic_policy == "Local"
            words.append(f"{'external' if external else 'internal'}TrafficPolicy Local")
        title += f"  {', '.join(words)}" if words else ""
    where = f", on {explanation.seen.node}" if explanation.seen.node else ""
    return f"{title}{where}: {verdict_words(explanation)}"


def verdict_words(explanation: Explanation) -> str:
    """Return the verdict in words; what fails is in capitals."""
    codes = {finding.code for finding in explanation.findings}
    level = worst(explanation.findings)
    if Code.UNKNOWN_SERVICE in codes:
        return "THERE IS NO SUCH SERVICE"
    if words := client_verdict(explanation):
        return words
    if explanation.ports and not any(port.frontends for port in explanation.ports):
        return _POD_WORDS[explanation.conclusion]
    match explanation.conclusion:
        case Conclusion.REFUSED:
            return "REFUSES every connection" + _on_nodes(explanation, Reaction.REFUSED)
        case Conclusion.DROPPED:
            return "DROPS every connection" + _on_nodes(explanation, Reaction.DROPPED)
        case Conclusion.UNKNOWN:
            return "nfproxy does not serve it" if codes & {*_NOT_PROXIED} else "NOT SERVED"
        case Conclusion.PARTLY:
            if len({port.conclusion for port in explanation.ports}) > 1:
                return _each_port(explanation.ports)
            if level is Severity.FAIL and Code.NO_LOCAL_EXTERNAL not in codes:
                return "WORKS IN PART"
            if Code.NO_LOCAL_EXTERNAL in codes:
                return "outside clients are DROPPED" + _on_nodes(explanation, Reaction.DROPPED)
            return "WORKS IN PART"
    if level is Severity.FAIL:
        return "WORKS IN PART"
    return "works, LOOK AT THIS" if level is Severity.WARN else "works"


def _each_port(ports: tuple[ExplainedPort, ...]) -> str:
    """Return the verdict on each port, or family, where they differ."""
    names, families = {port.name for port in ports}, {port.family for port in ports}
    groups: dict[str, list[str]] = {}
    for port in ports:
        label = " ".join(
            (
                *((port.name or str(port.port),) if len(names) > 1 else ()),
                *((port.family,) if len(families) > 1 else ()),
            )
        )
        groups.setdefault(_PARTS[port.conclusion], []).append(label)
    return "; ".join(f"{', '.join(labels)} {word}" for word, labels in groups.items())


def _on_nodes(explanation: Explanation, reaction: Reaction) -> str:
    if not explanation.nodes:
        return ""
    nodes = {view.node for view in explanation.nodes}
    hit = {v.node for v in explanation.nodes if reaction in (v.inside, v.outside)}
    return f" on {len(hit):,} of {plural(len(nodes), 'node')}"


# --- findings ----------------------------------------------------------------------------------


def finding_lines(finding: Diagnosis, width: int, *, several: bool = False) -> Iterator[str]:
    """Yield a finding's lines; with `several` ports they say which one is concerned."""
    about = " ".join(filter(None, (finding.port, finding.family))) if several else ""
    message = f"{about}: {finding.message}" if about else finding.message
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


def _port_label(port: ExplainedPort) -> str:
    name = f"{port.name} " if port.name else ""
    return f"{port.service} {name}{port.port}/{port.protocol.lower()} {port.family}"


def frontend_text(row: FrontendRow) -> str:
    """Return ``10.96.0.10:80/tcp``, ``[fd00::1]:80/tcp`` or ``node port 30080/tcp``."""
    return str(row.key) if row.address else f"node port {row.port}/{row.protocol.lower()}"


def answer_text(row: FrontendRow) -> str:
    """Return what a frontend answers, for all clients or for each kind of them."""
    answer = row.answer
    if answer.outside is Reaction.ABSENT:
        return f"{row.winner} has it" if row.winner else "not served"
    words = [
        _answer(one, count)
        for one, count in (
            (answer.pods, row.endpoint_counts.pods),
            (answer.node, row.endpoint_counts.node),
            (answer.outside, row.endpoint_counts.outside),
        )
    ]
    if len({*words}) == 1:
        return words[0] + _why(answer)
    if words[0] == words[1]:
        return f"{words[0]}; outside {words[2]}"
    return f"node {words[1]}; others {words[2]}"


def _answer(reaction: Reaction, count: int) -> str:
    if reaction is Reaction.ENDPOINTS:
        return plural(count, "endpoint")
    return "by the node's routes" if reaction is Reaction.ROUTED else reaction.value


def _why(answer: Answers) -> str:
    return {Reaction.REFUSED: ", no endpoint", Reaction.DROPPED: ", none here"}.get(
        answer.outside, ""
    )


def allowed_text(row: FrontendRow, service: ExplainedService | None) -> str:
    """Return who may use a frontend."""
    if row.answer.outside is Reaction.ABSENT:
        return "-"
    ranges = service.source_ranges if service else ()
    if not row.guarded:
        return "anyone"
    few = ranges and len(ranges) <= _MOST_RANGES
    return ", ".join(ranges) if few else f"{plural(len(ranges), 'source range')}"


def _frontend_cells(row: FrontendRow, service: ExplainedService | None) -> tuple[str, ...]:
    serves = Reaction.ENDPOINTS in (row.answer.pods, row.answer.node, row.answer.outside)
    return (
        frontend_text(row),
        row.kind.value,
        answer_text(row),
        allowed_text(row, service),
        _SOURCES[row.source_nat] if serves else "-",
        "" if row.new_connections is None else f"{row.new_connections:,}",
        row.in_kernel.state if row.in_kernel else "",
    )


def _endpoints(port: ExplainedPort, service: ExplainedService | None, width: int) -> Iterator[str]:
    titles = ("ENDPOINT", "POD", "NODE", "STATE", "USED", "ROUTE", "OPEN", "UNANSWERED", "PROBE")
    if not port.endpoints:
        yield "no endpoint"
        return
    yield from table_lines(titles, (endpoint_cells(row, service) for row in port.endpoints), width)


def endpoint_cells(row: EndpointRow, service: ExplainedService | None) -> tuple[str, ...]:
    """Return an endpoint's cells, "" for what was not looked at."""
    host = f"[{row.address}]" if ":" in row.address else row.address
    open_, unanswered = "", ""
    if row.connections is not None:
        open_, unanswered = f"{row.connections.open:,}", f"{row.connections.unanswered:,}"
    return (
        f"{host}:{row.port or '-'}",
        row.pod.rpartition("/")[2],
        f"{row.node} *" if row.local else row.node or "-",
        _state(row),
        _used(row, service),
        _route(row),
        open_,
        unanswered,
        _probe(row),
    )


def _state(row: EndpointRow) -> str:
    if row.terminating:
        return "terminating, serves" if row.serving else "terminating"
    return "ready" if row.ready else "not ready"


def _used(row: EndpointRow, service: ExplainedService | None) -> str:
    if not (row.used.cluster or row.used.local):
        return f"no: {row.reason}" if row.reason else "no"
    if not row.reason:
        return "yes"
    policies = (service.external_traffic_policy, service.internal_traffic_policy) if service else ()
    match policies:
        case ("Local", "Cluster"):
            return "inside alone"
        case ("Cluster", "Local"):
            return "outside alone"
    return "in part"


def _route(row: EndpointRow) -> str:
    if row.route is None:
        return ""
    if row.route.error:
        return f"none ({row.route.error})"
    via = f" via {row.route.via}" if row.route.via else ""
    return f"{row.route.interface}{via}"


def _probe(row: EndpointRow) -> str:
    if row.probe is None:
        return ""
    if row.probe.result == "ok" and row.probe.ms is not None:
        return f"{row.probe.ms:.1f} ms"
    return row.probe.result


def _nodes(views: tuple[NodeView, ...], width: int) -> Iterator[str]:
    several = len({(view.port, view.family) for view in views}) > 1
    rows = [
        (
            view.node,
            f"{view.port} {view.family}".strip() if several else "",
            f"{view.local_endpoints} of {view.all_endpoints}",
            _answer(view.inside, view.inside_endpoints),
            ""
            if view.outside is None
            else _capitals(_answer(view.outside, view.outside_endpoints)),
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
    seen = explanation.seen
    parts = [f"objects of {seen.objects}"] if seen.objects else ["no objects"]
    if seen.kernel:
        parts.append("kernel")
    if seen.connections:
        parts.append(plural(seen.connection_count or 0, "connection"))
    text = f"seen: {', '.join(parts)}."
    if not seen.kernel:
        text += f" On a node `nfproxy explain {explanation.asked}` also asks the kernel."
    yield from paragraph("", text, width, 0)
    for line in seen.missing:
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
        label = _port_label(port)
        for row in port.frontends:
            yield (
                "frontend",
                label,
                *(cell or "-" for cell in _frontend_cells(row, explanation.service)),
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
