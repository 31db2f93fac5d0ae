"""
kube-proxy as it leaves a node: its rules in each mode, without its process.

``tests/takeover/rules`` holds what kube-proxy 1.36.2 made on node-1 for the objects of
``tests/takeover/objects.yaml``, as iptables-save and nft list it.
"""

from __future__ import annotations

import enum
import errno
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from support.processes.commands import ROOT, Commands

from nfproxy.errors import DataplaneError
from nfproxy.netlink.messages import NLM_F_CREATE, generic, string
from nfproxy.netlink.sockets import NetlinkSocket, code_of
from nfproxy.tools.lab import Namespace
from nfproxy.tools.takeover.names import NFACCT

DIRECTORY = ROOT / "tests/takeover"
OBJECTS = DIRECTORY / "objects.yaml"
CLUSTER_CIDR = "10.244.0.0/16,fd00:10:244::/48"

_EXISTS = (code_of(errno.EEXIST), code_of(errno.EBUSY))
_NEW_COUNTER = 0x700  # NFNL_SUBSYS_ACCT << 8 | NFNL_MSG_ACCT_NEW


class Mode(enum.Enum):
    """kube-proxy's modes, and the backend iptables writes to."""

    NFTABLES = "nftables"
    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"


def rules(name: str) -> str:
    """Return a file of rules."""
    return (DIRECTORY / "rules" / name).read_text()


def install(namespace: Namespace, mode: Mode) -> None:
    """Put the rules of a mode onto a node, as kube-proxy does at its start."""
    if mode is Mode.NFTABLES:
        delete = "".join(f"add table {f} kube-proxy\ndelete table {f} kube-proxy\n" for f in IP)
        namespace.run(["nft", "-f", "-"], input=delete + rules("nftables.nft"))
        return
    namespace.call(make_counters)
    # The build machines' kernel has no IPv6 tables for iptables-legacy.
    backends = {"ip": mode.value.removeprefix("iptables-"), "ip6": "nft"}
    for family, backend in backends.items():
        name = f"{family}tables-{backend}-restore"
        namespace.run([name], input=rules(f"iptables.v{4 if family == 'ip' else 6}"))


IP = ("ip", "ip6")


def make_counters() -> None:
    """Make the nfacct counters of iptables mode; rules that name them cannot be loaded without."""
    with NetlinkSocket() as netlink:
        for name in sorted(NFACCT):
            try:
                payload = generic(0) + string(1, name)
                netlink.request(_NEW_COUNTER, payload, f"make counter {name}", NLM_F_CREATE)
            except DataplaneError as error:
                if error.code not in _EXISTS:
                    raise


#: How kube-proxy lays out its ipsets: the type of each, by the end of its name.
_TYPES = {
    "LOOP-BACK": "hash:ip,port,ip",
    "SOURCE-IP": "hash:ip,port,ip",
    "SOURCE-CIDR": "hash:ip,port,net",
    "SOURCE-CID": "hash:ip,port,net",
    "-TCP": "bitmap:port",
    "-UDP": "bitmap:port",
    "HEALTH-CHECK-NODE-PORT": "bitmap:port",
    "IPVS-IPS": "hash:ip",
}


def make_ipsets(names: Iterable[str]) -> None:
    """Make ipsets as kube-proxy's ipvs mode does, or of the usual type for other names."""
    from pyroute2 import IPSet

    with IPSet() as sets:
        for name in names:
            kind = next((t for end, t in _TYPES.items() if name.endswith(end)), "hash:ip,port")
            if kind == "bitmap:port":
                sets.create(name, kind, exclusive=False, bitmap_ports_range=(0, 65535))
            else:
                six = name.startswith("KUBE-6-")
                sets.create(name, kind, socket.AF_INET6 if six else socket.AF_INET, False)


class Left(NamedTuple):
    """What is on a node that kube-proxy may have made."""

    tables: tuple[str, ...]
    chains: tuple[str, ...]


def left_on(namespace: Namespace) -> Left:
    """Return the tables called kube-proxy, and every chain of iptables that begins with KUBE-."""
    tables = namespace.run(["nft", "list", "tables"]).stdout.splitlines()
    saves = (
        namespace.run([f"{program}-save"]).stdout
        for program in ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
    )
    chains = {
        line.split()[0].removeprefix(":")
        for text in saves
        for line in text.splitlines()
        if line.startswith(":KUBE-")
    }
    return Left(tuple(t for t in tables if t.endswith(" kube-proxy")), tuple(sorted(chains)))


#: What stays of iptables mode: kubelet's.
KUBELETS = Left((), ("KUBE-FIREWALL",))


def configuration(directory: Path) -> Path:
    """
    Write the configuration with which nfproxy does what those rules do; return the file.

    It masquerades by another mark than kube-proxy, so that neither can stand in for the other.
    """
    path = directory / "config.conf"
    path.write_text(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
        "kind: KubeProxyConfiguration\n"
        f"clusterCIDR: {CLUSTER_CIDR}\n"
        "nftables: { masqueradeBit: 15 }\n"
        "conntrack: { maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }\n"
    )
    return path


def manifests_in(directory: Path) -> Path:
    """Put the objects into a directory, for ``nfproxy run --manifests``."""
    directory.mkdir(exist_ok=True)
    (directory / "objects.yaml").write_text(OBJECTS.read_text())
    return directory


def cleanup(commands: Commands, *arguments: object) -> tuple[int, str, str]:
    """Run ``nfproxy cleanup --kube-proxy`` to its end."""
    return commands.run("cleanup", "--kube-proxy", *arguments)
