"""
Whether a proxy is running on this node: a process, or somebody who answers for one.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

_METRICS = "http://127.0.0.1:10249"  # kube-proxy's default metricsBindAddress
_TIMEOUT_S = 1.0
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO
_OWN_METRIC = b"\nnfproxy_"


class Running(NamedTuple):
    """
    Who runs here.

    `kube_proxy` and `nfproxy` say in words where (``process 4711``), "" if there is none;
    `hidden` tells that the node's processes cannot be seen from here.
    """

    kube_proxy: str
    nfproxy: str
    hidden: bool


def proxies_running(proc: Path = Path("/proc"), metrics: str = _METRICS) -> Running:
    """
    Return which proxies run in this network namespace.

    Processes are looked for, and who answers at kube-proxy's usual port for metrics: in a
    container the former cannot be seen, and k3s runs kube-proxy inside its own process.
    """
    kube_proxy = nfproxy = ""
    for pid in _in_this_network(proc):
        words = _command(proc / str(pid))
        if not words:
            continue
        if Path(words[0]).name == "kube-proxy":
            kube_proxy = f"process {pid}"
        elif pid != os.getpid() and _is_daemon(words):
            nfproxy = f"process {pid}"
    if not kube_proxy and _answers_as_kube_proxy(metrics):
        kube_proxy = f"it answers at {metrics.removeprefix('http://')}"
    return Running(kube_proxy, nfproxy, _hidden(proc))


def _in_this_network(proc: Path) -> list[int]:
    """Return the processes of this network namespace, and those of which it cannot be told."""
    here = _link(proc / "self/ns/net")
    pids = [int(path.name) for path in proc.iterdir() if path.name.isdigit()]
    return [pid for pid in sorted(pids) if _link(proc / str(pid) / "ns/net") in (here, "")]


def _command(directory: Path) -> list[str]:
    try:
        text = (directory / "cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return []
    return [word for word in text.split("\0") if word]


def _is_daemon(words: list[str]) -> bool:
    """Tell whether a command line is ``nfproxy run``, in one of the ways to start it."""
    names = [Path(word).name for word in words[:5]]
    if "nfproxy" not in names:
        return False
    arguments = words[names.index("nfproxy") + 1 :]
    return arguments[:1] == ["run"] and not {"--cleanup", "--init-only"} & set(arguments)


def _answers_as_kube_proxy(url: str) -> bool:
    try:
        mode = _get(f"{url}/proxyMode")
        if mode in (b"iptables", b"ipvs", b"nftables"):
            return _OWN_METRIC not in _get(f"{url}/metrics")
    except (OSError, urllib.error.URLError, ValueError):
        pass
    return False


def _get(url: str) -> bytes:
    # Straight to this host, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_TIMEOUT_S) as answer:
        return bytes(answer.read())


def _hidden(proc: Path) -> bool:
    return _link(proc / "self/ns/pid") not in (_INITIAL_PID_NAMESPACE, "")


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
