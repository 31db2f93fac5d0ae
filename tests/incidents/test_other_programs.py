"""What other programs do to packets before nfproxy has them, behind it, and to answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from incidents.conftest import WEB, Incident

BEFORE = "table ip fw {{ chain f {{ type {kind} hook prerouting priority {at}; {rule}; }}; }}"
NODE = "192.168.77.11"

#: Rules of a healthy node: of firewalld, of Docker, of a DNS cache, of a CNI plug-in.
HARMLESS = """
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority 10;
        ct state { established, related } accept
        ct status dnat accept
        ct state invalid counter drop
        counter reject with icmpx admin-prohibited
    }
    chain filter_INPUT {
        type filter hook input priority 10;
        ct state established,related accept
        iifname "lo" accept
        tcp dport 32060 accept
        counter reject with icmpx admin-prohibited
    }
}
table ip docker {
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
        ip daddr 10.244.0.0/16 counter accept
        ip saddr 10.244.0.0/16 counter accept
    }
    chain PREROUTING {
        type nat hook prerouting priority -100;
        fib daddr type local jump DOCKER
    }
    chain DOCKER {
        tcp dport 80 counter packets 9 bytes 99 dnat to 172.17.0.2:80
    }
    chain POSTROUTING {
        type nat hook postrouting priority 90;
        ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 counter masquerade
        ip saddr 172.17.0.0/16 counter packets 9 bytes 99 masquerade
    }
}
table ip raw {
    chain PREROUTING {
        type filter hook prerouting priority -300;
        udp dport { 53, 80, 4789 } counter packets 9 bytes 99 notrack
        ip daddr 169.254.20.10 counter packets 9 bytes 99 notrack
    }
}
"""


@contextlib.contextmanager
def iptables(incident: Incident, command: str, rule: str) -> Iterator[None]:
    """Add a rule with a program, and remove it."""
    table, chain, rest = rule.split(" ", 2)
    for verb in ("-A", "-D"):
        incident.on_node(f"{command} -t {table} {verb} {chain} {rest}")
        if verb == "-A":
            try:
                yield
            except BaseException:
                incident.on_node(f"{command} -t {table} -F")
                raise


def test_nothing_is_wrong_beside_rules_of_others(again: Incident) -> None:
    again.nft(HARMLESS)
    outside = again.cluster.client
    assert all(one.answered for one in again.clients_try())
    assert all(one.answered for one in again.clients_try(NODE, 30080, source=outside))
    assert again.explain("shop/web").codes == []
    assert again.explain("shop/web", "--from", "10.244.1.12").codes == []
    assert again.explain("shop/audit").codes == ["note NoLocalExternal"]


@pytest.mark.parametrize("command", ["nft", "iptables-nft", "iptables-legacy"])
def test_packets_are_not_tracked(again: Incident, command: str) -> None:
    """Without an entry of conntrack there is no translation: the frontend never sees them."""
    with contextlib.ExitStack() as stack:
        if command == "nft":
            rule = f"ip daddr {WEB} counter notrack"
            again.nft(BEFORE.format(kind="filter", at=-300, rule=rule))
        else:
            rule = f"raw PREROUTING -d {WEB} -j CT --notrack"
            stack.enter_context(iptables(again, command, rule))
        assert all(one.dropped for one in again.clients_try(times=2))
        answer = again.explain("shop/web")
    assert answer.codes == ["fail NotTracked"]
    assert "WORKS IN PART" in answer.first_line
    assert f"packets to {WEB}:80/tcp are not tracked" in answer.messages


def test_a_chain_of_an_interface_drops(again: Incident) -> None:
    """Whose packets come in there is known by what the node has heard of pods."""
    again.nft(
        'table netdev fw { chain f { type filter hook ingress device "veth-1-2" priority 0; '
        "tcp dport 80 counter drop; }; }"
    )
    assert all(one.dropped for one in again.clients_try(times=2))
    answer = again.explain("shop/web")
    named = again.explain("shop/web", "--from", "10.244.1.12")
    assert answer.codes == named.codes == ["fail DroppedByOthers"]
    assert "WORKS IN PART" in answer.first_line
    assert ": DROPPED" in named.first_line  # all of its packets to the cluster IP are
    assert "packets of clients at interface veth-1-2 to" in answer.messages


def test_answers_are_not_tracked(again: Incident) -> None:
    again.nft(BEFORE.format(kind="filter", at=-300, rule="tcp sport 8080 counter notrack"))
    assert all(one.dropped for one in again.clients_try(times=2))
    answer = again.explain("shop/web")
    assert "fail NotTracked" in answer.codes
    assert "DROPS every connection" in answer.first_line
    assert "answers of 10.244.1.11, 10.244.2.11 are not tracked" in answer.messages


@pytest.mark.parametrize(
    "rule",
    [
        f"ip daddr {WEB} tcp dport 80 counter dnat to 10.244.2.12:9999",
        "iifname veth-1-2 tcp dport 80 counter redirect to :15001",
    ],
)
def test_another_program_translates_first(again: Incident, rule: str) -> None:
    again.nft(BEFORE.format(kind="nat", at=-110, rule=rule))
    assert all(one.refused for one in again.clients_try(times=2))
    answer = again.explain("shop/web", "--from", "10.244.1.12")
    assert answer.codes == ["fail TranslatedByOthers"]
    assert ": DROPPED" in answer.first_line
    assert f"packets to {WEB}:80/tcp are sent elsewhere" in answer.messages


def test_another_program_has_published_a_node_port(again: Incident) -> None:
    rule = f"nat PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 30080 -j DNAT --to {NODE}:9"
    with iptables(again, "iptables-legacy", rule):
        outside = again.cluster.client
        assert all(one.refused for one in again.clients_try(NODE, 30080, source=outside, times=2))
        answer = again.explain("shop/web")
    assert answer.codes == ["fail TranslatedByOthers"]
    assert "node port 30080/tcp (IPv4) are sent elsewhere" in answer.messages
    assert "iptables-legacy -t nat -vnL PREROUTING" in answer.messages


def test_another_program_clears_the_mark(again: Incident) -> None:
    """By it nfproxy asks for source NAT: without that, the other node answers the client itself."""
    again.nft(
        "table ip fw { chain f { type filter hook postrouting priority 0; meta mark set 0; }; }"
    )
    outside = again.cluster.client
    assert any(one.dropped for one in again.clients_try(NODE, 30080, source=outside))
    again.wait_a_second()
    answer = again.explain("shop/web")
    assert answer.codes == ["fail Unanswered", "fail NotMasqueraded"]
    assert "WORKS IN PART" in answer.first_line
    assert "the mark 0x4000" in answer.messages


def test_clients_appear_at_an_address_of_another_machine(again: Incident) -> None:
    again.nft(
        "table ip fw { chain f { type nat hook postrouting priority 90; "
        "tcp dport 8080 counter snat to 203.0.113.200; }; }"
    )
    again.clients_try(times=8)
    answer = again.explain("shop/web")
    assert {code.split()[1] for code in answer.codes} >= {"SourceChanged"}
    assert "203.0.113.200, which is no address of this node" in answer.messages


@pytest.mark.parametrize(
    "rules",
    [
        "chain w { type filter hook forward priority 0; ip daddr 10.244.1.11 jump pod; }; "
        "chain pod { tcp dport 9 accept; meta mark & 0x10000 != 0x10000 counter reject; };",
        'chain w { type filter hook forward priority 0; oifname "veth-1-1" goto pod; }; '
        "chain pod { ct state established accept; meta mark & 0x10000 == 0 counter drop; };",
    ],
)
def test_a_policy_in_a_chain_for_each_pod(again: Incident, rules: str) -> None:
    """Rules of network policies: a jump by address or interface, and what no policy has marked."""
    again.nft(f"table ip policies {{ {rules} }}")
    assert not all(one.answered for one in again.clients_try())
    answer = again.explain("shop/web")
    assert "fail DroppedByOthers" in answer.codes
    assert "WORKS IN PART" in answer.first_line
    assert "10.244.1.11 are dropped by table ip policies, chain pod" in answer.messages


def test_a_firewall_rejects_what_it_does_not_know(again: Incident) -> None:
    """Clients give up at once: no connection is there when the operator looks."""
    rule = "ct state established accept; iifname docker0 accept; counter reject"
    again.nft(f"table ip fw {{ chain f {{ type filter hook forward priority 0; {rule}; }}; }}")
    again.clients_try(times=2)
    answer = again.explain("shop/web")
    assert answer.codes == ["fail DroppedByOthers"]
    assert "DROPS every connection" in answer.first_line


def test_load_balancers_do_not_reach_the_health_check_node_port(again: Incident) -> None:
    """It answers to the node itself, which a firewall lets pass."""
    rule = "iifname lo accept; ct state established accept; policy drop"
    again.nft(f"table inet fw {{ chain f {{ type filter hook input priority 0; {rule}; }}; }}")
    answer = again.explain("shop/audit", "--no-probe")
    assert answer.codes == ["warn HealthCheckPort", "note NoLocalExternal"]
    assert "load balancers do not reach health check node port 32060" in answer.messages


@pytest.mark.parametrize(
    ("client", "found"), [("10.244.1.12", ["fail DroppedByOthers"]), ("10.244.1.13", [])]
)
def test_one_client_is_banned(again: Incident, client: str, found: list[str]) -> None:
    again.nft(
        "table ip ban { set banned { type ipv4_addr; elements = { 10.244.1.12 }; }; "
        "chain f { type filter hook prerouting priority -200; ip saddr @banned counter drop; }; }"
    )
    assert all(one.dropped for one in again.clients_try(times=1))
    answer = again.explain("shop/web", "--from", client)
    assert answer.codes == found
    assert ("DROPPED" in answer.first_line) is bool(found)


def test_a_policy_has_dropped_strangers(again: Incident) -> None:
    """What it drops by design is worth a note, while those that it lets pass get answers."""
    again.nft(
        "table ip policies { chain w { type filter hook forward priority 0; "
        'oifname "veth-1-1" goto pod; oifname "eth0" ip daddr 10.244.2.11 goto pod; }; '
        "chain pod { ct state established accept; ip saddr 10.244.1.12 accept; "
        "counter packets 9 bytes 99 drop; }; }"
    )
    assert all(one.answered for one in again.clients_try())
    answer = again.explain("shop/web", "--from", "10.244.1.12")
    assert answer.codes == []
    answer = again.explain("shop/web")
    assert {code.split()[0] for code in answer.codes} <= {"note"}
    assert answer.first_line.endswith("works")
