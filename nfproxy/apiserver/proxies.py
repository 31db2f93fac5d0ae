"""
Which proxy a request goes through, by the rules of Go programs.

Python's own reading of the environment knows no CIDRs in ``NO_PROXY``, which kubeadm's users
put there, and aiohttp's looks for passwords in ``~/.netrc`` besides. Source: Go's
``golang.org/x/net/http/httpproxy``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """
    Return the proxy for `url` that ``HTTPS_PROXY`` or ``HTTP_PROXY`` names, None for none.

    ``NO_PROXY`` holds, between commas, host names (also for what is below them), names with a
    leading dot (only for what is below), addresses, CIDRs, each with or without a port,
    or ``*``. Loopback never goes through a proxy.
    """
    parts = urlsplit(url)
    proxy = _variable(environ, f"{parts.scheme.upper()}_PROXY")
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not proxy or _loopback(host):
        return None
    if any(_excepts(item.strip().lower(), host, port) for item in _exceptions(environ)):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower()) or ""


def _exceptions(environ: Mapping[str, str]) -> list[str]:
    return _variable(environ, "NO_PROXY").split(",")


def _loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _excepts(item: str, host: str, port: int) -> bool:
    """Tell whether one item of NO_PROXY takes a host out."""
    if not item:
        return False
    if item == "*":
        return True
    address = _address(host)
    if "/" in item:
        try:
            return address is not None and address in ipaddress.ip_network(item, strict=False)
        except ValueError:
            return False
    name, wanted = _split_port(item)
    if wanted and wanted != str(port):
        return False
    if address is not None:
        return _address(name) == address
    below = name.removeprefix("*") if name.startswith("*.") else name
    if below.startswith("."):
        return host.endswith(below)
    return host == below or host.endswith(f".{below}")


def _split_port(item: str) -> tuple[str, str]:
    """Return name and port ("" for none) of ``name``, ``name:port``, ``[v6]:port`` or ``v6``."""
    if item.startswith("["):
        name, _, rest = item[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = item.rpartition(":")
    if colon and ":" not in name:
        return name, port
    return item, ""
