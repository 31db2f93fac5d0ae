"""Rules of iptables-nft as the kernel lists them; recorded on Linux 6.18 with iptables 1.8.9."""

import pytest

from nfproxy.netlink.nftables import RuleRow
from nfproxy.tools.takeover.othertables import read_rule
from nfproxy.tools.takeover.tables import IptablesRule

_HEAD = "0b00010066696c74657200000c000200464f525741524400"
_COUNTER = (
    "2c0001000c000100636f756e746572001c0002000c00010000000000000000000c0002000000000000000000"
)
_COMMENT = (
    "2c0101000a0001006d617463680000001c0102000c000100636f6d6d656e7400080002000000000004010300"
)


def comment(text: str) -> str:
    """Return a match of xtables, a comment of 256 bytes, in hexadecimal."""
    return _COMMENT + text.encode().ljust(256, b"\0").hex()


#: iptables-nft -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
JUMP = (
    f"{_HEAD}0c00030000000000000000040c0006000000000000000002a0010400"
    + comment("kubernetes forwarding rules")
    + _COUNTER
    + "440001000e000100696d6d656469617465000000300002000800010000000000240002002000020008000100"
    "fffffffd110002004b5542452d464f525741524400000000"
)
#: iptables-nft -A FORWARD -j REJECT
REJECT = (
    f"{_HEAD}0c00030000000000000000050c000600000000000000000464000400{_COUNTER}"
    "340001000b0001007461726765740000240002000b00010052454a454354000008000200000000000c000300"
    "0300000000000000"
)
#: nft add rule ip filter FORWARD counter drop comment "mine"
NATIVE = (
    f"{_HEAD}0c00030000000000000000060c000600000000000000000560000400{_COUNTER}"
    "300001000e000100696d6d6564696174650000001c0002000800010000000000100002000c000200080001000000"
    "00000b00070000056d696e650000"
)


@pytest.mark.parametrize(
    ("recorded", "rule"),
    [
        (
            JUMP,
            IptablesRule("FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules", 4, plain=True),
        ),
        (REJECT, IptablesRule("FORWARD", "REJECT", "", 5, plain=True)),
        (NATIVE, IptablesRule("FORWARD", "DROP", "mine", 6, plain=True)),
    ],
    ids=["jump", "reject", "native"],
)
def test_recorded_rules_are_read(recorded, rule):
    """Target, comment and handle matter; counters and comments are not conditions."""
    assert rule == read_rule(RuleRow.read(bytes.fromhex("02000000" + recorded)))
