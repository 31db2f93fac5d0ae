"""The evaluator: each expression and statement of nft's that rules of nfproxy use, one by one."""

from typing import Any

import pytest

from nfproxy.insight.evaluate import evaluate
from nfproxy.insight.packet import Fate, NodeAddresses, Packet, PacketOutcome
from nfproxy.insight.tabletext import RuleTable
from nfproxy.model.addresses import Family, family_of, parse_address, parse_prefix
from nfproxy.nft.endpointnumbers import endpoint_number
from nfproxy.nft.schema import port_bytes

NODE = NodeAddresses(
    frozenset(map(parse_address, ("192.168.1.11", "fd77::11"))),
    prefixes=(parse_prefix("10.250.0.0/16"),),
    broadcasts=frozenset({parse_address("192.168.1.255")}),
    anycasts=frozenset({parse_address("fd77::")}),
)

SETS = """
	map frontends {
		typeof ip daddr . meta l4proto . th dport : verdict
		counter
		elements = { 10.96.0.1 . tcp . 80 counter packets 3 bytes 180 comment "a, b" : drop,
			10.96.0.1 . udp . 53 : goto other, 10.96.0.1 . sctp . 1 : accept }
	}
	set some {
		typeof ip saddr
	}
	set names {
		typeof ip saddr
		elements = { 10.1.0.1, 10.1.0.2 }
	}
	set ranges {
		typeof ip daddr
		flags interval
		elements = { 10.1.0.0/16, 10.2.0.0-10.2.0.9, 10.3.0.1 }
	}
	map endpoints {
		typeof ip daddr . tcp dport . numgen inc mod 65536 : ip daddr . tcp dport
		elements = { 10.96.0.1 . 80 . 0 : 10.244.1.5 . 8080,
			10.96.0.1 . 80 . 1 : 10.244.2.6 . 9090 }
	}
	map clients {
		typeof ip saddr : meta priority
		flags dynamic,timeout
		elements = { 10.1.0.1 timeout 3h expires 2h59m : 621a:fcc7 }
	}
	map numbered {
		typeof numgen inc mod 65536 . meta priority : ip daddr . tcp dport
		elements = { 7 . 621a:fcc7 : 10.244.1.5 . 8080 }
	}
	set hashes {
		typeof numgen inc mod 65536 . numgen inc mod 65536
		elements = { 0 . 0, 1 . 1, 2 . 2, 3 . 3 }
	}
"""
OTHER = "\tchain other {\n\t\treject\n\t}\n"


HOOK = "type nat hook prerouting priority dstnat; policy accept;"


def text_of(*rules: str) -> str:
    """Return a table with rules in one base chain."""
    body = "".join(f"\t\t{rule}\n" for rule in (HOOK, *rules))
    return f"table ip nfproxy {{\n{SETS}\tchain first {{\n{body}\t}}\n{OTHER}}}\n"


def packet(source: str = "10.1.0.1", to: str = "10.96.0.1", **fields: Any) -> Packet:
    """Return a packet to TCP port 80, unless said otherwise."""
    values: dict[str, Any] = {"protocol": 6, "port": 80, "interface": "eth0"}
    return Packet(parse_address(source), parse_address(to), **(values | fields))


def outcomes(*rules: str, **asked: Any) -> list[PacketOutcome]:
    """Return what may become of a packet that meets some rules in prerouting."""
    one = packet(**asked)
    text = text_of(*rules).replace("ip nfproxy", f"{one.family.table} nfproxy")
    if one.family is Family.IPV6:
        text = text.replace(SETS, "")
    return list(evaluate(RuleTable(text, one.family), one, NODE))


def words(*rules: str, **asked: Any) -> list[str]:
    """Return the same in words, sorted."""
    return sorted(str(one) for one in outcomes(*rules, **asked))


UNTOUCHED = ["untouched, to 10.96.0.1:80"]
DROPPED = ["dropped"]

MATCHING = [
    "ip saddr 10.1.0.1",
    "ip saddr == 10.1.0.1",
    "ip saddr != 10.1.0.2",
    "ip saddr 10.1.0.0/16",
    "ip saddr 10.0.0.9-10.1.0.1",
    "ip saddr < 10.1.0.2",
    "ip saddr <= 10.1.0.1",
    "ip saddr > 10.1.0.0",
    "ip saddr >= 10.1.0.1",
    "ip saddr { 10.9.0.0/16, 10.1.0.1 }",
    "ip saddr != { 10.9.0.0/16, 10.1.0.2 }",
    "ip saddr & 255.255.0.0 == 10.1.0.0",
    "ip saddr @names",
    "ip daddr != @ranges",
    "ip saddr . jhash ip saddr mod 1 seed 1 != @hashes",
    "ip protocol tcp",
    "meta l4proto tcp",
    "meta l4proto { tcp, 132 }",
    "meta l4proto != udp",
    "meta nfproto ipv4",
    "th dport 80",
    "tcp dport 80",
    "tcp dport 79-81",
    "th sport 1234",
    'iifname "eth0"',
    'iifname "eth*"',
    'iifname != "cni0"',
    'meta iifname "eth0"',
    "meta mark 0x1",
    "mark 0x1",
    "meta mark & 0x00000001 != 0",
    "meta mark | 0x2 == 0x3",
    "meta mark ^ 0x1 == 0x00000000",
    "meta priority 0",
    "meta priority none",
    "meta priority & c000:0 == 0:0",
    "ct state new",
    "ct state != established",
    "ct status != dnat",
    "ct mark 0",
    "ct direction original",
    "ct original ip saddr 10.1.0.1",
    "ct original ip daddr 10.96.0.1",
    "ct original proto-dst 80",
    "fib saddr type unicast",
    "fib daddr type != local",
    "fib daddr type != broadcast fib daddr type != anycast",
    "jhash ip saddr mod 4 seed 0x1 . jhash ip saddr mod 4 seed 1 @hashes",
    "numgen inc mod 1 offset 3 . numgen inc mod 1 offset 3 @hashes",
]


