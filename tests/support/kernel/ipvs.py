"""
kube-proxy's ipvs mode on a node, set up by hand: virtual servers, their device, ipsets and rules.

For the objects of ``tests/takeover/objects.yaml``. Needs a kernel with IPVS.
"""

from __future__ import annotations

from pathlib import Path

from support.kernel.oldproxy import make_ipsets, rules

from nfproxy.tools.lab import Namespace
from nfproxy.tools.takeover.names import IPSETS
from nfproxy.tools.takeover.virtualservers import read_servers

_PODS = {"": ("10.244.1.11", "10.244.2.11"), "6": ("fd00:10:244:1::11", "fd00:10:244:2::11")}
_NODE = {"": "192.168.77.11", "6": "fd77::11"}
_CLUSTER_IPS = {
    "": ("10.96.0.10", "10.96.0.20", "10.96.0.30", "10.96.0.40", "198.51.100.2"),
    "6": ("fd00:10:96::10", "fd00:10:96::20", "fd00:10:96::30", "fd00:10:96::40", "2001:db8:1::2"),
}
_OTHERS = "-A -t 192.0.2.50:80 -s rr"


def install(namespace: Namespace) -> None:
    """Set everything up, as kube-proxy does at its start; what there is already stays."""
    namespace.run(["ip", "link", "add", "kube-ipvs0", "type", "dummy"], check=False)
    addresses = [address for family in ("", "6") for address in _CLUSTER_IPS[family]]
    lines = [f"addr replace {address} dev kube-ipvs0\n" for address in addresses]
    namespace.run(["ip", "-batch", "-"], input="".join(lines))
    existing = namespace.call(virtual_servers)
    commands = [line for line in (*_virtual_servers(), _OTHERS) if _name(line) not in existing]
    namespace.run(["ipvsadm", "-R"], input="\n".join(commands) + "\n")
    namespace.set_sysctls({"ipv4/vs/conntrack": "1", "ipv4/vs/expire_nodest_conn": "1"})
    namespace.call(make_ipsets, sorted(IPSETS))
    namespace.run(["ipset", "-!", "restore"], input=_set_entries("") + _set_entries("6"))
    # One backend each: with a kernel of its own this is where IPv6 has a legacy one.
    namespace.run(["iptables-nft-restore"], input=_rules(""))
    namespace.run(["ip6tables-legacy-restore"], input=_rules("6"))


def _name(command: str) -> str:
    """Return what `virtual_servers` calls the virtual server that an ipvsadm line is about."""
    words = command.split()
    return f"{words[2]}/{'tcp' if words[1] == '-t' else 'udp'}"


def virtual_servers() -> set[str]:
    """Return the virtual servers of the network namespace."""
    path = Path("/proc/thread-self/net/ip_vs")
    return {str(server) for server in read_servers(path.read_text() if path.exists() else "")}


def _virtual_servers() -> list[str]:
    lines = []
    for family in ("", "6"):
        for address, port, protocols in (
            (_CLUSTER_IPS[family][0], 80, "tu"),
            (_CLUSTER_IPS[family][1], 80, "t"),
            (_CLUSTER_IPS[family][3], 80, "t"),
            (_CLUSTER_IPS[family][4], 80, "t"),
            (_NODE[family], 30080, "tu"),
        ):
            for protocol in protocols:
                name = f"-{protocol} {f'[{address}]' if family else address}:{port}"
                sticky = " -p 600" if address == _CLUSTER_IPS[family][1] else ""
                lines.append(f"-A {name} -s rr{sticky}")
                for pod in _PODS[family]:
                    lines.append(f"-a {name} -r {f'[{pod}]' if family else pod}:8080 -m -w 1")
    return lines


def _set_entries(family: str) -> str:
    prefix = f"KUBE-{family}-" if family else "KUBE-"
    services = [address for address in _CLUSTER_IPS[family][:4] if address[-2:] != "30"]
    entries = [
        *(f"{prefix}CLUSTER-IP {address},tcp:80" for address in services),
        f"{prefix}CLUSTER-IP {_CLUSTER_IPS[family][0]},udp:80",
        f"{prefix}LOAD-BALANCER {_CLUSTER_IPS[family][4]},tcp:80",
        f"{prefix}NODE-PORT-TCP 30080",
        f"{prefix}NODE-PORT-UDP 30080",
        *(f"{prefix}LOOP-BACK {pod},tcp:8080,{pod}" for pod in _PODS[family][:1]),
        *(f"{prefix}IPVS-IPS {address}" for address in _CLUSTER_IPS[family]),
    ]
    return "\n".join(f"add {entry}" for entry in entries) + "\n"


def _rules(family: str) -> str:
    text = rules("ipvs.v4")
    if not family:
        return text
    for old, new in (
        ("--match-set KUBE-", "--match-set KUBE-6-"),
        ("10.244.0.0/16", "fd00:10:244::/48"),
        ("127.0.0.0/8", "::1/128"),
        ("icmp-port", "icmp6-port"),
    ):
        text = text.replace(old, new)
    return text
