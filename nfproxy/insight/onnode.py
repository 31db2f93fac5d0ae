"""
The engine at depth *node*: what kernel, connections and routes say, joined with the objects.

The readers are elsewhere; here facts become rows and causes. On a healthy node there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from nfproxy.insight.diagnosis import ON_THE_WAY, Code, Diagnosis, Severity, in_order
from nfproxy.insight.explanation import (
    Conclusion,
    EndpointProbe,
    EndpointRow,
    ExplainedPort,
    Explanation,
    FrontendRow,
    Reaction,
    together,
    worst_conclusion,
)
from nfproxy.insight.flowcauses import (
    connection_row,
    connections_by_endpoint,
    flow_causes,
    stale_rows,
)
from nfproxy.insight.kernelcauses import MISSING, kernel_causes, state_in_kernel
from nfproxy.insight.nodefacts import NodeFacts, ProbeAnswer, ProbeResult
from nfproxy.insight.waycauses import (
    NodeCause,
    cause,
    family_of_port,
    probe_of,
    route_row,
    used_rows,
    way_causes,
)
from nfproxy.model.addresses import parse_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.desired import Desired
from nfproxy.plan.frontends import FrontendKey, FrontendKind
from nfproxy.views.elementwords import format_destination


def on_node(
    explanation: Explanation,
    facts: NodeFacts,
    desired: Desired | None,
    config: NodeConfig,
    asked: FrontendKey | None = None,
) -> Explanation:
    """
    Return an explanation with its rows filled and causes added by what a node knows.

    Without objects there is no desired state (None). `asked` is the frontend that the named client
    asks for: the verdict on its port is what happens there.
    """
    ports = tuple(_filled(port, facts, desired) for port in explanation.ports)
    found = list(kernel_causes(facts, ports))
    for port in ports:
        found += way_causes(facts, port, config.kept.node_addresses)
        found += _probe_causes(facts, port)
        found += _node_port_addresses(facts, port, config)
        found += flow_causes(facts, port, config, connections_by_endpoint(facts, port) or {})
    found = [one for one in found if not _is_explained(one.finding, explanation)]
    causes = _without_doubles(explanation.findings, [one.finding for one in found])
    ports = tuple(
        msgspec.structs.replace(port, conclusion=_conclusion(port, found, asked)) for port in ports
    )
    seen = msgspec.structs.replace(
        explanation.seen,
        kernel=facts.held is not None,
        connections=facts.connections is not None,
        connection_count=_connection_count(facts),
        missing=(*explanation.seen.missing, *facts.missing),
    )
    conclusion = explanation.conclusion
    if ports:
        mine = together(port.conclusion for port in ports)
        is_theirs = conclusion is together(port.conclusion for port in explanation.ports)
        conclusion = mine if is_theirs else worst_conclusion((conclusion, mine))
    known = {one.code for one in causes}
    kept = [one for one in explanation.findings if not _is_replaced(one, known)]
    return msgspec.structs.replace(
        explanation,
        seen=seen,
        ports=ports,
        conclusion=conclusion,
        findings=in_order((*causes, *kept)),
    )


def _is_explained(finding: Diagnosis, earlier: Explanation) -> bool:
    """Return whether no endpoint of a port is a pod: what becomes of its packets says no more."""
    if finding.code not in ON_THE_WAY and finding.code is not Code.POD_NOT_HERE:
        return False
    place = finding.service, finding.port, finding.family
    is_lost = any(
        (port.service, port.name, port.family) == place and port.conclusion is Conclusion.DROPPED
        for port in earlier.ports
    )
    return is_lost and any(
        one.code is Code.ENDPOINT_IS_SERVICE and (one.service, one.port, one.family) == place
        for one in earlier.findings
    )


def _is_replaced(finding: Diagnosis, codes: set[Code]) -> bool:
    """Return whether evidence says again what the configuration alone said."""
    code = Code.CLUSTER_CIDR_MISSES_PODS
    return finding.code is code and code in codes


def _without_doubles(earlier: tuple[Diagnosis, ...], causes: list[Diagnosis]) -> list[Diagnosis]:
    """Return causes that name what the configuration says of the same, as a fact behind them."""
    code = Code.CLUSTER_CIDR_MISSES_PODS
    because = tuple(one.message for one in earlier if one.code is code)
    return [
        msgspec.structs.replace(one, because=(*one.because, *because)) if one.code is code else one
        for one in causes
    ]


def _node_port_addresses(
    facts: NodeFacts, port: ExplainedPort, config: NodeConfig
) -> Iterator[NodeCause]:
    """Yield that no address of this node, also of its interfaces, is in nodePortAddresses."""
    family = family_of_port(port)
    prefixes = config.node_port_prefixes.get(family)
    own = [address for address in facts.own_addresses if len(address) == family.size]
    has_one = any(row.kind is FrontendKind.NODE_PORT for row in port.frontends)
    is_left_out = prefixes and not any(a in prefix for a in own for prefix in prefixes)
    if has_one and own and is_left_out:
        found = Diagnosis(
            Severity.WARN,
            Code.NODE_PORT_OTHER_ADDRESS,
            f"no {family.label} address of this node is in nodePortAddresses: its node port is "
            "served nowhere here",
            look=("nodePortAddresses of the configuration; ip address",),
            brief=f"no {family.label} address for node ports",
        )
        yield cause(port, found)


def _filled(port: ExplainedPort, facts: NodeFacts, desired: Desired | None) -> ExplainedPort:
    found = connections_by_endpoint(facts, port)
    frontends = tuple(_frontend(row, facts, desired) for row in port.frontends)
    endpoints = tuple(_endpoint(port, row, facts) for row in port.endpoints)
    if found is not None:
        endpoints = tuple(
            msgspec.structs.replace(row, connections=connection_row(found.get(row.destination)))
            for row in endpoints
        )
    return msgspec.structs.replace(
        port,
        frontends=frontends,
        endpoints=endpoints,
        stale=stale_rows(port, found) if found else (),
    )


def _frontend(row: FrontendRow, facts: NodeFacts, desired: Desired | None) -> FrontendRow:
    if facts.held is None or row.answer.node is Reaction.ABSENT:
        return row
    return msgspec.structs.replace(
        row,
        in_kernel=state_in_kernel(facts.held, desired, row.key),
        new_connections=facts.held.new_connections.get(row.key),
    )


def _endpoint(port: ExplainedPort, row: EndpointRow, facts: NodeFacts) -> EndpointRow:
    route = (facts.routes or {}).get(parse_address(row.address))
    probe = probe_of(facts, port, row.destination)
    return msgspec.structs.replace(row, route=route_row(route), probe=_probe_row(probe))


def _probe_row(probe: ProbeAnswer | None) -> EndpointProbe | None:
    if probe is None:
        return None
    ms = None if probe.seconds is None else round(probe.seconds * 1e3, 1)
    return EndpointProbe(result=probe.result.value, ms=ms)


def _probe_causes(facts: NodeFacts, port: ExplainedPort) -> Iterator[NodeCause]:
    is_udp = port.protocol == "UDP"
    for row in used_rows(port):
        probe = probe_of(facts, port, row.destination)
        end = format_destination(family_of_port(port), row.destination)
        if probe is not None and probe.result is ProbeResult.REFUSED:
            found = Diagnosis(
                Severity.FAIL,
                Code.ENDPOINT_REFUSES,
                f"{end} refuses connections: nothing listens at that address and port",
                because=(
                    "targetPort is another than the program's, the program has ended, or it "
                    "listens at 127.0.0.1 alone",
                ),
                look=(
                    f"in {row.pod or 'the pod'}: ss -{'u' if is_udp else 't'}ln; "
                    "spec.ports[].targetPort of the Service",
                ),
                brief=f"{end} refuses",
            )
            yield cause(port, found, row.address)
        elif probe is not None and probe.result is ProbeResult.TIMEOUT:
            found = Diagnosis(
                Severity.FAIL if facts.probed_all else Severity.WARN,
                Code.UNANSWERED,
                f"{end} does not answer this node within a second",
                look=("the pod; NetworkPolicies that exclude nodes; firewalls on the way",),
                brief=f"no answer from {end}",
            )
            yield cause(port, found, row.address)


def _conclusion(
    port: ExplainedPort, causes: Iterable[NodeCause], asked: FrontendKey | None
) -> Conclusion:
    """Return the verdict on a port; objects may say it works where packets are lost."""
    mine = [
        one
        for one in causes
        if one.finding.level is Severity.FAIL
        and one.finding.service in ("", port.service)
        and one.finding.port in ("", port.name)
        and one.finding.family in ("", port.family)
    ]
    if not mine or port.conclusion in (Conclusion.REFUSED, Conclusion.DROPPED):
        return port.conclusion
    used = {row.address for row in used_rows(port)}
    broken = {one.endpoint: one.finding.code for one in mine}
    states = {row.in_kernel.state for row in port.frontends if row.in_kernel is not None}
    if any(one.breaks_all or asked in one.frontends for one in mine) or states == {MISSING}:
        return Conclusion.DROPPED
    if used and used <= broken.keys():
        codes = {broken[address] for address in used}
        is_refused = codes == {Code.ENDPOINT_REFUSES}
        return Conclusion.REFUSED if is_refused else Conclusion.DROPPED
    return Conclusion.PARTLY


def _connection_count(facts: NodeFacts) -> int | None:
    if facts.connections is None:
        return None
    return sum(counts.known for ends in facts.connections.values() for counts in ends.values())
