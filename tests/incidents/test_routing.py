"""The node has a route itself, and forwards its clients' packets another way, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from incidents.conftest import WEB, Incident

#: By which rule packets of pod-1-2, or of outside clients, come to a table without a way.
RULES = {
    "source": "from 10.244.1.12",
    "interface": "iif veth-1-2",
}


@pytest.fixture
def without_way(again: Incident) -> Iterator[None]:
    again.on_node("ip route add blackhole 10.244.2.0/24 table 100")
    yield
    again.on_node("ip route flush table 100")


@pytest.mark.parametrize("name", RULES)
def test_a_routing_rule_leads_pods_elsewhere(again: Incident, without_way: None, name: str) -> None:
    again.on_node(f"ip rule add {RULES[name]} lookup 100")
    try:
        assert not all(one.answered for one in again.clients_try())
        answer = again.explain("shop/web")
        named = again.explain("shop/web", "--from", "10.244.1.12")
    finally:
        again.on_node(f"ip rule del {RULES[name]} lookup 100")
    for one in (answer, named):
        assert one.codes == ["fail NoRoute"]
        assert "ip route get 10.244.2.11 from 10.244.1.12 iif veth-1-2" in one.messages
    assert "WORKS IN PART" in answer.first_line
    assert again.explain("shop/web", "--from", "10.244.1.12").codes == []


def test_a_routing_rule_takes_masqueraded_packets(again: Incident, without_way: None) -> None:
    """Another program uses the bit of the mark with which nfproxy asks for source NAT."""
    again.on_node("ip rule add fwmark 0x4000/0x4000 lookup 100")
    try:
        answer = again.explain("shop/web")
    finally:
        again.on_node("ip rule del fwmark 0x4000/0x4000 lookup 100")
    assert answer.codes == ["fail NoRoute"]
    assert "packets of clients from outside to 10.244.2.11" in answer.messages
    assert "mark 0x4000" in answer.messages


def test_a_pod_of_another_node_has_an_address_of_this_one(again: Incident) -> None:
    again.on_node("ip addr add 10.244.2.11/32 dev lo")
    try:
        assert any(one.refused for one in again.clients_try())
        answer = again.explain("shop/web", "--no-probe")
    finally:
        again.on_node("ip addr del 10.244.2.11/32 dev lo")
    assert answer.codes == ["fail NoRoute"]
    assert "10.244.2.11 is an address of this node itself" in answer.messages
    assert "WORKS IN PART" in answer.first_line


def test_an_interface_forwards_nothing(again: Incident) -> None:
    again.clients_try(times=1)
    again.node.namespace.set_sysctls({"ipv4/conf/veth-1-2/forwarding": "0"})
    try:
        assert all(one.dropped for one in again.clients_try(times=1))
        answer = again.explain("shop/web", "--from", "10.244.1.12")
    finally:
        again.node.namespace.set_sysctls({"ipv4/conf/veth-1-2/forwarding": "1"})
    assert set(answer.codes) == {"fail NoRoute"}
    assert "net.ipv4.conf.veth-1-2.forwarding" in answer.messages


def test_the_next_hop_does_not_answer(again: Incident) -> None:
    again.on_node("ip route replace 10.244.2.0/24 via 192.168.77.55")
    again.on_node("ip neigh replace 192.168.77.55 dev eth0 nud failed")
    try:
        answer = again.explain("shop/web", "--no-probe")
    finally:
        again.on_node("ip route replace 10.244.2.0/24 via 192.168.77.12")
    assert answer.codes == ["warn NoNeighbour"]
    assert "192.168.77.55, does not answer on interface eth0" in answer.messages
    assert all(one.answered for one in again.clients_try(WEB, times=2))
