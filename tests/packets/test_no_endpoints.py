"""
What is refused at once and what is silently dropped, with real packets.

The rows of the table "No-endpoint and firewall behaviour" of kube-proxy's contract.
"""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from support.objects.model import endpoint_slice, service
from support.packets.sending import Probe, probe, probe_many
from support.packets.steps import (
    CLUSTER_IP,
    EXTERNAL_IP,
    LOAD_BALANCER_IP,
    NODE_PORT,
    OTHER_CLUSTER_IP,
    SHORT_S,
    Frontend,
    Streams,
    at,
    endpoints_of,
    everywhere,
    families,
    node_config,
    protocols,
    proxied,
    target,
)
from support.responders import Responders
from support.traffic import Traffic

from nfproxy.model.addresses import FAMILIES, Family, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import LocalPods
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster, Host
from nfproxy.tools.lab.hosts import Addresses

UNALLOCATED = Addresses("10.96.200.1", "fd00:10:96::c801")
SERVICE_CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")


@pytest.fixture(scope="module")
def served(served: Cluster, responders: Responders) -> Cluster:
    """Let the other node answer at an unallocated address."""
    node, other = served.nodes
    for family, length in zip(FAMILIES, (32, 128), strict=True):
        # to be seen where packets to it are let through
        local = f"{UNALLOCATED.of(family)}/{length}"
        other.add_address(local, "lo")
        node.add_route(local, via=other.address(family))
    for protocol in Protocol:
        responders.listen(other, 80, protocol, addresses=UNALLOCATED)
    return served


def sources(cluster: Cluster) -> dict[str, Host]:
    """Return an outside client, a pod of the node, and the node."""
    return {"client": cluster.client, "pod": cluster.pod(1, 1), "node": cluster.nodes[0]}


def ask(
    cluster: Cluster, destination: str, port: int, protocol: Protocol = Protocol.TCP
) -> dict[str, str]:
    """Return what became of a connection from everywhere: served, or the verdict."""
    probes = [Probe(host, destination, port, protocol) for host in sources(cluster).values()]
    outcomes = probe_many(probes, timeout_s=SHORT_S)
    return {
        name: "served" if one.answered else one.verdict.value
        for name, one in zip(sources(cluster), outcomes, strict=True)
    }


def all_are(verdict: str) -> dict[str, str]:
    """Return the outcomes of `ask` if all sources are treated alike."""
    return dict.fromkeys(("client", "pod", "node"), verdict)


SERVED, REFUSED, DROPPED = all_are("served"), all_are("refused"), all_are("dropped")


@families
@protocols
@pytest.mark.parametrize("sticky", [None, 600], ids=["free", "sticky"])
@pytest.mark.parametrize("external_local", [False, True], ids=["policy Cluster", "policy Local"])
def test_without_endpoints_every_frontend_refuses(
    served: Cluster, family: Family, protocol: Protocol, external_local: bool, sticky: int | None
) -> None:
    """No endpoint could serve: every client is refused at once, whatever the policies."""
    web = everywhere(
        protocol=protocol,
        external_local=external_local,
        internal_local=external_local,
        affinity_timeout_s=sticky,
    )
    with proxied(served, web) as proxy:
        for frontend in Frontend.ALL:
            found = ask(served, *target(served, frontend, family), protocol)
            assert found == REFUSED, frontend
        # served as soon as there are endpoints, refused again when the last one goes
        proxy.put(*endpoints_of("web", served.pods, protocol=protocol))
        for frontend in Frontend.ALL:
            found = ask(served, *target(served, frontend, family), protocol)
            assert found == SERVED, frontend
        proxy.put(*endpoints_of("web", [], protocol=protocol))
        for frontend in Frontend.ALL:
            found = ask(served, *target(served, frontend, family), protocol)
            assert found == REFUSED, frontend


@families
@pytest.mark.parametrize(
    "conditions",
    [
        {"ready": False, "serving": False},
        {"ready": False, "serving": True},
        {"ready": False, "serving": False, "terminating": True},
    ],
    ids=["not ready", "serving but not ready", "ended"],
)
def test_endpoints_that_may_not_be_used_are_none(
    served: Cluster, family: Family, conditions: dict[str, bool]
) -> None:
    """Endpoints that are neither ready, nor serving while they terminate, count for nothing."""
    endpoints = [at(pod, family, **conditions) for pod in served.pods]
    pieces = [
        endpoint_slice("web", *endpoints, name="some", family=family),
        endpoint_slice("web", name="empty", family=family),
    ]
    with proxied(served, everywhere(), *pieces):
        for frontend in Frontend.ALL:
            assert ask(served, *target(served, frontend, family)) == REFUSED, frontend


