"""Which hooks a packet passes, in which order chains see it, and when conntrack has decided."""

import pytest

from nfproxy.insight.evaluate import evaluate
from nfproxy.insight.packet import NodeAddresses, Packet
from nfproxy.insight.tabletext import RuleTable
from nfproxy.model.addresses import Family, parse_address

NODE = NodeAddresses(frozenset({parse_address("192.168.1.11")}))


def text_of(**chains: str) -> str:
    """Return a table with base chains: ``name="HOOK TYPE PRIORITY | rule | rule"``."""
    parts = ["table ip nfproxy {\n"]
    for name, given in chains.items():
        where, *rules = given.split(" | ")
        hook, kind, priority, *policy = where.split(" ")
        parts.append(
            f"\tchain {name} {{\n\t\ttype {kind} hook {hook} priority {priority};"
            f" policy {policy[0] if policy else 'accept'};\n"
        )
        parts += [f"\t\t{rule}\n" for rule in rules]
        parts.append("\t}\n")
    return "".join([*parts, "}\n"])


def become(text: str, to: str = "10.96.0.1", interface: str | None = "eth0") -> list[str]:
    """Return what becomes of a TCP packet to port 80, in words."""
    source = parse_address("192.168.1.11" if interface == "" else "10.1.0.1")
    packet = Packet(source, parse_address(to), 6, 80, interface)
    return [str(one) for one in evaluate(RuleTable(text, Family.IPV4), packet, NODE)]


@pytest.mark.parametrize(
    ("hook", "to", "interface", "passes"),
    [
        ("prerouting", "10.96.0.1", "eth0", True),
        ("prerouting", "10.96.0.1", "", False),
        ("output", "10.96.0.1", "", True),
        ("output", "10.96.0.1", "eth0", False),
        ("forward", "10.96.0.1", "eth0", True),
        ("forward", "192.168.1.11", "eth0", False),
        ("forward", "10.96.0.1", "", False),
        ("input", "192.168.1.11", "eth0", True),
        ("input", "10.96.0.1", "eth0", False),
        ("postrouting", "10.96.0.1", "eth0", True),
        ("postrouting", "192.168.1.11", "eth0", False),
        ("postrouting", "192.168.1.11", "", True),
    ],
)
def test_hooks_on_the_way(hook: str, to: str, interface: str, passes: bool) -> None:
    """Forwarded, delivered to the node, or sent by it."""
    assert (become(text_of(a=f"{hook} filter 0 | drop"), to, interface) == ["dropped"]) is passes


def test_the_translated_destination_decides_the_hook() -> None:
    """The node routes the packet after prerouting."""
    dnat = "prerouting nat -100 | dnat to 192.168.1.11:8080"
    delivered = ["to 192.168.1.11:8080"]
    assert become(text_of(a=dnat, b="forward filter 0 | drop")) == delivered
    assert become(text_of(a=dnat, b="input filter 0 | drop")) == ["dropped"]


def test_the_lower_priority_comes_first() -> None:
    """Words and numbers of priorities, in any order in the text."""
    late, early = "prerouting nat 1000 | reject", "prerouting nat dstnat | drop"
    assert become(text_of(a=late, b=early)) == ["dropped"]
    early = "prerouting nat dstnat+10 | reject"
    assert become(text_of(a=early, b="prerouting nat -90 | drop"))[0].startswith("rejected")


def test_nat_chains_are_called_from_one_place() -> None:
    """A filter chain of priority 0 comes before the nat chain of priority 1000? No: after all."""
    text = text_of(a="prerouting filter 0 | drop", b="prerouting nat 1000 | reject")
    assert become(text)[0].startswith("rejected")


def test_a_nat_chain_does_not_see_what_another_translated() -> None:
    """Nor a source that is decided."""
    dnat = "prerouting nat -100 | dnat to 10.244.1.5:8080"
    assert become(text_of(a=dnat, b="prerouting nat 1000 | drop")) == ["to 10.244.1.5:8080"]
    assert become(text_of(b="prerouting nat 1000 | drop")) == ["dropped"]
    masquerade = "postrouting nat srcnat | masquerade fully-random"
    text = text_of(a=dnat, b=masquerade, c="postrouting nat 200 | drop")
    assert become(text) == ["to 10.244.1.5:8080 masqueraded"]


def test_conntrack_keeps_the_original_destination() -> None:
    """Rules behind the translation see both."""
    dnat = "prerouting nat -100 | dnat to 10.244.1.5:8080"
    seen = (
        "postrouting nat 100 | ct status dnat ct original ip daddr 10.96.0.1"
        " ct original proto-dst 80 ip daddr 10.244.1.5 tcp dport 8080 drop"
    )
    assert become(text_of(a=dnat, b=seen)) == ["dropped"]


def test_the_policy_of_a_chain() -> None:
    """It decides on what comes to the end of a base chain."""
    text = text_of(a="prerouting filter 0 drop | tcp dport 81 accept")
    assert become(text) == ["dropped"]
    assert become(text_of(a="prerouting filter 0 drop | tcp dport 80 accept")) == [
        "untouched, to 10.96.0.1:80"
    ]


def test_two_draws_that_come_to_the_same_are_one_outcome() -> None:
    """Whatever mark or priority they leave behind."""
    text = text_of(a="prerouting nat -100 | limit rate 1/second meta mark set 0x1")
    assert become(text) == ["untouched, to 10.96.0.1:80"]
