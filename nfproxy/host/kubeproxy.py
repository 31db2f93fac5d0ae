"""
Is kube-proxy here? What it has left in nf_tables, and whether it, or nfproxy, runs on this node.

The daemon warns of it, preflight reports it, and the takeover waits for its end.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from nfproxy.host.nfproxydaemon import daemon_arguments
from nfproxy.host.processes import are_others_hidden, command_line_of, pids_in_this_network
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.nftables import GET_CHAIN, SUBSYSTEM, chain_question
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import KUBE_PROXY_TABLE

_METRICS_PORT = 10249  # of kube-proxy's default metricsBindAddress, 127.0.0.1
_TIMEOUT_S = 1.0
_ANSWER_BYTES = 4096
_MODES = ("iptables", "ipvs", "nftables")

#: The chain from which iptables mode and ipvs mode serve, after its table.
_IPTABLES = {Family.IPV4: "iptables-nft", Family.IPV6: "ip6tables-nft"}
SERVICES_CHAIN = ("nat", "KUBE-SERVICES")


def kube_proxy_traces() -> list[str]:
    """
    Return in words what kube-proxy serves, or has served, this node with; at little cost.

    Only nf_tables is looked at: tables of kube-proxy's nftables mode, and chains of iptables-nft.
    Raises DataplaneError.
    """
    with NftSocket() as netlink:
        tables = [(table.family, table.name) for table in netlink.tables()]
        chains = [f for f in FAMILIES if _has_chain(netlink, f, *SERVICES_CHAIN)]
    return [
        *(
            f"table {f.table} {KUBE_PROXY_TABLE}"
            for f in FAMILIES
            if (f, KUBE_PROXY_TABLE) in tables
        ),
        *(f"chains of {_IPTABLES[f]}" for f in chains),
    ]


def _has_chain(netlink: NftSocket, family: Family, table: str, name: str) -> bool:
    """Return whether there is a chain; others, of which there may be thousands, are not listed."""
    question = chain_question(family, table, name)
    (answer,) = netlink.ask_each(SUBSYSTEM << 8 | GET_CHAIN, [question], f"chain {name}")
    return isinstance(answer, bytes)


class Running(NamedTuple):
    """
    Which proxies run here.

    `kube_proxy` and `nfproxy` say in words where (``process 4711``), "" if there is none. `hidden`
    says that this process sees only a part of the node's processes.
    """

    kube_proxy: str
    nfproxy: str
    hidden: bool


def proxies_running(proc: Path = Path("/proc"), metrics_port: int = _METRICS_PORT) -> Running:
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
        elif pid != os.getpid() and daemon_arguments(words) is not None:
            nfproxy = f"process {pid}"
    if not kube_proxy and proxy_at("127.0.0.1", metrics_port, "/proxyMode") not in ("", "nfproxy"):
        kube_proxy = f"it answers at 127.0.0.1:{metrics_port}"
    return Running(kube_proxy, nfproxy, are_others_hidden(proc))


def proxy_at(host: str, port: int, path: str) -> str:
    """
    Return which proxy serves the page ``/proxyMode`` or ``/healthz`` there.

    That is ``nfproxy``, ``kube-proxy``, ``kube-proxy (mode ipvs)``, or "" for any other program.
    """
    # Imported here: it takes a moment, and others look for processes and tables alone.
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(_ANSWER_BYTES).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    mode = body if path == "/proxyMode" and body in _MODES else ""
    if not mode and not (path == "/healthz" and '"lastUpdated"' in body):
        return ""
    if answer.headers.get("Server") == "nfproxy":  # it has the same pages
        return "nfproxy"
    return f"kube-proxy (mode {mode})" if mode else "kube-proxy"
