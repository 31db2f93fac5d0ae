"""Endpoints that refuse, are silent, or left; clients that stay where they are."""

from __future__ import annotations

import socket

from incidents.conftest import WEB, Incident
from support.packets.sending import Probe, probe_many
from support.processes.commands import wait_until

from nfproxy.model.service import Protocol

DROP = """
table ip quiet {
    chain incoming {
        type filter hook input priority 0; policy accept;
        tcp dport 8080 drop
    }
}
"""
REJECT = """
table ip deaf {
    chain incoming {
        type filter hook input priority 0; policy accept;
        tcp dport 8080 reject with tcp reset
    }
}
"""


def test_an_endpoint_refuses(incident: Incident) -> None:
    """The Service's targetPort is one at which nothing listens on pod-2-1."""
    pod = incident.cluster.pod(2, 1)
    incident.nft(REJECT, pod)
    try:
        assert any(one.refused for one in incident.clients_try())
        answer = incident.explain("shop/web", "--probe")
    finally:
        incident.nft("delete table ip deaf", pod)
    assert answer.codes == ["fail EndpointRefuses"]
    assert "10.244.2.11:8080" in answer.messages
    assert "WORKS IN PART" in answer.first_line


def test_an_endpoint_is_silent(incident: Incident) -> None:
    """Something beyond this node drops the packets: a NetworkPolicy there, a firewall."""
    pod = incident.cluster.pod(2, 1)
    incident.nft(DROP, pod)
    try:
        assert not all(one.answered for one in incident.clients_try())
        incident.wait_a_second()
        answer = incident.explain("shop/web")
    finally:
        incident.nft("delete table ip quiet", pod)
    assert answer.codes == ["fail Unanswered"]
    assert "10.244.2.11:8080" in answer.messages
    assert "10.244.1.12" in answer.messages
    rows = answer.data["ports"][0]["endpoints"]
    assert [bool(row["connections"]["unanswered"]) for row in rows] == [False, True]


def test_open_connections_lead_to_an_endpoint_that_left(incident: Incident) -> None:
    client = incident.cluster.pod(1, 2)
    held: list[socket.socket] = []
    try:
        for _ in range(12):
            one = client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.append(one)
            one.connect((WEB, 80))
            one.recv(100)
        incident.remove_endpoint("10.244.2.11")
        answer = incident.explain("shop/web")
    finally:
        for one in held:
            one.close()
    assert answer.codes == ["warn StaleTCP"]
    assert "LOOK AT THIS" in answer.first_line
    assert "10.244.2.11:8080" in answer.messages
    (stale,) = answer.data["ports"][0]["stale"]
    assert stale["clients"] == ["10.244.1.12"]


def test_session_affinity_pins_clients(incident: Incident) -> None:
    incident.change("web", sessionAffinity="ClientIP")
    wait_until(lambda: "clients-" in incident.on_node("nft list maps"))
    assert len({one.by for one in incident.clients_try()}) == 1
    answer = incident.explain("shop/web")
    assert answer.codes == ["note AffinityPins"]
    assert "works" in answer.first_line
    assert "1 of 2 endpoints" in answer.messages


def test_session_affinity_pins_a_client_to_a_silent_endpoint(incident: Incident) -> None:
    incident.change("web", sessionAffinity="ClientIP")
    wait_until(lambda: "clients-" in incident.on_node("nft list maps"))
    (name,) = {one.by for one in incident.clients_try()}
    pod = incident.cluster.host(name)
    incident.nft(DROP, pod)
    try:
        assert all(one.dropped for one in incident.clients_try())
        incident.wait_a_second()
        answer = incident.explain("shop/web")
    finally:
        incident.nft("delete table ip quiet", pod)
    assert answer.codes == ["fail Unanswered", "warn AffinityPins"]
    assert pod.ipv4 in answer.messages


def test_pods_lose_their_addresses(stopped: Incident) -> None:
    """ClusterCIDR is wrong: pods count as outside clients."""
    with stopped.nfproxy("--cluster-cidr=10.245.0.0/16"):
        assert all(one.masqueraded for one in stopped.clients_try())
        answer = stopped.explain("shop/web")
    assert answer.codes == ["warn ClusterCIDRMissesPods"]
    assert "LOOK AT THIS" in answer.first_line
    assert "of this node's pods (10.244.1.12" in answer.messages
    assert "10.245.0.0/16" in answer.messages


def test_a_slice_lists_a_pod_that_is_gone(incident: Incident) -> None:
    """No route of a pod is there, so packets leave by the default route."""
    incident.change_slice(
        "web-abcde", endpoints=[{"addresses": ["10.244.1.99"], "nodeName": "node-1"}]
    )
    wait_until(lambda: "10.244.1.99" in incident.on_node("nft list table ip nfproxy"))
    quiet = incident.explain("shop/web")
    assert all(one.dropped for one in incident.clients_try(times=2))
    incident.wait_a_second()
    answer = incident.explain("shop/web")
    assert quiet.codes == ["warn PodNotHere"]
    assert answer.codes == ["fail Unanswered", "warn PodNotHere"]
    assert "DROPS every connection" in answer.first_line
    assert "leave by the default route" in answer.messages


def test_udp_endpoints_refuse(incident: Incident) -> None:
    """Only an ICMP error says so: the flow stays in conntrack without an answer."""
    incident.change("web", ports=[{"name": "http", "port": 80, "protocol": "UDP"}])
    ports = [{"name": "http", "port": 8099, "protocol": "UDP"}]
    incident.change_slice("web-abcde", ports=ports)

    def is_in_force() -> bool:
        lines = incident.on_node("nft list map ip nfproxy frontends").splitlines()
        return any(f"{WEB} . udp . 80 " in line and "cluster-udp" in line for line in lines)

    wait_until(is_in_force)
    one = Probe(incident.cluster.pod(1, 2), WEB, 80, Protocol.UDP)
    assert all(outcome.refused for outcome in probe_many([one] * 4))
    answer = incident.explain("shop/web")
    assert answer.codes == ["fail EndpointRefuses"] * 2
    assert "REFUSES every connection" in answer.first_line
