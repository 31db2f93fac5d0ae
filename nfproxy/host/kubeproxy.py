"""
Is kube-proxy here? What it has left in nf_tables, and whether it, or nfproxy, runs on this node.

The daemon warns of it, preflight reports it, and the takeover waits for its end.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from nfproxy.host.processes import are_others_hidden, command_line_of, pids_in_this_network
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import KUBE_PROXY_TABLE

_METRICS = "http://127.0.0.1:10249"  # kube-proxy's default metricsBindAddress
_TIMEOUT_S = 1.0
_MODES = (b"iptables", b"ipvs", b"nftables")
_OWN_METRIC = b"\nnfproxy_"

#: The chain from which iptables mode and ipvs mode serve, in the nat table of iptables-nft.
_IPTABLES = {Family.IPV4: "iptables-nft", Family.IPV6: "ip6tables-nft"}
_SERVICES_TABLE, _SERVICES_CHAIN = "nat", "KUBE-SERVICES"


def kube_proxy_traces() -> list[str]:
    """
    Return in words what kube-proxy serves, or has served, this node with; at little cost.

    Only nf_tables is looked at: tables of kube-proxy's nftables mode, and chains of iptables-nft.
    Raises DataplaneError.
    """
    with NftSocket() as netlink:
        tables = [
            f"table {family.table} {KUBE_PROXY_TABLE}"
            for family in FAMILIES
            if any(table.name == KUBE_PROXY_TABLE for table in netlink.tables(family))
        ]
        chains = [
            f"chains of {_IPTABLES[family]}"
            for family in FAMILIES
            if any(
                chain.name == _SERVICES_CHAIN for chain in netlink.chains(family, _SERVICES_TABLE)
            )
        ]
    return tables + chains


class Running(NamedTuple):
    """
    Which proxies run here.

    `kube_proxy` and `nfproxy` say in words where (``process 4711``), "" if there is none. `hidden`
    says that this process sees only a part of the node's processes.
    """

    kube_proxy: str
    nfproxy: str
    hidden: bool


def proxies_running(proc: Path = Path("/proc"), metrics: str = _METRICS) -> Running:
    """
    Return which proxies run in this network namespace, this process apart.

    A process of kube-proxy's counts, and an answer at its usual address for metrics: in a container
    the process may be hidden, and k3s runs kube-proxy inside its own process.
    """
    kube_proxy = nfproxy = ""
    for pid in pids_in_this_network(proc):
        words = command_line_of(pid, proc)
        if not words:
            continue
        if Path(words[0]).name == "kube-proxy":
            kube_proxy = f"process {pid}"
        elif pid != os.getpid() and _is_nfproxy_daemon(words):
            nfproxy = f"process {pid}"
    if not kube_proxy and _answers_as_kube_proxy(metrics):
        kube_proxy = f"it answers at {metrics.removeprefix('http://')}"
    return Running(kube_proxy, nfproxy, are_others_hidden(proc))


def _is_nfproxy_daemon(words: list[str]) -> bool:
    """Return whether a command line is ``nfproxy run``, in one of the ways to start it."""
    names = [Path(word).name for word in words[:5]]  # python -m nfproxy, among others
    if "nfproxy" not in names:
        return False
    arguments = words[names.index("nfproxy") + 1 :]
    return arguments[:1] == ["run"] and not {"--cleanup", "--init-only"} & set(arguments)


def _answers_as_kube_proxy(url: str) -> bool:
    try:
        # nfproxy answers at the same paths; only its metrics tell the two apart.
        return _get(f"{url}/proxyMode") in _MODES and _OWN_METRIC not in _get(f"{url}/metrics")
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _get(url: str) -> bytes:
    # The environment may name a proxy for HTTP: this request must not leave the host.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_TIMEOUT_S) as answer:
        return bytes(answer.read())
