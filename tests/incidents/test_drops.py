"""Rules of other programs, and the kernel's own checks, that drop packets on this node."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from incidents.conftest import WEB, Incident

TABLE = "table {family} fw {{ {sets} chain f {{ type filter hook {hook}; {rule}; }}; }}"
FORWARD, RAW = "forward priority 0", "prerouting priority -300"
PORTS = "set ports { type inet_service; elements = { 8080, 9090 }; };"
PODS = "set pods { type ipv4_addr; flags interval; elements = { 10.244.2.0/24 }; };"
PAIRS = "set p { type ipv4_addr . inet_service; elements = { 10.244.2.11 . 8080 }; };"

#: A rule, the sets that it needs, and its family: each drops what pod-2-1 should get, or answers.
TO_ONE = {
    "address": ("ip daddr 10.244.2.11 tcp dport 8080 counter drop", "", "inet"),
    "prefix": ("ip daddr 10.244.2.0/24 counter drop", "", "inet"),
    "masked": ("ip daddr & 255.255.254.255 == 10.244.2.11 counter drop", "", "ip"),
    "range": ("ip daddr @pods tcp dport @ports counter drop", PODS + PORTS, "inet"),
    "pair": ("ip daddr . tcp dport @p counter drop", PAIRS, "ip"),
    "reject": ("ip daddr { 10.244.2.11, 10.1.1.1 } counter reject", "", "ip"),
    "answer": ("ip saddr 10.244.2.11 counter drop", "", "ip"),
}


@contextlib.contextmanager
def knocking(incident: Incident) -> Iterator[None]:
    """Keep a client of the Service trying; the kernel sends its SYN again after a second."""
    client = incident.cluster.pod(1, 2)
    with client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as trying:
        trying.setblocking(False)
        trying.connect_ex((WEB, 80))
        yield


@pytest.mark.parametrize("name", TO_ONE)
def test_a_rule_of_others_drops_packets_to_one_endpoint(again: Incident, name: str) -> None:
    rule, sets, family = TO_ONE[name]
    comment = ' comment "NetworkPolicy shop/deny-all"'
    again.nft(TABLE.format(family=family, sets=sets, hook=FORWARD, rule=rule + comment))
    assert not all(one.answered for one in again.clients_try())
    answer = again.explain("shop/web")
    assert "fail DroppedByOthers" in answer.codes
    assert set(answer.codes) <= {"fail DroppedByOthers", "fail Unanswered"}
    assert "WORKS IN PART" in answer.first_line
    assert f"table {family} fw, chain f" in answer.messages
    assert "NetworkPolicy shop/deny-all" in answer.messages


@pytest.mark.parametrize(
    "rule",
    [
        "ip daddr 10.244.2.11 tcp dport 22 counter drop",
        "ip daddr 10.244.2.11 udp dport @ports counter accept",
        "ip daddr != 10.244.1.11 ip daddr 10.99.0.1 counter drop",
        "ip daddr @pods tcp dport 22 counter drop",
    ],
)
def test_a_rule_for_something_else_is_not_named(again: Incident, rule: str) -> None:
    text = TABLE.format(family="inet", sets=PODS + PORTS, hook=FORWARD, rule=rule)
    again.nft(text.replace("counter", "counter packets 9 bytes 99"))
    assert all(one.answered for one in again.clients_try())
    assert again.explain("shop/web").codes == []


def test_a_rule_drops_everything_to_a_port(again: Incident) -> None:
    again.nft(TABLE.format(family="ip", sets="", hook=FORWARD, rule="tcp dport 8080 counter drop"))
    with knocking(again):
        answer = again.explain("shop/web")
    assert answer.codes == ["fail DroppedByOthers"]
    assert "DROPS every connection" in answer.first_line


def test_a_rule_drops_packets_before_they_are_translated(again: Incident) -> None:
    rule = f"ip daddr {WEB} counter drop"
    again.nft(TABLE.format(family="inet", sets="", hook=RAW, rule=rule))
    assert all(one.dropped for one in again.clients_try(times=2))
    answer = again.explain("shop/web")
    assert answer.codes == ["fail DroppedByOthers"]
    assert f"packets to {WEB}:80/tcp are dropped, before nfproxy translates them" in answer.messages


def test_an_answer_is_dropped_on_its_way_back(again: Incident) -> None:
    again.nft(TABLE.format(family="ip", sets="", hook=FORWARD, rule="tcp sport 8080 counter drop"))
    assert all(one.dropped for one in again.clients_try(times=4))
    again.wait_a_second()
    answer = again.explain("shop/web")
    assert set(answer.codes) == {"fail Unanswered", "fail DroppedByOthers"}
    assert "and the client has not got it" in answer.messages
    assert "DROPS every connection" in answer.first_line


@pytest.mark.parametrize(
    "rule",
    [
        "tcp dport 8080 ct state new limit rate over 1/minute burst 1 packets counter drop",
        "ct state established accept; limit rate 1/minute burst 1 packets accept; counter drop",
    ],
)
def test_a_limit_drops_some_packets(again: Incident, rule: str) -> None:
    again.nft(TABLE.format(family="ip", sets="", hook=FORWARD, rule=rule))
    assert any(one.dropped for one in again.clients_try(times=4))
    answer = again.explain("shop/web")
    assert answer.codes == ["warn DroppedByOthers"]
    assert answer.first_line.endswith("works, LOOK AT THIS")
    assert "are dropped: by a limit, or by chance, of table ip fw, chain f" in answer.messages


def test_a_rule_that_is_not_followed_drops_packets_to_one_endpoint(again: Incident) -> None:
    """As one with an ipset; that chance leaves the endpoint out is unlikely."""
    rule = "rt nexthop 192.168.77.12 counter drop"
    again.nft(TABLE.format(family="ip", sets="", hook=FORWARD, rule=rule))
    assert sum(one.dropped for one in again.clients_try(times=40)) > 1
    answer = again.explain("shop/web")
    assert answer.codes == ["warn DroppedByOthers"]
    assert "connections went to 10.244.2.11" in answer.messages
    assert "table ip fw, chain f" in answer.messages


def test_a_policy_drops_everything(again: Incident) -> None:
    """The chain has no rule: that is clear before a client tries."""
    again.nft(TABLE.format(family="ip", sets="", hook=FORWARD, rule="policy drop"))
    answer = again.explain("shop/web")
    assert answer.codes == ["fail ForwardPolicy"]
    assert "DROPS every connection" in answer.first_line
    assert "chain f of table ip fw has policy drop and no rule" in answer.messages


@pytest.mark.parametrize("rule", ["iifname docker0 accept", "tcp dport 22 accept"])
def test_a_policy_with_rules_for_others_drops_everything(again: Incident, rule: str) -> None:
    rule = f"policy drop; {rule}"
    again.nft(TABLE.format(family="ip", sets="", hook=FORWARD, rule=rule))
    answer = again.explain("shop/web")
    assert answer.codes == ["fail ForwardPolicy"]
    assert "DROPS every connection" in answer.first_line


def test_a_policy_with_rules_drops_what_they_do_not_accept(again: Incident) -> None:
    """What marks packets is not known, so that only a client shows whether they are dropped."""
    rule = "policy drop; meta mark 7 accept"
    again.nft(TABLE.format(family="ip", sets="", hook=FORWARD, rule=rule))
    with knocking(again):
        answer = again.explain("shop/web")
    assert answer.codes == ["fail LostOnNode"]
    assert "chain f of table ip fw" in answer.messages
    assert "nfproxy trace" in answer.messages


def test_iptables_legacy_drops(again: Incident) -> None:
    """No trace shows its rules; its policy and rules are read all the same."""
    try:
        again.on_node("iptables-legacy -P FORWARD DROP")
        policy = again.explain("shop/web")
        again.on_node("iptables-legacy -P FORWARD ACCEPT")
        again.on_node("iptables-legacy -A FORWARD -s 10.0.0.0/8 -j ACCEPT")
        again.on_node("iptables-legacy -I FORWARD ! -d 10.0.0.0/8 -j DROP")
        again.on_node("iptables-legacy -I FORWARD -d 10.244.2.0/24 -j DROP")
        assert not all(one.answered for one in again.clients_try())
        rule = again.explain("shop/web")
    finally:
        again.on_node("iptables-legacy -P FORWARD ACCEPT")
        again.on_node("iptables-legacy -F FORWARD")
    assert policy.codes == ["fail ForwardPolicy"]
    assert "DROPS every connection" in policy.first_line
    assert rule.codes == ["fail DroppedByOthers"]
    assert "WORKS IN PART" in rule.first_line
    assert "table ip filter (iptables-legacy), chain FORWARD" in rule.messages
    assert again.explain("shop/web").codes == []


def test_the_way_back_to_the_client_is_another(again: Incident) -> None:
    """rp_filter: what comes in by another interface than the answer would take is dropped."""
    pod = again.cluster.pod(1, 2)
    again.node.namespace.set_sysctls({"ipv4/conf/all/rp_filter": "1"})
    again.on_node(f"ip route replace {pod.ipv4} via 192.168.77.12")
    try:
        with knocking(again):
            answer = again.explain("shop/web")
    finally:
        again.on_node(f"ip route replace {pod.ipv4} dev {pod.interface}")
        again.node.namespace.set_sysctls({"ipv4/conf/all/rp_filter": "0"})
    assert answer.codes == ["fail ReversePath"]
    assert "rp_filter" in answer.messages
    assert "DROPS every connection" in answer.first_line
