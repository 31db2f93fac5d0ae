"""
The addresses that the daemon is going to listen at.
"""

from __future__ import annotations

import http.client

from nfproxy.config.addresses import split_address_port
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.errors import ListenError
from nfproxy.servers.listening import listen_at
from nfproxy.tools.preflight.facts import Port

_ASK_S = 1.0
_ANSWER_BYTES = 4096
_MODES = ("nftables", "iptables", "ipvs")


def read_ports(config: KubeProxyConfiguration) -> tuple[Port, ...]:
    """Try to listen at each address; where that fails, ask who is there."""
    wanted = (
        ("metrics", config.metrics_bind_address, "/proxyMode"),
        ("health", config.healthz_bind_address, "/healthz"),
    )
    return tuple(_port(what, address, path) for what, address, path in wanted if address)


def _port(what: str, address: str, path: str) -> Port:
    try:
        listen_at(address).close()
    except ListenError as error:
        return Port(what, address, str(error), _holder(address, path))
    return Port(what, address)


def _holder(address: str, path: str) -> str:
    """Return the proxy that answers at an address, "" for somebody else."""
    host, port = split_address_port(address) or ("", "0")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    try:
        server, body = _ask(host, int(port), path)
    except (OSError, http.client.HTTPException):
        return ""
    if path == "/proxyMode" and body.strip() in _MODES:
        return "nfproxy" if server == "nfproxy" else f"kube-proxy (mode {body.strip()})"
    if path == "/healthz" and '"lastUpdated"' in body:
        return "nfproxy" if server == "nfproxy" else "kube-proxy"
    return ""


def _ask(host: str, port: int, path: str) -> tuple[str, str]:
    connection = http.client.HTTPConnection(host, port, timeout=_ASK_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(_ANSWER_BYTES).decode("utf-8", "replace")
        return answer.headers.get("Server", ""), body
    finally:
        connection.close()
