"""
Why the kernel would not have our program: one sentence, with the remedy.
"""

from __future__ import annotations

from pathlib import Path

from nfproxy.dataplane.libnftables import load_text
from nfproxy.dataplane.netlink import Netlink
from nfproxy.dataplane.wire import GETTABLE
from nfproxy.errors import DataplaneError, MissingFeatureError, NfproxyError

_CAP_NET_ADMIN = 12

_PROBE = (
    "table ip nfproxy-probe {{\n chain c {{\n type nat hook {hook} priority {prio};\n "
    "{rule}\n }}\n}}\n"
)
_MAPS = (
    "table ip nfproxy-probe {\n map m {\n typeof ip daddr . tcp dport . numgen inc mod 65536 : "
    "ip daddr . tcp dport\n }\n set s {\n typeof ip saddr . ip daddr\n flags interval\n }\n}\n"
)

#: What is tried, in order: script, what it needs, how to get it.
_PROBES = (
    (
        "table ip nfproxy-probe {\n chain c {\n }\n}\n",
        "nf_tables",
        "modprobe nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_IPV4)",
    ),
    (_MAPS, "maps of concatenations with typeof", "Linux 5.13 and libnftables 1.0.1, or newer"),
    (
        _PROBE.format(hook="prerouting", prio=-100, rule="dnat to 192.0.2.1"),
        "nat chains",
        "modprobe nft_chain_nat nf_nat (CONFIG_NFT_NAT)",
    ),
    (
        _PROBE.format(hook="postrouting", prio=100, rule="masquerade fully-random"),
        "the masquerade statement",
        "modprobe nft_masq (CONFIG_NFT_MASQ)",
    ),
    (
        _PROBE.format(hook="prerouting", prio=-100, rule="fib daddr type local"),
        "the fib expression",
        "modprobe nft_fib_ipv4 nft_fib_ipv6 (CONFIG_NFT_FIB_IPV4, CONFIG_NFT_FIB_IPV6)",
    ),
    (
        _PROBE.format(hook="prerouting", prio=-100, rule="meta mark set numgen random mod 4"),
        "the numgen expression",
        "modprobe nft_numgen (CONFIG_NFT_NUMGEN)",
    ),
    (
        _PROBE.format(
            hook="prerouting", prio=-100, rule="meta mark set jhash ip saddr mod 4 seed 0x1"
        ),
        "the hash expression",
        "modprobe nft_hash (CONFIG_NFT_HASH)",
    ),
    (
        _PROBE.format(hook="prerouting", prio=-100, rule="ct original proto-dst 80"),
        "the ct expression",
        "modprobe nft_ct nf_conntrack (CONFIG_NFT_CT)",
    ),
    (
        _PROBE.format(hook="prerouting", prio=-100, rule="reject"),
        "reject in nat chains",
        "Linux 5.9 or newer, modprobe nft_reject_ipv4 nft_reject_ipv6 (CONFIG_NFT_REJECT)",
    ),
)


def require_privileges() -> None:
    """
    Raise MissingFeatureError unless nf_tables can be reached and changed from here.

    CAP_NET_ADMIN is looked up first: without it the kernel's answers mislead.
    """
    if not may_administer_network():
        raise MissingFeatureError(
            "the capability CAP_NET_ADMIN is missing: run as root, or give the container "
            "securityContext.capabilities.add: [NET_ADMIN]"
        )
    netlink = Netlink()
    try:
        netlink.dump(GETTABLE, 0)
    except NfproxyError as error:
        raise MissingFeatureError(
            f"the kernel has no nf_tables ({error}): modprobe nf_tables (CONFIG_NF_TABLES)"
        ) from error
    finally:
        netlink.close()


def may_administer_network() -> bool:
    """Tell whether this process has CAP_NET_ADMIN."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return False


def diagnose() -> MissingFeatureError | None:
    """
    Try what the program is made of, piece by piece, without changing anything.

    Returns the first thing that is missing; None where all of it works alone.
    """
    for text, what, remedy in _PROBES:
        try:
            load_text(text, check=True)
        except MissingFeatureError as error:
            return error
        except DataplaneError as error:
            return MissingFeatureError(
                f"this kernel or libnftables lacks {what}: {remedy} ({error})"
            )
    return None