@families
@protocols
def test_internal_policy_local_without_local_endpoints(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """The cluster IP drops, for there are endpoints elsewhere; other addresses serve."""
    web = everywhere(protocol=protocol, internal_local=True)
    remote = served.nodes[1].pods.values()
    with proxied(served, web, *endpoints_of("web", remote, protocol=protocol)):
        where = target(served, Frontend.CLUSTER_IP, family)
        assert ask(served, *where, protocol) == DROPPED
        for frontend in Frontend.OUTER:
            found = ask(served, *target(served, frontend, family), protocol)
            assert found == SERVED, frontend


@families
@protocols
def test_external_policy_local_without_local_endpoints(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """Outside clients are dropped; pods and the node take the short cut to other nodes."""
    web = everywhere(protocol=protocol, external_local=True)
    remote = served.nodes[1].pods.values()
    with proxied(served, web, *endpoints_of("web", remote, protocol=protocol)):
        for frontend in Frontend.OUTER:
            found = ask(served, *target(served, frontend, family), protocol)
            assert found == SERVED | {"client": "dropped"}, frontend
        where = target(served, Frontend.CLUSTER_IP, family)
        assert ask(served, *where, protocol) == SERVED


@families
def test_no_short_cut_for_pods_that_cannot_be_recognised(served: Cluster, family: Family) -> None:
    """Without detection of local pods only the node takes the short cut."""
    web = everywhere(external_local=True)
    slices = endpoints_of("web", served.nodes[1].pods.values())
    with proxied(served, web, *slices, local_pods=LocalPods()):
        for frontend in Frontend.OUTER:
            found = ask(served, *target(served, frontend, family))
            assert found == DROPPED | {"node": "served"}, frontend


@families
@protocols
@pytest.mark.parametrize("with_endpoints", [True, False], ids=["endpoints", "no endpoints"])
def test_an_unknown_port_of_a_cluster_ip_is_refused(
    served: Cluster, family: Family, protocol: Protocol, with_endpoints: bool
) -> None:
    """Port and protocol both have to be the service's, whether it has endpoints or not."""
    address = CLUSTER_IP.of(family)
    slices = endpoints_of("web", served.pods if with_endpoints else (), protocol=protocol)
    cidrs = {"all": ServiceCIDR("all", tuple(map(parse_prefix, SERVICE_CIDRS)))}
    with proxied(served, everywhere(protocol=protocol), *slices) as proxy:
        for _ in range(2):  # the second time within a known ServiceCIDR
            assert ask(served, address, 81, protocol) == REFUSED
            for other in set(Protocol) - {protocol}:
                assert ask(served, address, 80, other) == REFUSED
            proxy.apply(Changes(service_cidrs=cidrs))  # type: ignore[arg-type]


@families
def test_an_echo_request_to_a_cluster_ip_is_refused(served: Cluster, family: Family) -> None:
    """A cluster IP is no host: ping learns so at once."""
    with proxied(served, everywhere(), *endpoints_of("web", served.pods)):
        for name, host in sources(served).items():
            assert ping(host, CLUSTER_IP.of(family)) == errno.ECONNREFUSED, name
            assert ping(host, served.pod(2, 1).address(family)) == 0, name
            assert ping(host, LOAD_BALANCER_IP.of(family)) is None, name


def ping(host: Host, destination: str) -> int | None:
    """Send an echo request; return 0 for a reply, the errno of an ICMP error, None for nothing."""
    six = ":" in destination
    family = socket.AF_INET6 if six else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    with host.namespace.socket(family, socket.SOCK_RAW, protocol) as sock:
        option = (socket.IPPROTO_IPV6, 25) if six else (socket.IPPROTO_IP, 11)  # RECVERR
        sock.setsockopt(*option, 1)
        sock.connect((destination, 0))
        sock.settimeout(0.2)
        try:
            sock.send(_echo_request(six))
        except PermissionError:
            pass  # rejected in our own output hook: the error comes just after
        except OSError as error:
            return error.errno
        return _ping_answer(sock, 129 if six else 0)


def _ping_answer(sock: socket.socket, echo_reply: int) -> int | None:
    for _ in range(20):  # neighbour discovery and others' answers pass by as well
        try:
            data = sock.recv(2048)
        except TimeoutError:
            return None
        except OSError as error:
            return error.errno
        if data[0 if sock.family == socket.AF_INET6 else 20] == echo_reply:
            return 0
    return None


def _echo_request(six: bool) -> bytes:
    kind = 128 if six else 8
    rest = struct.pack("!HH", 4711, 1)
    # the kernel fills in the checksum of ICMPv6
    checksum = ~(sum(struct.unpack("!3H", bytes((kind, 0)) + rest)) % 0xFFFF) & 0xFFFF
    return bytes((kind, 0)) + struct.pack("!H", checksum) + rest


@families
@protocols
def test_unallocated_service_addresses_are_dropped(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """Within a ServiceCIDR an address without a service is silent, so that clients try again."""
    address = UNALLOCATED.of(family)
    index = FAMILIES.index(family)
    whole = SERVICE_CIDRS[index]
    half = ("10.96.128.0/17", "fd00:10:96::8000/113")[index]
    elsewhere = ("10.97.0.0/16", "fd00:10:97::/112")[index]
    with proxied(served, everywhere(protocol=protocol)) as proxy:
        assert ask(served, address, 80, protocol) == SERVED
        for batch, outcomes in (
            (cidrs(one=elsewhere), SERVED),
            (cidrs(one=whole), DROPPED),
            (cidrs(two=half), DROPPED),
            (cidrs(one=None), DROPPED),  # the half that is left holds it
            (cidrs(one=whole, two=None), DROPPED),
            (cidrs(two=whole), DROPPED),
            (cidrs(one=None), DROPPED),
            (cidrs(two=None), SERVED),
        ):
            proxy.apply(batch)
            assert ask(served, address, 80, protocol) == outcomes, batch
        # a service at that address takes it out of the silence
        proxy.apply(cidrs(one=whole))
        there = service("there", cluster_ips=[address], protocol=protocol)
        proxy.put(there)
        assert ask(served, address, 80, protocol) == REFUSED
        proxy.put(*endpoints_of("there", served.pods, protocol=protocol))
        assert ask(served, address, 80, protocol) == SERVED


def cidrs(**named: str | None) -> Changes:
    """Return ServiceCIDRs that appeared or changed, or went away (None)."""
    return Changes(
        service_cidrs={
            name: None if text is None else ServiceCIDR(name, (parse_prefix(text),))
            for name, text in named.items()
        }
    )


@families
@protocols
def test_what_is_no_frontend_is_left_to_the_network(
    served: Cluster, responders: Responders, family: Family, protocol: Protocol
) -> None:
    """Other ports of load-balancer IPs, external IPs and the node, and loopback, are untouched."""
    node = served.nodes[0]
    pairs = (LOAD_BALANCER_IP.of(family), EXTERNAL_IP.of(family))
    length = 32 if family is Family.IPV4 else 128
    loopback = "127.0.0.1" if family is Family.IPV4 else "::1"
    own = node.address(family)
    for address in pairs:
        node.add_address(f"{address}/{length}", "lo")
    answering = [
        responders.listen(node, 81, protocol, addresses=[*pairs, own], identity="host"),
        responders.listen(node, NODE_PORT, protocol, addresses=[loopback], identity="host"),
    ]
    try:
        with proxied(served, everywhere(protocol=protocol)):
            for address in pairs:
                assert ask(served, address, 80, protocol) == REFUSED
            for address in (*pairs, own):
                assert ask(served, address, 81, protocol) == SERVED
            assert ask(served, own, NODE_PORT, protocol) == REFUSED
            assert probe(node, loopback, NODE_PORT, protocol).by == "host"
    finally:
        for one in answering:
            one.close()
        for address in pairs:
            node.remove_address(f"{address}/{length}", "lo")


@families
def test_a_node_port_number_elsewhere_is_left_to_the_network(
    served: Cluster, responders: Responders, family: Family
) -> None:
    """Where node ports are accepted on some addresses only, others belong to the host."""
    node = served.nodes[0]
    second = ("192.168.77.201", "fd77::201")[FAMILIES.index(family)]
    text = f"{second}/{24 if family is Family.IPV4 else 64}"
    node.add_address(text)
    answering = responders.listen(node, NODE_PORT, addresses=[second], identity="host")
    prefixes = node_config().node_ips
    accepted = {
        each: (parse_prefix(f"{node.address(each)}/{32 if each is Family.IPV4 else 128}"),)
        for each in prefixes
    }
    try:
        with proxied(served, everywhere(), node_port_prefixes=accepted):
            assert ask(served, node.address(family), NODE_PORT) == REFUSED
            assert ask(served, second, NODE_PORT) == SERVED
    finally:
        answering.close()
        node.remove_address(text)


@families
def test_established_connections_are_never_cut(served: Cluster, family: Family) -> None:
    """Only new connections are refused when a service loses its last endpoint, or goes."""
    web = everywhere()
    slices = endpoints_of("web", served.pods)
    cidrs = {"all": ServiceCIDR("all", tuple(map(parse_prefix, SERVICE_CIDRS)))}
    with proxied(served, web, *slices) as proxy:
        held = Traffic(served.client, CLUSTER_IP.of(family), 80, rate=20, held=4)
        with Streams(held) as streams:
            streams.run(5)
            proxy.put(*endpoints_of("web", []))
            streams.run(5)
            assert probe(served.client, CLUSTER_IP.of(family), 80).refused
            proxy.apply(
                Changes(
                    services={web.name: None},
                    service_cidrs=cidrs,  # type: ignore[arg-type]
                )
            )
            proxy.clean_up()
            streams.run(5)
            assert probe(served.client, CLUSTER_IP.of(family), 80).dropped
        assert streams.lost
        assert not [text for text in streams.lost if "held" in text]


@families
def test_one_service_without_endpoints_does_not_concern_another(
    served: Cluster, family: Family
) -> None:
    """Services are apart: one refuses and its neighbour serves."""
    other = service("other", cluster_ips=OTHER_CLUSTER_IP)
    with proxied(served, everywhere(), other, *endpoints_of("other", served.pods)):
        assert ask(served, CLUSTER_IP.of(family), 80) == REFUSED
        assert ask(served, OTHER_CLUSTER_IP.of(family), 80) == SERVED
