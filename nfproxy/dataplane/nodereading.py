"""
Reads this node for an explanation: kernel, connections, routes, settings, probes.

Needs CAP_NET_ADMIN and starts no program. What cannot be read is named in the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from threading import Event

import msgspec

from nfproxy.clock import monotonic_s
from nfproxy.dataplane.connectionreader import read_connections
from nfproxy.dataplane.foreignreader import read_foreign_rules
from nfproxy.dataplane.heldreader import find_frontends, read_held
from nfproxy.dataplane.nodesamples import (
    OUTSIDE,
    NodeLooks,
    clients_in,
    questions_of_ways,
    samples_of,
)
from nfproxy.dataplane.otherproxy import kube_proxy_rules
from nfproxy.dataplane.ourtables import our_tables
from nfproxy.errors import DataplaneError
from nfproxy.host.addresses import own_addresses
from nfproxy.host.endpointprobes import probe_endpoints
from nfproxy.host.healthprobe import ask_health_check
from nfproxy.host.interfaceprograms import read_interface_programs
from nfproxy.host.kubeproxy import proxies_running
from nfproxy.host.nodesettings import read_node_settings, tracked_connections
from nfproxy.host.processes import may_administer_network
from nfproxy.host.routes import failed_ways, pod_neighbours, read_links, read_pod_mtu, read_routes
from nfproxy.insight.explanation import Explanation, Reaction
from nfproxy.insight.flowcauses import doubtful_endpoints
from nfproxy.insight.kernelalone import explain_kernel
from nfproxy.insight.kernelcauses import EQUAL, state_in_kernel
from nfproxy.insight.nodefacts import (
    ConnectionMap,
    HealthAnswer,
    HeldState,
    NodeFacts,
    ProbeAnswer,
    ProbeResult,
    ProxyRuns,
)
from nfproxy.insight.onnode import on_node
from nfproxy.insight.question import Question, ServiceQuestion
from nfproxy.insight.waycauses import used_rows
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName
from nfproxy.netlink.sockets import NftSocket
from nfproxy.plan.desired import Desired
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner

#: How long to wait for what may only be late: a change on its way, a client's next attempt.
_PATIENCE_S, _STEP_S = 1.0, 0.1


def with_node(
    explanation: Explanation,
    planner: Planner,
    *,
    running: str = "",
    is_silent: bool = False,
    probe: bool | None = False,
    client: bytes = b"",
    asked: FrontendKey | None = None,
) -> Explanation:
    """
    Return an explanation with what this node knows, if it is the node that was planned for.

    `running` says in words which nfproxy runs here, "" for an unknown one, and `is_silent` that it
    does not answer. `probe` also connects to
    each endpoint, with None only to those of :func:`doubtful_endpoints`, and with False nowhere.
    `client` is the one that the question is about, b"" for none, and `asked` what it asks for.
    Raises DataplaneError.
    """
    if not may_administer_network():
        return _without(explanation, "they need the capability NET_ADMIN (root)")
    with NftSocket() as netlink:
        is_here = running or our_tables(netlink)
        known = {*planner.config.node_ips.values(), *planner.config.kept.node_addresses}
        if not (is_here or known & own_addresses()):
            return _without(explanation, "this machine is not the node")
        facts = _read(
            netlink,
            explanation,
            planner.desired,
            planner.config,
            running,
            probe=probe,
            client=client,
        )
    if is_silent and facts.runs is not None:
        runs = msgspec.structs.replace(facts.runs, is_silent=True)
        facts = msgspec.structs.replace(facts, runs=runs)
    return on_node(explanation, facts, planner.desired, planner.config, asked)


def from_kernel(question: Question, why: str, *, probe: bool | None = None) -> Explanation | None:
    """
    Return what this node's kernel says where objects are missing, None if it has no such tables.

    `why` says why objects are missing. Raises DataplaneError.
    """
    if not may_administer_network():
        return None
    with NftSocket() as netlink:
        if not our_tables(netlink):
            return None
        keys = _asked_for(netlink, question)
        held = read_held(netlink, Desired(), keys)
        found = explain_kernel(question, held, keys, why)
        config = NodeConfig(node_name="")
        facts = _read(netlink, found, None, config, "", probe=probe)
    return on_node(found, facts, None, config)


def _asked_for(netlink: NftSocket, question: Question) -> list[FrontendKey]:
    """Return the frontends in the kernel that a question is about."""
    if isinstance(question, ServiceQuestion):
        keys = find_frontends(netlink, comment=str(question))
        named = find_frontends(netlink, comment=str(question.name)) if not keys else []
        return keys or [key for key in named if question.port in ("", str(key.port))]
    keys = find_frontends(netlink, address=question.address, port=question.port)
    if not keys and question.port and question.address in own_addresses():
        keys = find_frontends(netlink, port=question.port)
    return [key for key in keys if question.protocol in (None, key.protocol)]


def _without(explanation: Explanation, why: str) -> Explanation:
    missing = (*explanation.seen.missing, f"kernel, connections and routes: {why}")
    seen = msgspec.structs.replace(explanation.seen, missing=missing)
    return msgspec.structs.replace(explanation, seen=seen)


def _read(
    netlink: NftSocket,
    explanation: Explanation,
    desired: Desired | None,
    config: NodeConfig,
    running: str,
    *,
    probe: bool | None,
    client: bytes = b"",
) -> NodeFacts:
    keys = {
        row.key
        for port in explanation.ports
        for row in port.frontends
        if row.answer.node is not Reaction.ABSENT
    }
    addresses = {parse_address(row.address) for port in explanation.ports for row in port.endpoints}
    own = own_addresses()
    held = _read_held(netlink, desired, keys)
    missing: tuple[str, ...] = ()
    connections: ConnectionMap | None = None
    arrived: Mapping[FrontendKey, int] | None = None
    turned_back = 0
    probes: Mapping[Destination, ProbeAnswer] = {}
    udp_probes: Mapping[Destination, ProbeAnswer] = {}
    try:
        connections = read_connections(keys)
        known = NodeFacts(held=held, connections=connections)
        probes, udp_probes = (
            probe_endpoints(_to_probe(explanation, known, protocol, probe), is_udp=is_udp)
            for protocol, is_udp in (("TCP", False), ("UDP", True))
        )
        is_explained = probes and all(one.result is ProbeResult.REFUSED for one in probes.values())
        if _may_lose(held, connections) and not is_explained:
            before = read_node_settings().reverse_path_drops
            arrived = _wait_for_more(netlink, desired, held)
            turned_back = read_node_settings().reverse_path_drops - before
            connections = read_connections(keys)
    except DataplaneError as error:
        missing = (f"connections: {error}",)
    clients = [client] if client else clients_in(connections or {})
    routes = read_routes([*addresses, *OUTSIDE.values(), *clients])
    links = read_links()
    looked = NodeLooks(
        explanation.ports,
        routes,
        own,
        connections or {},
        config,
        client,
        () if client else pod_neighbours(links),
    )
    on_the_way = {link for route in routes.values() for link in (route.interface, route.port)}
    on_the_way |= {link for _, link in looked.neighbours}
    return NodeFacts(
        held=held,
        connections=connections,
        arrived=arrived,
        turned_back=turned_back,
        routes=routes,
        pod_mtu=read_pod_mtu(),
        settings=read_node_settings(),
        probes=probes,
        udp_probes=udp_probes,
        probed_all=bool(probe),
        health=_health_checks(explanation) if probe is not False else {},
        tracked=tracked_connections(),
        rules=read_foreign_rules(netlink, samples_of(looked)) if addresses else (),
        failed_ways=failed_ways(
            questions_of_ways(looked), {link.name: link.index for link in links}
        ),
        programs=read_interface_programs([link for link in on_the_way if link is not None]),
        own_addresses=frozenset(own),
        runs=_runs(running),
        missing=missing,
    )


def _health_checks(explanation: Explanation) -> dict[int, HealthAnswer]:
    """Return what the health check node ports of the ports answer on this node."""
    found: dict[int, HealthAnswer] = {}
    for port in explanation.ports:
        if port.health_check is None or port.health_check_port in found:
            continue
        accepted = [one for row in port.frontends for one in row.addresses]
        loopback = "127.0.0.1" if port.family == Family.IPV4.label else "::1"
        place = (accepted or [loopback])[0]
        namespace, _, name = port.service.partition("/")
        found[port.health_check_port] = ask_health_check(
            place, port.health_check_port, ObjectName(namespace, name)
        )
    return found


def _read_held(
    netlink: NftSocket, desired: Desired | None, keys: Collection[FrontendKey]
) -> HeldState:
    """Return what the kernel holds; where that differs, look again: a change may be on its way."""
    held = read_held(netlink, desired or Desired(), keys)
    if desired is None:
        return held
    deadline_s = monotonic_s() + _PATIENCE_S
    while held.tables and monotonic_s() < deadline_s:
        if all(state_in_kernel(held, desired, key).state == EQUAL for key in keys):
            break
        Event().wait(_STEP_S)
        held = read_held(netlink, desired, keys)
    return held


def _may_lose(held: HeldState, connections: ConnectionMap) -> bool:
    """Return whether frontends have counted connections, and the kernel knows none."""
    if any(counts.known for ends in connections.values() for counts in ends.values()):
        return False
    return any(held.new_connections.values())


def _wait_for_more(
    netlink: NftSocket, desired: Desired | None, held: HeldState
) -> Mapping[FrontendKey, int]:
    """Return how many connections each frontend receives until one does, or for a second."""
    keys = [key for key, count in held.new_connections.items() if count]
    deadline_s = monotonic_s() + _PATIENCE_S
    arrived: dict[FrontendKey, int] = {}
    while not any(arrived.values()) and monotonic_s() < deadline_s:
        Event().wait(_STEP_S)
        now = read_held(netlink, desired or Desired(), keys).new_connections
        arrived = {key: max(0, now.get(key, 0) - held.new_connections[key]) for key in keys}
    return arrived


def _to_probe(
    explanation: Explanation, facts: NodeFacts, protocol: str, probe: bool | None
) -> set[Destination]:
    """Return the endpoints of a protocol to ask."""
    ports = [port for port in explanation.ports if port.protocol == protocol]
    if probe is None:
        return set(doubtful_endpoints(ports, facts))
    return {row.destination for port in ports for row in used_rows(port)} if probe else set()


def _runs(running: str) -> ProxyRuns:
    leftovers = kube_proxy_rules()
    if running and not leftovers:
        return ProxyRuns(nfproxy=running)
    found = proxies_running()
    return ProxyRuns(running or found.nfproxy, found.kube_proxy, found.hidden, leftovers)
