"""What kube-proxy has left in the kernel, at little cost."""

from __future__ import annotations

from pathlib import Path

from nfproxy.dataplane.legacyrules import has_legacy_chain
from nfproxy.host.kubeproxy import SERVICES_CHAIN, kube_proxy_traces

#: The interface on which ipvs mode puts the addresses of Services.
_IPVS_INTERFACE = "kube-ipvs0"


def kube_proxy_rules(proc: Path = Path("/proc")) -> tuple[str, ...]:
    """
    Return in words with which rules kube-proxy serves, or has served, this node.

    All its modes are looked at. Raises DataplaneError.
    """
    legacy = ["chains of iptables-legacy"] if has_legacy_chain(*SERVICES_CHAIN) else []
    ipvs = [f"IPVS (interface {_IPVS_INTERFACE})"] if _has_interface(_IPVS_INTERFACE, proc) else []
    return (*kube_proxy_traces(), *legacy, *ipvs)


def _has_interface(name: str, proc: Path) -> bool:
    try:
        lines = (proc / "self/net/dev").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    return any(line.partition(":")[0].strip() == name for line in lines)
