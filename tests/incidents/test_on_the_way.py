"""Packets that do not reach an endpoint, or not whole: routes, bridges, rules of others, sizes."""

from __future__ import annotations

import socket

import pytest
from incidents.conftest import Answer, Incident
from support.packets import xdp
from support.packets.sending import tally

from nfproxy.tools.lab.cluster import set_bridge_netfilter


def received(answer: Answer) -> int:
    """Return how many connections the frontends have received."""
    (port,) = answer.data["ports"]
    return sum(row["newConnections"] for row in port["frontends"])


def test_nothing_is_wrong(again: Incident) -> None:
    """A node with traffic: to a cluster IP and a node port, from pods and from outside."""
    outside = again.cluster.client
    before = again.explain("shop/web")
    assert all(one.answered for one in again.clients_try())
    assert all(one.answered for one in again.clients_try("192.168.77.11", 30080, source=outside))

    answer = again.explain("shop/web", "--probe")

    assert answer.codes == []
    assert answer.exit_status == 0
    assert answer.data["verdict"] == "works"
    seen = answer.data["seen"]
    assert (seen["kernel"], seen["connections"], seen["missing"]) == (True, True, [])
    assert seen["connectionCount"] == 32
    assert answer.first_line.endswith("on node-1: works")
    (port,) = answer.data["ports"]
    assert [row["inKernel"]["state"] for row in port["frontends"]] == ["equal", "equal"]
    assert received(answer) - received(before) == 32
    assert [row["probe"]["result"] for row in port["endpoints"]] == ["ok", "ok"]
    assert all(row["connections"]["sourceChanged"] for row in port["endpoints"])


@pytest.mark.parametrize("name", ["shop/web", "shop/api", "shop/mail"])
def test_nothing_is_wrong_without_traffic(again: Incident, name: str) -> None:
    answer = again.explain(name)
    assert [code for code in answer.codes if not code.startswith("note")] == []
    assert answer.exit_status == 0


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
def test_a_route_to_an_endpoint_is_missing(again: Incident, kind: str) -> None:
    again.on_node(f"ip route add {kind} 10.244.2.11")
    try:
        outcomes = again.clients_try()
        assert not all(one.answered for one in outcomes)

        answer = again.explain("shop/web")
        probed = again.explain("shop/web", "--probe")
    finally:
        again.on_node(f"ip route del {kind} 10.244.2.11")

    assert answer.codes == ["fail NoRoute"]
    assert answer.exit_status == 1
    assert "WORKS IN PART" in answer.first_line
    assert f"10.244.2.11 ({kind})" in answer.messages
    rows = probed.data["ports"][0]["endpoints"]
    assert [row["probe"]["result"] for row in rows] == ["ok", "no route"]


def test_every_route_is_missing(again: Incident) -> None:
    for pod in ("10.244.1.11", "10.244.2.11"):
        again.on_node(f"ip route replace blackhole {pod}")
    try:
        assert tally(again.clients_try())["dropped"] == 16
        answer = again.explain("shop/web")
    finally:
        again.on_node("ip route del blackhole 10.244.1.11")
        again.on_node("ip route del blackhole 10.244.2.11")
        again.on_node("ip route replace 10.244.1.11 dev veth-1-1")
    assert answer.codes == ["fail NoRoute", "fail NoRoute"]
    assert "DROPS every connection" in answer.first_line


def test_a_pod_behind_a_bridge_cannot_reach_itself(bridged: Incident) -> None:
    bridged.clients_try()
    port = bridged.cluster.pod(1, 1).interface
    bridged.on_node(f"ip link set dev {port} type bridge_slave hairpin off")
    try:
        answer = bridged.explain("shop/web")
    finally:
        bridged.on_node(f"ip link set dev {port} type bridge_slave hairpin on")
    assert answer.codes == ["warn NoHairpin"]
    assert "LOOK AT THIS" in answer.first_line
    assert port in answer.messages
    assert bridged.explain("shop/web").codes == []


def test_bridged_packets_pass_by_netfilter(bridged: Incident) -> None:
    set_bridge_netfilter(bridged.node, on=False)
    try:
        # The answer of pod-1-1 comes from an address that pod-1-2 did not ask.
        assert not all(one.answered for one in bridged.clients_try())
        answer = bridged.explain("shop/web")
    finally:
        set_bridge_netfilter(bridged.node, on=True)
    assert "fail BridgeNetfilterOff" in answer.codes
    assert answer.exit_status == 1


def test_large_answers_do_not_fit_the_way(again: Incident) -> None:
    """ESTABLISHED, and then nothing: the way to the other node takes less than pods send."""
    far = again.cluster.nodes[1].ipv4
    again.on_node(f"ip route change 10.244.2.0/24 via {far} mtu 1300")
    client = again.cluster.pod(1, 2)
    try:
        quiet = again.explain("shop/web")
        with client.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, 10, 3)  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
            sender.sendto(bytes(1400), ("10.244.2.11", 9))
        answer = again.explain("shop/web")
    finally:
        again.on_node(f"ip route change 10.244.2.0/24 via {far}")
    assert quiet.codes == ["note MTUSmaller"]
    assert answer.codes == ["warn MTUSmaller"]
    assert "1300" in answer.messages


def test_programs_at_an_interface_see_packets_first(again: Incident) -> None:
    """No rule says what they do: they are named, for those that take packets as a warning."""
    device = again.cluster.pod(1, 2).interface
    again.clients_try(times=1)
    again.node.namespace.call(xdp.drop_all, device)
    again.on_node(f"tc qdisc add dev {device} clsact")
    try:
        assert all(one.dropped for one in again.clients_try(times=1))
        quiet = again.explain("shop/web")
        again.on_node(
            f"tc filter add dev {device} ingress protocol ip u32 match ip dport 80 0xffff "
            "action mirred egress redirect dev lo"
        )
        answer = again.explain("shop/web")
    finally:
        again.on_node(f"tc qdisc del dev {device} clsact")
        again.node.namespace.call(xdp.take_off, device)
    assert quiet.codes == ["note NotFollowed"]
    assert f"an XDP program of {device}" in quiet.messages
    assert answer.codes == ["warn NotFollowed"]
    assert "LOOK AT THIS" in answer.first_line
    assert f"a tc filter (u32) at ingress of {device}" in answer.messages
    assert again.explain("shop/web").codes == []


def test_a_node_forwards_nothing(again: Incident) -> None:
    again.node.namespace.set_sysctls({"ipv4/ip_forward": "0"})
    try:
        assert not any(one.answered for one in again.clients_try())
        answer = again.explain("shop/web")
    finally:
        again.node.namespace.set_sysctls({"ipv4/ip_forward": "1"})
    assert "fail ForwardPolicy" in answer.codes
    assert "ip_forward" in answer.messages
