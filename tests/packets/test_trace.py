"""What a trace says of real packets, in each of the ways in which a connection can end."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from support.kernel import rules
from support.objects.model import endpoint, endpoint_slice, service
from support.packets.sending import Probe, probe_many
from support.packets.steps import (
    CLUSTER_IP,
    LOAD_BALANCER_IP,
    NODE_PORT,
    endpoints_of,
    everywhere,
    families,
    protocols,
    proxied,
)

from nfproxy.host.routes import read_routes
from nfproxy.insight.diagnosis import Code
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.netlink.tracing import TraceEvent
from nfproxy.tools.lab import Cluster, Host
from nfproxy.tools.trace.endings import TraceEnding
from nfproxy.tools.trace.rules import RuleTexts
from nfproxy.tools.trace.session import TraceSession
from nfproxy.tools.trace.table import TraceTarget
from nfproxy.tools.trace.wording import Names, Surroundings, TraceRow, trace_row

NO_NAMES = Names({}, {})


def traced(
    node: Host,
    *targets: TraceTarget,
    probes: list[Probe],
    client: str = "",
    count: int = 0,
) -> list[TraceRow]:
    """Return what a trace on a node says of connections that are made meanwhile."""

    packed = parse_address(client) if client else b""
    wanted = [msgspec.structs.replace(target, client=packed) for target in targets]
    texts = RuleTexts()

    def text_of(event: TraceEvent) -> str:
        return node.namespace.call(texts.find, event.family, event.table, event.chain, event.handle)

    with (
        node.namespace.call(TraceSession, wanted) as session,
        ThreadPoolExecutor(1) as pool,
    ):
        sent = pool.submit(probe_many, probes)
        found = []
        for connection, ending in session.run(4.0, count or len(probes)):
            routes = node.namespace.call(read_routes, [connection.destination.address])
            around = Surroundings(routes)
            found.append(trace_row(connection, ending, NO_NAMES, around, text_of, str))
        sent.result()
        assert not session.is_incomplete
    return found


def cluster_ip(family: Family, protocol: Protocol = Protocol.TCP, port: int = 80) -> TraceTarget:
    return TraceTarget(family, parse_address(CLUSTER_IP.of(family)), protocol, port)


@families
@protocols
def test_a_connection_that_is_answered(served: Cluster, family: Family, protocol: Protocol) -> None:
    """Endpoint and time are there; the client of a pod keeps its address. One packet is traced."""
    pod, far = served.pod(1, 1), served.pod(2, 1)
    web = everywhere(protocol=protocol)
    with proxied(served, web, *endpoints_of("web", [far], protocol=protocol)):
        probes = [Probe(pod, CLUSTER_IP.of(family), 80, protocol)] * 8
        rows = traced(served.nodes[0], cluster_ip(family, protocol), probes=probes)
    assert [row.ending for row in rows] == [TraceEnding.ANSWERED] * 8
    for row in rows:
        assert far.address(family) in row.endpoint
        assert pod.address(family) in row.client
        assert row.answered_ms is not None
        assert not row.source_changed
        assert row.interface_out != row.interface_in


@families
def test_each_kind_of_client_and_frontend(served: Cluster, family: Family) -> None:
    """A process of the node, an outside client at a node port, an endpoint on the node itself."""
    node, client = served.nodes[0], served.client
    with proxied(served, everywhere(), *endpoints_of("web", [served.pod(2, 1)])):
        rows = traced(
            node,
            cluster_ip(family),
            TraceTarget(family, b"", Protocol.TCP, NODE_PORT),
            probes=[
                Probe(node, CLUSTER_IP.of(family), 80),
                Probe(client, node.address(family), NODE_PORT),
            ],
        )
        assert {row.ending for row in rows} == {TraceEnding.ANSWERED}
        assert {row.source_changed for row in rows} == {False, True}
    with proxied(served, everywhere(), *endpoints_of("web", [node])):
        probes = [Probe(served.pod(1, 1), CLUSTER_IP.of(family), 80)]
        (row,) = traced(node, cluster_ip(family), probes=probes)
        assert row.hook == "input"


@families
def test_a_drop_by_another_program_is_named(served: Cluster, flushed: None, family: Family) -> None:
    """By hook, table, chain, handle, and the rule's own text with its comment."""
    node, far = served.nodes[0], served.pod(2, 1)
    address = far.address(family)
    rules.load(
        node,
        "table inet cni-policy {\n chain forward {\n type filter hook forward priority 0\n"
        f" {family.table} daddr {{ {address}, {served.client.address(family)} }} tcp dport 8080 "
        'counter drop comment "NetworkPolicy shop/deny-all"\n }\n}',
    )
    with proxied(served, everywhere(), *endpoints_of("web", [far])):
        probes = [Probe(served.pod(1, 1), CLUSTER_IP.of(family), 80)]
        (row,) = traced(node, cluster_ip(family), probes=probes)
    assert (row.ending, row.code) == (TraceEnding.DROPPED_BY_OTHERS, Code.DROPPED_BY_OTHERS)
    assert row.text == "DROPPED in forward"
    assert row.dropped_by is not None
    assert (row.dropped_by.table, row.dropped_by.chain) == ("cni-policy", "forward")
    assert 'comment "NetworkPolicy shop/deny-all"' in row.dropped_by.text
    assert address in row.dropped_by.text


