"""What rules of other programs, as the kernel has them, do with one packet of a Service."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from nfproxy.dataplane import legacyrules
from nfproxy.dataplane.foreignreader import Sample, read_foreign_rules
from nfproxy.dataplane.samplepackets import SamplePacket
from nfproxy.insight.nodefacts import NodeLink, PacketStage, RuleEffect
from nfproxy.model.addresses import Family, parse_address
from nfproxy.netlink.sockets import NftSocket
from nfproxy.tools.lab import Lab, Namespace

CLIENT, WEB, POD = map(parse_address, ("192.168.9.5", "10.96.0.1", "10.244.1.11"))
UPLINK, BRIDGE = NodeLink(7, "eth7"), NodeLink(8, "cni0")
SENT = SamplePacket(
    PacketStage.SENT, Family.IPV4, 6, CLIENT, POD, 0, 8080, came_by=UPLINK, leaves_by=BRIDGE
)
ASKED = SamplePacket(PacketStage.ASKED, Family.IPV4, 6, CLIENT, WEB, 0, 80, came_by=UPLINK)
ANSWER = SamplePacket(
    PacketStage.ANSWER, Family.IPV4, 6, POD, CLIENT, 8080, 0, came_by=BRIDGE, leaves_by=UPLINK
)
DROP = RuleEffect.DROP

FORWARD = "type filter hook forward priority 0;"

#: A rule at hook forward, and whether it drops the packet that goes to the endpoint: surely, and
#: by naming the endpoint; None where it does not.
FORWARDED: list[tuple[str, tuple[bool, bool] | None]] = [
    ("drop", (True, False)),
    ("counter drop", (True, False)),
    ("reject", (True, False)),
    ("accept", None),
    ("ip daddr 10.244.1.11 drop", (True, True)),
    ("ip daddr 10.244.1.12 drop", None),
    ("ip daddr != 10.244.1.12 drop", (True, False)),
    ("ip daddr 10.244.1.0/24 drop", (True, True)),
    ("ip daddr 10.244.1.9-10.244.1.12 drop", (True, True)),
    ("ip daddr != 10.244.1.19-10.244.1.22 drop", (True, False)),
    ("ip daddr > 10.244.1.9 drop", (True, True)),
    ("ip daddr { 10.244.1.11, 10.244.1.12 } drop", (True, True)),
    ("ip daddr != { 10.244.1.11, 10.244.1.12 } drop", None),
    ("ip saddr 192.168.9.5 drop", (True, True)),
    ("tcp dport 8080 drop", (True, False)),
    ("tcp dport 8081 drop", None),
    ("tcp dport { 8000-8100 } drop", (True, False)),
    ("tcp dport != 8081 drop", (True, False)),
    ("udp dport 8080 drop", None),
    ("meta l4proto tcp drop", (True, False)),
    ("tcp flags & (syn|ack) == syn drop", (True, False)),
    ("tcp flags & (syn|ack) == ack drop", None),
    ("ct state new drop", (True, False)),
    ("ct state established drop", None),
    ("ct status dnat drop", (True, False)),
    ("ct direction original drop", (True, False)),
    ("iifname eth7 drop", (True, False)),
    ("iifname eth8 drop", None),
    ('oifname "cni*" drop', (True, True)),
    ("oif 8 drop", (True, True)),
    ("meta mark 1 drop", (False, False)),
    ("ip ttl 1 drop", (False, False)),
    ("meta mark 1 ip daddr 10.244.1.11 drop", (False, True)),
    ("fib daddr type local drop", None),
    ("fib daddr type unicast drop", (True, False)),
    ("ip daddr vmap { 10.244.1.11 : drop }", (True, True)),
    ("ip daddr vmap { 10.244.1.12 : drop }", None),
    ("ip daddr . tcp dport { 10.244.1.11 . 8080 } drop", (True, True)),
    ("ip daddr . tcp dport { 10.244.1.11 . 8081 } drop", None),
    ("log prefix x drop", (True, False)),
    ("meta mark set 1", None),
]

#: The same by iptables, in both of its forms.
IPTABLES: list[tuple[str, tuple[bool, bool] | None]] = [
    ("-j DROP", (True, False)),
    ("-j ACCEPT", None),
    ("-d 10.244.1.11 -j DROP", (True, True)),
    ("-d 10.244.1.12 -j DROP", None),
    ("! -d 10.244.1.12 -j DROP", (True, False)),
    ("-s 192.168.9.5 -j REJECT", (True, True)),
    ("-p tcp --dport 8080 -j DROP", (True, False)),
    ("-p tcp --dport 8081 -j DROP", None),
    ("-p tcp ! --dport 8081 -j DROP", (True, False)),
    ("-p udp --dport 8080 -j DROP", None),
    ("-i eth7 -j DROP", (True, False)),
    ("-i eth8 -j DROP", None),
    ("-o cni+ -j DROP", (True, True)),
    ("-p tcp -m multiport --dports 80,8080 -j DROP", (True, False)),
    ("-p tcp -m multiport --dports 80,81 -j DROP", None),
    ("-m conntrack --ctstate NEW -j DROP", (True, False)),
    ("-m conntrack --ctstate ESTABLISHED -j DROP", None),
    ("-m addrtype --dst-type LOCAL -j DROP", None),
    ("-p tcp --syn -j DROP", (True, False)),
    ("-p tcp ! --syn -j DROP", None),
    ("-p tcp --tcp-flags ACK ACK -j DROP", None),
    ("-p tcp --tcp-option 8 -j DROP", (False, False)),
    ("-m iprange --dst-range 10.244.1.9-10.244.1.12 -j DROP", (True, True)),
    ("-m iprange --dst-range 10.244.1.19-10.244.1.22 -j DROP", None),
    ("-m iprange ! --dst-range 10.244.1.19-10.244.1.22 -j DROP", (True, False)),
    ("-m iprange --src-range 192.168.9.1-192.168.9.9 -j DROP", (True, True)),
    ("-m mark --mark 1 -j DROP", (False, False)),
    ("-m comment --comment why -d 10.244.1.11 -j DROP", (True, True)),
]


#: Conditions that hold for some packets, by nft and by iptables.
RATES = [
    "limit rate over 1/second drop",
    "tcp dport 8080 ct count over 2 drop",
    "quota over 1 mbytes drop",
    "numgen random mod 3 1 drop",
    "limit rate 1/second accept; drop",
]
XT_RATES = [
    "-m statistic --mode random --probability 0.5 -j DROP",
    "-m connlimit --connlimit-above 3 -j DROP",
    "-m limit --limit 5/second -j ACCEPT\n-A FORWARD -j DROP",
    "-m hashlimit --hashlimit-above 5/second --hashlimit-name one -j DROP",
]


@pytest.fixture(autouse=True)
def legacy_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of them is that of the process's network namespace, and not of a thread's."""
    monkeypatch.setattr(legacyrules, "_names", lambda *_: ["filter"])