@pytest.mark.parametrize("match", MATCHING)
def test_a_match_lets_the_rule_go_on(match: str) -> None:
    """And only then what follows has an effect."""
    assert words(f"{match} drop", source_port=1234, mark=1) == DROPPED


OTHERWISE = [
    "ip saddr 10.1.0.2",
    "ip saddr != 10.1.0.0/16",
    "ip saddr @some",
    "ip daddr @ranges",
    "udp dport 80",
    "udp dport != 81",
    "meta l4proto udp",
    'iifname "veth*"',
    "ct state established",
    "ct status dnat",
    "ct direction reply",
    "fib saddr type local",
    "numgen inc mod 1 offset 3 . numgen inc mod 1 offset 2 @hashes",
    "jhash ip saddr mod 100 seed 1 . jhash ip daddr mod 100 seed 1 @hashes",
    "ip saddr 10.1.0.1 tcp dport 81",
]


@pytest.mark.parametrize("match", OTHERWISE)
def test_without_a_match_the_next_rule_follows(match: str) -> None:
    """The rest of the rule has no effect."""
    assert words(f"{match} drop") == UNTOUCHED


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("192.168.1.11", "local"),
        ("127.3.0.1", "local"),
        ("10.250.3.4", "local"),
        ("192.168.1.255", "broadcast"),
        ("255.255.255.255", "broadcast"),
        ("0.1.2.3", "broadcast"),
        ("224.0.0.1", "multicast"),
        ("192.168.1.12", "unicast"),
        ("fd77::11", "local"),
        ("::1", "local"),
        ("fd77::", "anycast"),
        ("ff02::1", "multicast"),
        ("fd77::12", "unicast"),
    ],
)
def test_types_of_addresses(address: str, kind: str) -> None:
    """As the kernel's table ``local`` has them."""
    source = "10.1.0.1" if family_of(parse_address(address)) is Family.IPV4 else "fd00::1"
    assert words(f"fib daddr type {kind} drop", source=source, to=address) == DROPPED
    assert words(f"fib daddr type != {kind} drop", source=source, to=address) != DROPPED


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["accept", "drop"], UNTOUCHED),
        (["return", "drop"], UNTOUCHED),
        (["continue", "drop"], DROPPED),
        (["reject"], ["rejected with icmp port-unreachable"]),
        (["reject with icmp type host-unreachable"], ["rejected with icmp host-unreachable"]),
        (["reject with icmpx admin-prohibited"], ["rejected with icmp admin-prohibited"]),
        (["reject with tcp reset"], ["rejected with tcp reset"]),
        (["jump other", "drop"], ["rejected with icmp port-unreachable"]),
        (["goto other", "drop"], ["rejected with icmp port-unreachable"]),
        (["ip daddr . meta l4proto . th dport vmap @frontends"], DROPPED),
        (["counter packets 4 bytes 240 comment \"x\" drop"], DROPPED),
        (['counter name "seen" log prefix "x: " level info drop'], DROPPED),
        (["update @clients { ip saddr timeout 3h : meta priority } drop"], DROPPED),
        (["delete @clients { ip saddr : meta priority } meta priority set none drop"], DROPPED),
        (["limit rate 5/second burst 5 packets drop"], ["dropped", "untouched, to 10.96.0.1:80"]),
        (["dnat to 10.244.1.5:8080"], ["to 10.244.1.5:8080"]),
        (["dnat ip to 10.244.1.5"], ["to 10.244.1.5:80"]),
        (["meta mark set meta mark | 0x4000", "meta mark & 0x4000 == 0x4000 drop"], DROPPED),
        (["meta mark set 0x5", "meta mark 0x5 drop"], DROPPED),
        (["meta priority set ip saddr map @clients", "meta priority 621a:fcc7 drop"], DROPPED),
        (["meta priority set ip daddr map @clients drop"], UNTOUCHED),
    ],
)  # fmt: skip
def test_statements(rules: list[str], expected: list[str]) -> None:
    """What each does with a packet."""
    assert words(*rules) == expected


