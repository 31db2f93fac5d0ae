"""Packets that do not reach an endpoint, or not whole: routes, bridges, rules of others, sizes."""

from __future__ import annotations

import socket

import pytest
from incidents.conftest import WEB, Incident
from support.packets.sending import tally

from nfproxy.tools.lab.cluster import set_bridge_netfilter


def test_nothing_is_wrong(incident: Incident) -> None:
    """A node with traffic: to a cluster IP and a node port, from pods and from outside."""
    outside = incident.cluster.client
    assert all(one.answered for one in incident.clients_try())
    assert all(one.answered for one in incident.clients_try("192.168.77.11", 30080, source=outside))

    answer = incident.explain("shop/web", "--probe")

    assert answer.codes == []
    assert answer.exit_status == 0
    assert answer.data["verdict"] == "works"
    seen = answer.data["seen"]
    assert (seen["kernel"], seen["connections"], seen["missing"]) == (True, True, [])
    assert seen["connectionCount"] == 32
    assert "works" in answer.first_line
    (port,) = answer.data["ports"]
    assert [row["inKernel"]["state"] for row in port["frontends"]] == ["equal", "equal"]
    assert sum(row["newConnections"] for row in port["frontends"]) == 32
    assert [row["probe"]["result"] for row in port["endpoints"]] == ["ok", "ok"]
    assert all(row["connections"]["sourceChanged"] for row in port["endpoints"])


@pytest.mark.parametrize("name", ["shop/web", "shop/api", "shop/mail"])
def test_nothing_is_wrong_without_traffic(incident: Incident, name: str) -> None:
    answer = incident.explain(name)
    assert [code for code in answer.codes if not code.startswith("note")] == []
    assert answer.exit_status == 0


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
def test_a_route_to_an_endpoint_is_missing(incident: Incident, kind: str) -> None:
    incident.on_node(f"ip route add {kind} 10.244.2.11")
    try:
        outcomes = incident.clients_try()
        assert not all(one.answered for one in outcomes)

        answer = incident.explain("shop/web")
        probed = incident.explain("shop/web", "--probe")
    finally:
        incident.on_node(f"ip route del {kind} 10.244.2.11")

    assert answer.codes == ["fail NoRoute"]
    assert answer.exit_status == 1
    assert "WORKS IN PART" in answer.first_line
    assert f"10.244.2.11 ({kind})" in answer.messages
    rows = probed.data["ports"][0]["endpoints"]
    assert [row["probe"]["result"] for row in rows] == ["ok", "no route"]


def test_every_route_is_missing(incident: Incident) -> None:
    for pod in ("10.244.1.11", "10.244.2.11"):
        incident.on_node(f"ip route replace blackhole {pod}")
    try:
        assert tally(incident.clients_try())["dropped"] == 16
        answer = incident.explain("shop/web")
    finally:
        incident.on_node("ip route del blackhole 10.244.1.11")
        incident.on_node("ip route del blackhole 10.244.2.11")
        incident.on_node("ip route replace 10.244.1.11 dev veth-1-1")
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


def test_large_answers_do_not_fit_the_way(incident: Incident) -> None:
    """ESTABLISHED, and then nothing: the way to the other node takes less than pods send."""
    far = incident.cluster.nodes[1].ipv4
    incident.on_node(f"ip route change 10.244.2.0/24 via {far} mtu 1300")
    client = incident.cluster.pod(1, 2)
    try:
        quiet = incident.explain("shop/web")
        with client.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, 10, 3)  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
            sender.sendto(bytes(1400), ("10.244.2.11", 9))
        answer = incident.explain("shop/web")
    finally:
        incident.on_node(f"ip route change 10.244.2.0/24 via {far}")
    assert quiet.codes == ["note MTUSmaller"]
    assert answer.codes == ["warn MTUSmaller"]
    assert "1300" in answer.messages


def test_a_node_forwards_nothing(incident: Incident) -> None:
    incident.node.namespace.set_sysctls({"ipv4/ip_forward": "0"})
    try:
        assert not any(one.answered for one in incident.clients_try())
        answer = incident.explain("shop/web")
    finally:
        incident.node.namespace.set_sysctls({"ipv4/ip_forward": "1"})
    assert "fail ForwardPolicy" in answer.codes
    assert "ip_forward" in answer.messages


DENY = """
table inet cni-policy {{
    chain forward {{
        type filter hook forward priority 0; policy accept;
        ip daddr {address} tcp dport 8080 counter drop comment "NetworkPolicy shop/deny-all"
    }}
}}
"""


POLICY = """
table ip filter {
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
    }
}
"""


def test_a_rule_of_others_drops_packets_to_one_endpoint(incident: Incident) -> None:
    incident.nft(DENY.format(address="10.244.2.11"))
    assert not all(one.answered for one in incident.clients_try())
    answer = incident.explain("shop/web")
    assert answer.codes == ["fail DroppedByOthers"]
    assert "WORKS IN PART" in answer.first_line
    assert "inet cni-policy, chain forward" in answer.messages
    assert "NetworkPolicy shop/deny-all" in answer.messages


def test_a_policy_at_the_forward_hook_drops_everything(incident: Incident) -> None:
    incident.nft(POLICY)
    quiet = incident.explain("shop/web")
    client = incident.cluster.pod(1, 2)
    with client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as trying:
        trying.setblocking(False)
        trying.connect_ex((WEB, 80))  # its SYN goes out again after a second
        answer = incident.explain("shop/web")
    assert quiet.codes == []
    assert answer.codes == ["fail LostOnNode"]
    assert "chain FORWARD of table ip filter" in answer.messages
    assert "nfproxy trace" in answer.messages