@pytest.fixture
def node(namespaces_allowed: None) -> Iterator[Namespace]:
    with Lab() as lab:
        yield lab.namespace("node")


def read(node: Namespace, *packets: SamplePacket) -> dict[str, tuple[RuleEffect, bool, bool]]:
    """Return what each table does: the effect, whether it is sure, whether it is by name."""

    def rules() -> dict[str, tuple[RuleEffect, bool, bool]]:
        with NftSocket() as netlink:
            found = read_foreign_rules(netlink, [Sample(one) for one in packets])
        return {one.table: (one.effect, one.is_sure, one.is_named) for one in found}

    return node.call(rules)


def load(node: Namespace, text: str) -> None:
    node.run(["nft", "-f", "-"], input=text)


def test_what_rules_of_nft_do_with_a_forwarded_packet(node: Namespace) -> None:
    load(
        node,
        "".join(
            f"table ip t{number} {{\nchain c {{\n{FORWARD} {rule}\n}}\n}}\n"
            for number, (rule, _) in enumerate(FORWARDED)
        ),
    )
    found = read(node, SENT)

    answers = {rule: found.get(f"ip t{number}") for number, (rule, _) in enumerate(FORWARDED)}
    assert answers == {rule: (DROP, *says) if says else None for rule, says in FORWARDED}


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_what_rules_of_iptables_do_with_a_forwarded_packet(node: Namespace, program: str) -> None:
    """They are in one table, so each is read by itself."""
    answers = {}
    for rule, _ in IPTABLES:
        text = f"*filter\n:FORWARD ACCEPT\n-A FORWARD {rule}\nCOMMIT\n"
        node.run([f"{program}-restore"], input=text)
        answers[rule] = next(iter(read(node, SENT).values()), None)

    assert answers == {rule: (DROP, *says) if says else None for rule, says in IPTABLES}


def some(node: Namespace) -> dict[str, bool]:
    """Return the tables that may drop the packet, and whether that is by a rate or by chance."""

    def rules() -> dict[str, bool]:
        with NftSocket() as netlink:
            found = read_foreign_rules(netlink, [Sample(SENT)])
        return {one.table: one.is_some for one in found if not one.is_sure}

    return node.call(rules)