def test_a_chain_returns_behind_the_jump() -> None:
    """And after `goto` behind the jump before."""
    text = text_of("jump one", "reject").replace(
        OTHER,
        "\tchain one {\n\t\tgoto two\n\t\tdrop\n\t}\n\tchain two {\n\t\treturn\n\t\tdrop\n\t}\n",
    )
    (only,) = evaluate(RuleTable(text, Family.IPV4), packet(), NODE)
    assert only.fate is Fate.REJECTED


def test_a_chain_that_leads_to_itself_is_not_followed_for_ever() -> None:
    """The kernel would refuse it."""
    text = text_of("jump other").replace("\t\treject\n", "\t\tjump other\n")
    (only,) = evaluate(RuleTable(text, Family.IPV4), packet(), NODE)
    assert only.fate is Fate.UNKNOWN


def test_a_verdict_map_leads_on() -> None:
    """By protocol and port; without an element to the next rule."""
    rule = "ip daddr . meta l4proto . th dport vmap @frontends"
    refused = ["rejected with icmp port-unreachable"]
    assert words(rule, protocol=17, port=53) == refused
    assert words(rule, "drop", protocol=132, port=1) == ["untouched, to 10.96.0.1:1"]
    assert words(rule, "drop", port=81) == DROPPED


BALANCE = "dnat ip to ip daddr . tcp dport . numgen random mod {} map @endpoints"


def test_a_draw_has_every_outcome() -> None:
    """Each endpoint once; an empty slot leads to the next rule."""
    both = ["to 10.244.1.5:8080", "to 10.244.2.6:9090"]
    assert words(BALANCE.format(2), "drop") == both
    assert words(BALANCE.format("2 offset 1"), "drop") == ["dropped", "to 10.244.2.6:9090"]
    assert words(*[BALANCE.format(9)] * 3, "drop") == ["dropped", *both]
    assert words(BALANCE.format(2), "drop", protocol=17) == DROPPED


def test_a_remembered_client_gets_its_endpoint() -> None:
    """Its number goes from one map to the other as the priority."""
    rules = (
        "meta priority set ip saddr map @clients",
        "dnat ip to numgen inc mod 1 offset 7 . meta priority map @numbered",
        "drop",
    )
    assert words(*rules) == ["to 10.244.1.5:8080"]
    assert words(*rules, source="10.1.0.9") == DROPPED


def test_hashes_are_the_kernel_s() -> None:
    """The number of an endpoint: address and padded port, as `endpoint_number` has it."""
    number = endpoint_number(parse_address("10.96.0.1") + port_bytes(80))
    hashed = "jhash ip daddr . tcp dport mod 1073741824 seed 1 offset 1073741824"
    text = text_of(f"numgen inc mod 1 . {hashed} @hashes drop").replace(
        "0 . 0, 1 . 1", f"0 . {number}"
    )
    (only,) = evaluate(RuleTable(text, Family.IPV4), packet(), NODE)
    assert only.fate is Fate.DROPPED


def test_a_hash_with_a_random_seed_is_any_number() -> None:
    """Both results are outcomes."""
    rule = "jhash ip saddr mod 8 . jhash ip saddr mod 8 @hashes drop"
    assert words(rule) == ["dropped", *UNTOUCHED]


@pytest.mark.parametrize(
    "rule",
    [
        "socket cgroupv2 level 1 drop",
        "ip saddr vmap { 10.1.0.1 : drop }",
        "tproxy to :8080",
        'oifname "eth0" drop',
        "ct mark set 0x1",
        "ip saddr . ip daddr 10.1.0.1 . 10.2.0.1 drop",
        "queue num 3",
        "ip saddr 10.1.0.1 frobnicate drop",
        "jump nowhere",
        "th sport 1 drop",
    ],
)
def test_what_is_not_understood_is_said(rule: str) -> None:
    """With the rule, and never a guess. What comes before it counts."""
    (only,) = outcomes(rule, "drop")
    assert only.fate is Fate.UNKNOWN
    assert only.steps[-1].rule == rule
    assert words(f"ip saddr 10.9.0.1 {rule}", "drop") == DROPPED


def test_an_interface_that_is_not_known() -> None:
    """Only a rule that asks for it is unknown."""
    asked = packet(interface=None)
    for rule, fate in (('iifname "a" drop', Fate.UNKNOWN), ("drop", Fate.DROPPED)):
        (only,) = evaluate(RuleTable(text_of(rule), Family.IPV4), asked, NODE)
        assert only.fate is fate


def test_steps_say_where_it_was_decided() -> None:
    """The hook, the chain and the rule."""
    (only,) = outcomes("ip saddr 10.1.0.1 meta mark set 0x1 jump other")
    assert [(one.hook, one.chain, str(one.effect), one.detail) for one in only.steps] == [
        ("prerouting", "first", "mark", "0x1"),
        ("prerouting", "first", "jump", "other"),
        ("prerouting", "other", "reject", "icmp port-unreachable"),
    ]
