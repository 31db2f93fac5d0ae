"""
What keeps nfproxy's program out of the kernel: privileges, or features that the kernel lacks.

Each error names one cause, with its remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nfproxy.dataplane.libnftables import load_text
from nfproxy.errors import DataplaneError, MissingFeatureError, TransactionError
from nfproxy.host.addresses import enabled_families, families_of_host
from nfproxy.host.processes import may_administer_network
from nfproxy.model.addresses import Family
from nfproxy.netlink.sockets import NOT_PERMITTED, NftSocket


class Probe(NamedTuple):
    """
    A feature of the program that a kernel may lack.

    `body` is the content of a table that needs it: FAMILY stands for ``ip`` or ``ip6``, ADDRESS for
    an address. `remedy` says how to get the feature; FAMILY_NUMBER stands for 4 or 6.
    """

    what: str
    remedy: str
    body: str


def _rule(rule: str, hook: str = "prerouting", priority: int = -100) -> str:
    return f"chain c {{\n type nat hook {hook} priority {priority};\n {rule}\n }}"


#: The features, in the order in which they are tried: each needs those before it.
PROBES = (
    Probe("nf_tables", "modprobe nf_tables (CONFIG_NF_TABLES_IPVFAMILY_NUMBER)", "chain c { }"),
    Probe(
        "maps of concatenations with typeof",
        "Linux 5.13 and libnftables 1.0.1, or newer",
        "map m {\n typeof FAMILY daddr . tcp dport . numgen inc mod 65536 : "
        "FAMILY daddr . tcp dport\n }\n"
        " set s {\n typeof FAMILY saddr . FAMILY daddr\n flags interval\n }",
    ),
    Probe(
        "verdict maps that count",
        "Linux 5.7 and libnftables 0.9.5, or newer",
        "map m {\n typeof FAMILY daddr : verdict\n counter\n }\n"
        " chain c {\n FAMILY daddr vmap @m\n }",
    ),
    Probe(
        "maps that rules write to",
        "modprobe nf_tables (CONFIG_NF_TABLES)",
        "map m {\n typeof FAMILY daddr : FAMILY daddr\n flags dynamic,timeout\n timeout 3h\n }\n"
        " chain c {\n update @m { FAMILY daddr timeout 1s : FAMILY daddr }\n }",
    ),
    Probe(
        "nat chains",
        "modprobe nft_chain_nat nf_nat (CONFIG_NFT_NAT)",
        _rule("counter"),
    ),
    Probe("the dnat statement", "modprobe nft_nat (CONFIG_NFT_NAT)", _rule("dnat to ADDRESS")),
    Probe(
        "the masquerade statement",
        "modprobe nft_masq (CONFIG_NFT_MASQ)",
        _rule("masquerade fully-random", "postrouting", 100),
    ),
    Probe(
        "the fib expression",
        "modprobe nft_fib_ipvFAMILY_NUMBER (CONFIG_NFT_FIB_IPVFAMILY_NUMBER)",
        _rule("fib daddr type local"),
    ),
    Probe(
        "the numgen expression",
        "modprobe nft_numgen (CONFIG_NFT_NUMGEN)",
        _rule("meta mark set numgen random mod 4"),
    ),
    Probe(
        "the hash expression",
        "modprobe nft_hash (CONFIG_NFT_HASH)",
        _rule("meta mark set jhash FAMILY saddr mod 4 seed 0x1"),
    ),
    Probe(
        "the ct expression",
        "modprobe nft_ct nf_conntrack (CONFIG_NFT_CT)",
        _rule("ct status dnat accept"),
    ),
    Probe(
        "reject in nat chains",
        "Linux 5.9 or newer, modprobe nft_reject_ipvFAMILY_NUMBER "
        "(CONFIG_NFT_REJECT_IPVFAMILY_NUMBER)",
        _rule("reject"),
    ),
)
_ADDRESSES = {Family.IPV4: "192.0.2.1", Family.IPV6: "2001:db8::1"}


def require_privileges() -> None:
    """Raise MissingFeatureError unless this process can read and change nf_tables here."""
    # First, as without this capability the kernel's errors mislead.
    if not may_administer_network():
        raise MissingFeatureError(
            "the capability CAP_NET_ADMIN is missing",
            "run as root, or give the container securityContext.capabilities.add: [NET_ADMIN]",
        )
    try:
        with NftSocket() as netlink:
            netlink.tables()
    except DataplaneError as error:
        if error.code == NOT_PERMITTED:
            raise MissingFeatureError(
                "this user namespace has CAP_NET_ADMIN, but not over this network namespace",
                "run as root, or in a network namespace of its own (unshare -rn)",
            ) from error
        raise _no_nf_tables(error) from error


def _no_nf_tables(error: DataplaneError) -> MissingFeatureError:
    cause = error.__cause__
    if isinstance(cause, PermissionError):
        return MissingFeatureError(
            f"netlink sockets are forbidden here ({cause.strerror}), though CAP_NET_ADMIN is not "
            "missing: a seccomp profile or a security module forbids them",
            "in a container securityContext.seccompProfile.type: RuntimeDefault allows them",
        )
    return MissingFeatureError(
        f"the kernel has no nf_tables ({error})", "modprobe nf_tables (CONFIG_NF_TABLES)"
    )


def families_to_program() -> tuple[Family, ...]:
    """
    Return the families whose tables this node gets: those that the kernel has.

    IPv6 that is switched off gets its table, too, as it may be switched on at any time. It gets
    none where the kernel lacks what the table needs.
    """
    enabled = enabled_families()
    off = [family for family in families_of_host() if family not in enabled]
    return enabled if off and first_missing_feature(off) else families_of_host()


def first_missing_feature(families: Iterable[Family]) -> MissingFeatureError | None:
    """Return the first error of `missing_features`, None if there is none."""
    return next(missing_features(families), None)


def missing_features(families: Iterable[Family]) -> Iterator[MissingFeatureError]:
    """
    Try the program's features one by one, and yield an error for each that is missing.

    Changes nothing. Ends early if libnftables crashes or hangs, which says nothing about the
    kernel.
    """
    wanted = tuple(families)
    try:
        for probe in PROBES:
            # Nearly always both families have the feature: one child process instead of two.
            if _refusal("".join(_script(probe, family) for family in wanted)) is None:
                continue
            for family in wanted:
                if (error := _refusal(_script(probe, family))) is not None:
                    yield MissingFeatureError(
                        f"this kernel or libnftables lacks {probe.what} for {family.label}",
                        f"{_numbered(probe.remedy, family)} ({error})",
                    )
    except MissingFeatureError as error:  # libnftables itself
        yield error
    except DataplaneError:
        return


def _refusal(script: str) -> TransactionError | None:
    """Return why a script is refused, None if it is not. Raises other errors of `load_text`."""
    try:
        load_text(script, check=True)
    except TransactionError as error:
        return error
    return None


def _script(probe: Probe, family: Family) -> str:
    body = probe.body.replace("FAMILY", family.table).replace("ADDRESS", _ADDRESSES[family])
    return f"table {family.table} nfproxy-probe {{\n {body}\n}}\n"


def _numbered(remedy: str, family: Family) -> str:
    return remedy.replace("FAMILY_NUMBER", family.label.removeprefix("IPv"))