def test_rules_of_nft_that_limit_or_draw(node: Namespace) -> None:
    for number, rule in enumerate(RATES):
        load(node, f"table ip t{number} {{\nchain c {{\n{FORWARD} {rule}\n}}\n}}\n")
    load(node, f"table ip u {{\nchain c {{\n{FORWARD} meta mark 1 limit rate 1/second drop\n}}\n}}")
    assert some(node) == {f"ip t{number}": True for number in range(len(RATES))} | {"ip u": False}


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("rule", XT_RATES)
def test_rules_of_iptables_that_limit_or_draw(node: Namespace, program: str, rule: str) -> None:
    text = f"*filter\n:FORWARD ACCEPT\n-A FORWARD {rule}\nCOMMIT\n"
    node.run([f"{program}-restore"], input=text)
    assert list(some(node).values()) == [True]


def test_chains_of_interfaces(node: Namespace) -> None:
    """They see the packets of theirs; where a client comes in is one of some ways."""
    node.run(["ip", "link", "add", "eth7", "type", "veth", "peer", "eth8"])
    hook = "type filter hook ingress device eth7 priority 0;"
    load(node, f"table netdev t {{\nchain c {{\n{hook} ip daddr 10.96.0.1 drop\n}}\n}}\n")
    anyone = msgspec.structs.replace(ASKED, source=b"", came_by=None, ways_in=(BRIDGE, UPLINK))
    other = msgspec.structs.replace(ASKED, came_by=NodeLink(9, "eth8"))
    assert read(node, ASKED) == {"netdev t": (DROP, True, True)}
    assert read(node, anyone) == {"netdev t": (DROP, True, True)}
    assert read(node, other) == {}


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_chains_of_iptables_are_followed(node: Namespace, program: str) -> None:
    """What jumps and goes to comes to the rule behind it, or back, or to the policy."""
    text = """*filter
:FORWARD DROP
:one -
:two -
-A FORWARD -i eth7 -j one
-A FORWARD -d 10.244.1.12 -j ACCEPT
-A one -p tcp -g two
-A one -j ACCEPT
-A two -s 10.0.0.0/8 -j ACCEPT
COMMIT
"""
    node.run([f"{program}-restore"], input=text)
    (found,) = read(node, SENT).values()
    assert found == (DROP, True, False)

    node.run([f"{program}-restore"], input=text.replace("-s 10.0.0.0/8", "-s 192.168.0.0/16"))
    assert read(node, SENT) == {}


@pytest.mark.parametrize(
    ("rule", "hook", "packet", "effect"),
    [
        ("ip daddr 10.96.0.1 notrack", "prerouting priority raw", ASKED, RuleEffect.NOT_TRACKED),
        ("ct zone set 5", "prerouting priority raw", ASKED, RuleEffect.ZONE),
        ("ip saddr 10.244.1.11 notrack", "prerouting priority raw", ANSWER, RuleEffect.NOT_TRACKED),
        ("tcp dport 81 notrack", "prerouting priority raw", ASKED, None),
    ],
)
def test_packets_that_are_hidden_or_taken(
    node: Namespace, rule: str, hook: str, packet: SamplePacket, effect: RuleEffect | None
) -> None:
    load(node, f"table ip t {{ chain c {{ type filter hook {hook}; {rule}\n}}\n}}\n")
    assert [one[0] for one in read(node, packet).values()] == ([effect] if effect else [])


@pytest.mark.parametrize(
    ("rule", "hook", "packet", "effect"),
    [
        ("dnat to 10.244.9.9", "prerouting priority -110", ASKED, RuleEffect.TRANSLATED),
        (
            "tcp dport 80 redirect to :8080",
            "prerouting priority -110",
            ASKED,
            RuleEffect.TRANSLATED,
        ),
        ("dnat to 10.244.9.9", "prerouting priority -90", ASKED, None),
        ("masquerade", "postrouting priority 90", SENT, RuleEffect.SOURCE),
        ("snat to 192.168.9.1", "postrouting priority 90", SENT, RuleEffect.SOURCE),
        ("masquerade", "postrouting priority 110", SENT, None),
    ],
)
def test_packets_that_are_translated_by_others(
    node: Namespace, rule: str, hook: str, packet: SamplePacket, effect: RuleEffect | None
) -> None:
    """Only what comes before nfproxy's chains counts."""
    load(node, f"table ip t {{ chain c {{ type nat hook {hook}; {rule}\n}}\n}}\n")
    assert [one[0] for one in read(node, packet).values()] == ([effect] if effect else [])