@pytest.mark.parametrize("hook", ["forward", "postrouting"])
def test_a_policy_that_drops_is_named(served: Cluster, flushed: None, hook: str) -> None:
    """A chain at the hook accepts nothing."""
    node, far = served.nodes[0], served.pod(2, 1)
    chain = f"type filter hook {hook} priority 0; policy drop;"
    rules.load(node, f"table inet strict {{\n chain every {{\n {chain}\n }}\n}}")
    with proxied(served, everywhere(), *endpoints_of("web", [far])):
        probes = [Probe(served.pod(1, 1), CLUSTER_IP.ipv4, 80)]
        (row,) = traced(node, cluster_ip(Family.IPV4), probes=probes)
    assert row.text == f"DROPPED in {hook}"
    assert "table inet strict, chain every, its policy" in row.because[0]


def test_an_answer_that_is_dropped_on_its_way_back(served: Cluster, flushed: None) -> None:
    """The packet itself came through."""
    node, far = served.nodes[0], served.pod(2, 1)
    rules.load(
        node,
        "table inet cni {\n chain f {\n type filter hook forward priority 0\n"
        f" ip saddr {far.ipv4} tcp sport 8080 drop\n }}\n}}",
    )
    with proxied(served, everywhere(), *endpoints_of("web", [far])):
        probes = [Probe(served.pod(1, 1), CLUSTER_IP.ipv4, 80)]
        (row,) = traced(node, cluster_ip(Family.IPV4), probes=probes)
    assert row.ending is TraceEnding.ANSWER_DROPPED
    assert row.text == "its answer was DROPPED in forward"


def test_an_endpoint_that_refuses(served: Cluster) -> None:
    """Nothing listens there: the reset is its answer."""
    far = served.pod(2, 1)
    web = everywhere()
    with proxied(served, web, *endpoints_of("web", [far], port=9)):
        probes = [Probe(served.pod(1, 1), CLUSTER_IP.ipv4, 80)]
        (row,) = traced(served.nodes[0], cluster_ip(Family.IPV4), probes=probes)
    assert (row.ending, row.code) == (TraceEnding.REFUSED_BY_ENDPOINT, Code.ENDPOINT_REFUSES)


@families
def test_a_packet_that_is_lost_beyond_this_node(
    served: Cluster, flushed: None, family: Family
) -> None:
    """It left by an interface; another node drops it."""
    far = served.pod(2, 1)
    other = served.nodes[1]
    drop = f"{family.table} daddr {far.address(family)} tcp dport 8080 drop"
    rules.load(
        other,
        f"table inet far {{\n chain f {{\n type filter hook forward priority 0\n {drop}\n }}\n}}",
    )
    try:
        with proxied(served, everywhere(), *endpoints_of("web", [far])):
            probes = [Probe(served.pod(1, 1), CLUSTER_IP.of(family), 80)]
            (row,) = traced(served.nodes[0], cluster_ip(family), probes=probes)
    finally:
        rules.flush(other)
    assert (row.ending, row.code) == (TraceEnding.UNANSWERED, Code.UNANSWERED)
    assert "no answer came back" in row.text


