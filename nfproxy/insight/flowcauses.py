"""What connections and counters say about a Service: who gets no answer, and whose fault it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.dropcauses import drop_causes, without_connections
from nfproxy.insight.explanation import (
    EndpointConnections,
    EndpointRow,
    ExplainedPort,
    Reaction,
    SourceNAT,
    StaleEndpoint,
)
from nfproxy.insight.foreigncauses import is_elsewhere, source_rules, suspects
from nfproxy.insight.nodefacts import (
    ConnectionCounts,
    NodeFacts,
    PacketStage,
    ProbeResult,
    RuleEffect,
)
from nfproxy.insight.rulewords import in_words, listing
from nfproxy.insight.waycauses import (
    NodeCause,
    cause,
    family_of_port,
    has_route_error,
    probe_of,
    used_rows,
)
from nfproxy.model.addresses import Prefix, format_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKind
from nfproxy.views.elementwords import format_destination

_MOST_CLIENTS = 3

#: So many remembered clients say something about how they are spread.
_FEW_CLIENTS = 5


def connections_by_endpoint(
    facts: NodeFacts, port: ExplainedPort
) -> dict[Destination, ConnectionCounts] | None:
    """Return the connections of all frontends of a port to each endpoint, None if not looked at."""
    if facts.connections is None:
        return None
    found: dict[Destination, ConnectionCounts] = {}
    for row in port.frontends:
        if row.answer.node is Reaction.ABSENT:
            continue
        for end, counts in facts.connections.get(row.key, {}).items():
            _add(found.setdefault(end, ConnectionCounts()), counts)
    return found


def _add(total: ConnectionCounts, more: ConnectionCounts) -> None:
    total.open += more.open
    total.unanswered += more.unanswered
    total.overdue += more.overdue
    total.half_open += more.half_open
    total.closing += more.closing
    total.source_changed += more.source_changed
    for mine, others in (
        (total.clients, more.clients),
        (total.waiting, more.waiting),
        (total.masqueraded, more.masqueraded),
        (total.sources, more.sources),
        (total.ended, more.ended),
    ):
        for client, count in others.items():
            mine[client] = mine.get(client, 0) + count


def connection_row(counts: ConnectionCounts | None) -> EndpointConnections:
    """Return connections as explanations show them."""
    if counts is None:
        return EndpointConnections()
    return EndpointConnections(
        open=counts.open,
        unanswered=counts.unanswered,
        closing=counts.closing,
        source_changed=counts.source_changed,
    )


def stale_rows(
    port: ExplainedPort, found: Mapping[Destination, ConnectionCounts]
) -> tuple[StaleEndpoint, ...]:
    """Return the endpoints that are on no slice any more, and have open TCP connections."""
    if port.protocol != "TCP":
        return ()  # flows of other protocols are cut
    known = {row.destination for row in port.endpoints}
    return tuple(
        StaleEndpoint(
            endpoint=format_destination(family_of_port(port), end),
            open=counts.open,
            clients=tuple(map(format_address, _most(counts.clients))),
        )
        for end, counts in sorted(found.items())
        if counts.open and end not in known
    )


def doubtful_endpoints(ports: Iterable[ExplainedPort], facts: NodeFacts) -> Iterator[Destination]:
    """Yield the endpoints without a connection of ports that clients have asked for."""
    for port in ports:
        yield from without_connections(facts, port, connections_by_endpoint(facts, port) or {})


def flow_causes(
    facts: NodeFacts,
    port: ExplainedPort,
    config: NodeConfig,
    found: Mapping[Destination, ConnectionCounts],
) -> Iterator[NodeCause]:
    """Yield what the connections of a port say."""
    for row in used_rows(port):
        counts = found.get(row.destination)
        if counts is None or not counts.overdue or has_route_error(facts, row):
            continue
        probe = probe_of(facts, port, row.destination)
        if probe is None or probe.result is not ProbeResult.REFUSED:
            yield cause(port, _unanswered(facts, port, row, counts), row.address)
    for stale in () if is_elsewhere(facts, port) else port.stale:
        address = stale.endpoint.rpartition(":")[0].strip("[]")
        yield cause(
            port,
            Diagnosis(
                Severity.WARN,
                Code.STALE_TCP,
                f"{_counted(stale.open, 'open connection')} lead to {stale.endpoint}, which left: "
                "TCP is not cut when an endpoint leaves",
                because=(f"clients: {', '.join(stale.clients)}",) if stale.clients else (),
                look=(f"the clients' timeouts; conntrack -D -r {address} ends them",),
                brief=f"{stale.open} open to {stale.endpoint}, which left",
            ),
        )
    yield from _affinity(facts, port, found)
    yield from _masqueraded(facts, port, config, found)
    yield from _not_masqueraded(facts, port, config)
    yield from drop_causes(facts, port, found)


def _unanswered(
    facts: NodeFacts, port: ExplainedPort, row: EndpointRow, counts: ConnectionCounts
) -> Diagnosis:
    end = format_destination(family_of_port(port), row.destination)
    look = (
        f"on {row.node or 'its node'}: nfproxy trace {end}; NetworkPolicies; firewalls on the way"
    )
    if row.local:
        look = f"pod {row.pod or row.address}: does it listen at {row.port}; NetworkPolicies"
    because = [f"clients: {_names(counts.waiting)}"]
    if counts.half_open:
        look = f"nfproxy trace {port.service}: which rule drops the answer on this node"
        because.append(
            f"the endpoint has answered {counts.half_open:,} of them, and the client has not got it"
        )
    for rule in suspects(
        facts, port, PacketStage, (RuleEffect.NOT_TRACKED, RuleEffect.ZONE, RuleEffect.DROP)
    ):
        because.append(f"perhaps by {in_words(rule)}")
    one_way = port.protocol == "UDP" and not any(
        row.connections and row.connections.open for row in used_rows(port)
    )
    if one_way:
        because.append("no endpoint of this port has answered: some protocols never do")
    return Diagnosis(
        Severity.WARN if counts.open or one_way else Severity.FAIL,
        Code.UNANSWERED,
        f"{_counted(counts.overdue, 'connection')} to {end} got no answer for a second or longer"
        + (f" ({counts.open:,} are open)" if counts.open else ""),
        because=tuple(because),
        look=(look,),
        brief=f"no answer from {end}",
    )


def _affinity(
    facts: NodeFacts,
    port: ExplainedPort,
    found: Mapping[Destination, ConnectionCounts],
) -> Iterator[NodeCause]:
    """Yield that session affinity keeps clients at few endpoints, or at one that is silent."""
    used = used_rows(port)
    if facts.held is None or len(used) < 2:
        return
    remembered = {row.destination: facts.held.remembered.get(row.destination, 0) for row in used}
    clients = sum(remembered.values())
    if not clients:
        return
    shown = ", ".join(f"{row.address} {remembered[row.destination]:,}" for row in used[:6])
    silent = [
        row
        for row in used
        if remembered[row.destination]
        and (counts := found.get(row.destination)) is not None
        and counts.overdue
    ]
    without = sum(not count for count in remembered.values())
    if silent:
        yield cause(
            port,
            Diagnosis(
                Severity.WARN,
                Code.AFFINITY_PINS,
                "session affinity keeps "
                f"{_counted(remembered[silent[0].destination], 'client')} at "
                f"{silent[0].address}, which does not answer",
                because=(f"remembered clients: {shown}",),
                look=(
                    "spec.sessionAffinity; remove the endpoint, and its clients get another one",
                ),
                brief=f"clients pinned to {silent[0].address}",
            ),
        )
    elif without:
        level = Severity.WARN if clients >= _FEW_CLIENTS * len(used) else Severity.NOTE
        yield cause(
            port,
            Diagnosis(
                level,
                Code.AFFINITY_PINS,
                f"session affinity keeps {_counted(clients, 'client')} at {len(used) - without} of "
                f"{len(used)} endpoints",
                because=(f"remembered clients: {shown}",),
                look=("spec.sessionAffinity; clients behind one address count as one",),
                brief="session affinity pins clients",
            ),
        )


def _masqueraded(
    facts: NodeFacts,
    port: ExplainedPort,
    config: NodeConfig,
    found: Mapping[Destination, ConnectionCounts],
) -> Iterator[NodeCause]:
    """Yield that pods of this node lose their addresses on the way to a cluster IP."""
    rows = [row for row in port.frontends if row.kind is FrontendKind.CLUSTER_IP]
    if not any(row.source_nat is SourceNAT.NOT_PODS for row in rows):
        return
    own: Iterable[Prefix] = (config.local_pods.own or {}).get(family_of_port(port), ())
    clients: dict[bytes, int] = {}
    for counts in found.values():
        for client, count in counts.masqueraded.items():
            if any(client in prefix for prefix in own):
                clients[client] = clients.get(client, 0) + count
    sources = {source for counts in found.values() for source in counts.sources}
    if not clients or (facts.own_addresses and not sources & facts.own_addresses):
        return
    said = (
        f"{_counted(sum(clients.values()), 'connection')} of this node's pods ({_names(clients)}) "
        "reach their endpoint with the node's address"
    )
    prefix = config.local_pods.prefixes.get(family_of_port(port))
    rules = source_rules(facts, port)
    if rules and prefix is not None and all(client in prefix for client in clients):
        made = Diagnosis(
            Severity.WARN,
            Code.SOURCE_CHANGED,
            f"{said}, by {in_words(rules[0])}",
            look=(listing(rules[0]), f"nfproxy trace {port.service}"),
            brief="another program masquerades pods",
        )
    else:
        made = Diagnosis(
            Severity.WARN,
            Code.CLUSTER_CIDR_MISSES_PODS,
            said,
            look=("clusterCIDR, or detectLocalMode; then restart nfproxy",),
            brief="pods lose their addresses",
        )
    yield cause(port, made)


def _not_masqueraded(
    facts: NodeFacts, port: ExplainedPort, config: NodeConfig
) -> Iterator[NodeCause]:
    """Yield that clients wait whose connections should have this node's address, and do not."""
    waiting: dict[bytes, int] = {}
    for row in port.frontends if facts.own_addresses else ():
        if row.source_nat is not SourceNAT.ALWAYS:
            continue
        for counts in (facts.connections or {}).get(row.key, {}).values():
            for client, count in counts.waiting.items():
                if client not in counts.masqueraded and client not in facts.own_addresses:
                    waiting[client] = waiting.get(client, 0) + count
    if waiting:
        number = sum(waiting.values())
        found = Diagnosis(
            Severity.FAIL,
            Code.NOT_MASQUERADED,
            f"{_counted(number, 'connection')} without an answer ({_names(waiting)}) reached an "
            "endpoint with the client's address, and should have this node's: the endpoint answers "
            "the client by another way",
            because=(
                f"nfproxy asks for it by the mark {config.masquerade_mark:#x}: a rule of another "
                "program changes marks, or ends translation before nfproxy's chain",
            ),
            look=(
                f"nfproxy trace {port.service}: which rule changes the mark",
                "nft list ruleset | grep 'mark set'; iptables-save | grep MARK",
            ),
            brief="connections are not masqueraded",
        )
        yield cause(port, found)


def _most(clients: Mapping[bytes, int]) -> list[bytes]:
    """Return the clients with most connections."""
    return sorted(clients, key=lambda client: (-clients[client], client))[:_MOST_CLIENTS]


def _names(clients: Mapping[bytes, int]) -> str:
    shown = ", ".join(
        format_address(client) + (f" x{clients[client]}" if clients[client] > 1 else "")
        for client in _most(clients)
    )
    more = len(clients) - _MOST_CLIENTS
    return f"{shown} and {more:,} more" if more > 0 else shown


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
