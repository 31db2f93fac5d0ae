"""What explanations say in words: the verdict, and the cells of tables, for text and for pages."""

from __future__ import annotations

from nfproxy.insight.diagnosis import Code, Severity, worst
from nfproxy.insight.explanation import (
    Answers,
    Conclusion,
    EndpointRow,
    ExplainedPort,
    ExplainedService,
    Explanation,
    FrontendRow,
    Reaction,
    SourceNAT,
)
from nfproxy.insight.overview import ServiceRow
from nfproxy.text import plural

FRONTEND_TITLES = ("FRONTEND", "KIND", "ANSWER", "ALLOWED", "SOURCE", "NEW", "KERNEL")
ENDPOINT_TITLES = (
    *("ENDPOINT", "POD", "NODE", "STATE", "USED", "ROUTE"),
    *("OPEN", "UNANSWERED", "PROBE"),
)
#: What a Service port answers, in a table's cell.
ANSWERS = {
    Conclusion.WORKS: "yes",
    Conclusion.PARTLY: "partly",
    Conclusion.REFUSED: "refused",
    Conclusion.DROPPED: "dropped",
    Conclusion.UNKNOWN: "not served",
}

_SOURCES = {
    SourceNAT.NONE: "kept",
    SourceNAT.ALWAYS: "node's",
    SourceNAT.NOT_PODS: "kept for pods",
    SourceNAT.NODE_ONLY: "kept",
}
PORT_WORDS = {
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
_POD_WORDS = PORT_WORDS | {
    Conclusion.WORKS: "gets connections",
    Conclusion.PARTLY: "gets connections of SOME Services that list it",
    Conclusion.REFUSED: "GETS NO CONNECTIONS of Services",
}
_NOT_PROXIED = (Code.HEADLESS, Code.EXTERNAL_NAME, Code.PROXIED_BY_OTHER)
_MOST_RANGES = 2
_CLIENT_WORDS = {
    Conclusion.WORKS: "works",
    Conclusion.PARTLY: "WORKS IN PART",
    Conclusion.REFUSED: "REFUSED",
    Conclusion.DROPPED: "DROPPED",
    Conclusion.UNKNOWN: "NOT SERVED",
}


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


def seen_text(explanation: Explanation) -> str:
    """Return what an explanation rests on: ``seen: objects of X, kernel, 3 connections.``"""
    seen = explanation.seen
    parts = [f"objects of {seen.objects}"] if seen.objects else ["no objects"]
    if seen.kernel:
        parts.append("kernel")
    if seen.connections:
        parts.append(plural(seen.connection_count or 0, "connection"))
    return f"seen: {', '.join(parts)}."


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


def port_label(port: ExplainedPort) -> str:
    """Return ``shop/web http 80/tcp IPv4``."""
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
        reaction_text(one, count)
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


def reaction_text(reaction: Reaction, count: int) -> str:
    """Return what one kind of client gets, from `count` endpoints."""
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


def frontend_cells(row: FrontendRow, service: ExplainedService | None) -> tuple[str, ...]:
    """Return a frontend's cells, "" for what was not looked at."""
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


def client_verdict(explanation: Explanation) -> str:
    """Return the verdict on one client, "" where none was followed."""
    client = explanation.client
    return _CLIENT_WORDS[explanation.conclusion] if client and client.target else ""


def port_text(row: ServiceRow) -> str:
    """Return a Service port's number, node port and protocol: ``80, 30080``, ``53/udp``."""
    protocol = "" if row.protocol in ("TCP", "") else f"/{row.protocol.lower()}"
    return ", ".join(str(number) for number in (row.number, row.node_port) if number) + protocol