@families
def test_an_endpoint_without_a_route(served: Cluster, family: Family) -> None:
    """The packet is gone between the translation and forward."""
    node = served.nodes[0]
    far = "10.250.9.9" if family is Family.IPV4 else "fd00:250::9"
    node.namespace.run(
        ["ip", f"-{4 if family is Family.IPV4 else 6}", "route", "add", "blackhole", far]
    )
    web = service("web", cluster_ips=CLUSTER_IP)
    piece = endpoint_slice("web", endpoint(far, "node-2"), name="one", family=family)
    try:
        with proxied(served, web, piece):
            probes = [Probe(served.pod(1, 1), CLUSTER_IP.of(family), 80)]
            (row,) = traced(node, cluster_ip(family), probes=probes)
    finally:
        node.namespace.run(["ip", "route", "del", "blackhole", far])
    assert (row.ending, row.code) == (TraceEnding.LOST, Code.NO_ROUTE)
    assert row.text == f"LOST: no route to {far} (blackhole)"


def test_what_nfproxy_itself_refuses_and_drops(served: Cluster) -> None:
    """Without endpoints it refuses. It drops where policy Local or a source range says so."""
    node, client = served.nodes[0], served.client
    with proxied(served, everywhere()):
        (row,) = traced(
            node, cluster_ip(Family.IPV4), probes=[Probe(served.pod(1, 1), CLUSTER_IP.ipv4, 80)]
        )
        assert row.ending is TraceEnding.REFUSED
    node_port = TraceTarget(Family.IPV4, b"", Protocol.TCP, NODE_PORT)
    with proxied(served, everywhere(external_local=True), *endpoints_of("web", [served.pod(2, 1)])):
        (row,) = traced(node, node_port, probes=[Probe(client, node.ipv4, NODE_PORT)])
        assert row.ending is TraceEnding.DROPPED
    ranges = {"source_ranges": ("192.0.2.0/24",)}
    with proxied(served, everywhere(**ranges), *endpoints_of("web", [served.pod(2, 1)])):
        target = TraceTarget(Family.IPV4, parse_address(LOAD_BALANCER_IP.ipv4), Protocol.TCP, 80)
        (row,) = traced(node, target, probes=[Probe(client, LOAD_BALANCER_IP.ipv4, 80)])
        assert row.ending is TraceEnding.DROPPED
        assert "loadBalancerSourceRanges" in row.because[0]


def test_only_the_named_client_is_traced(served: Cluster) -> None:
    """Others ask at the same time."""
    one, other = served.pod(1, 1), served.pod(1, 2)
    with proxied(served, everywhere(), *endpoints_of("web", [served.pod(2, 1)])):
        probes = [Probe(other, CLUSTER_IP.ipv4, 80), Probe(one, CLUSTER_IP.ipv4, 80)]
        rows = traced(
            served.nodes[0], cluster_ip(Family.IPV4), probes=probes, client=one.ipv4, count=1
        )
    assert [one.ipv4 in row.client for row in rows] == [True]


def test_nothing_is_left_of_a_trace_that_is_killed(served: Cluster) -> None:
    """The kernel removes the table with the process; only packets to the targets were marked."""
    node = served.nodes[0]
    program = (
        "import time; from nfproxy.tools.trace.session import TraceSession; "
        "from nfproxy.tools.trace.table import TraceTarget; "
        "from nfproxy.model.addresses import Family; "
        "session = TraceSession([TraceTarget(Family.IPV4, bytes((10, 96, 0, 1)))]); "
        "print('ready', flush=True); time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    process = node.namespace.start(
        [sys.executable, "-P", "-c", program],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert "nfproxy-trace" in rules.listing(node, "tables")
    process.kill()
    process.wait()
    process.stdout.close()
    node.namespace.stop(process)
    assert "nfproxy-trace" not in rules.listing(node, "tables")
