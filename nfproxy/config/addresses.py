"""Addresses, ``IP:port`` texts and lists of CIDRs, as the configuration writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nfproxy.errors import InputError
from nfproxy.model.addresses import FAMILIES, Family, Prefix, family_of, parse_address, parse_prefix

PRIMARY, LOCALHOST, ALL = "primary", "localhost", "all"

#: The words that ``nodePortAddresses`` may hold besides CIDRs, as in kube-proxy 1.37.
NODE_PORT_KEYWORDS = (PRIMARY, LOCALHOST, ALL)

#: Where pages are served without other flags.
HEALTHZ_PORT, METRICS_PORT = 10256, 10249


def split_address_port(text: str) -> tuple[str, str] | None:
    """Return host and port of ``1.2.3.4:80`` or ``[::1]:80``; None for other shapes."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    return None if ":" in host or "[" in text or "]" in text else (host, port)


def on_loopback(address_port: str) -> tuple[str, int]:
    """Return host and port where a server at a valid ``IP:port`` serves this node's own clients."""
    host, port = split_address_port(address_port) or ("", "0")
    packed = parse_address(host)
    if is_loopback(packed):
        return host, int(port)
    return ("127.0.0.1" if len(packed) == 4 or not any(packed) else "::1"), int(port)


def extra_loopback(address_port: str) -> str:
    """Return where a server at ``IP:port`` has to listen, too, to do so; "" where it does."""
    host, _ = split_address_port(address_port) or ("", "")
    packed = specific_address(host)
    return "" if packed is None or is_loopback(packed) else with_port(*on_loopback(address_port))


def is_address_port(text: str) -> bool:
    """Return whether a text is an IP address with a port from 1 to 65535."""
    parts = split_address_port(text)
    if parts is None or not is_address(parts[0]):
        return False
    port = parts[1]
    return port.isascii() and port.isdigit() and len(port) < 6 and 1 <= int(port) <= 65535


def is_address(text: str) -> bool:
    """Return whether a text is an IP address."""
    return _is_parsed(text, parse_address)


def is_cidr(text: str) -> bool:
    """Return whether a text is a CIDR."""
    return _is_parsed(text, parse_prefix)


def _is_parsed(text: str, parse: Callable[[str], object]) -> bool:
    try:
        parse(text)
    except InputError:
        return False
    return True


def with_port(text: str, port: int) -> str:
    """Return an address with `port` added if it has none; other texts as they are."""
    if split_address_port(text) is not None or not is_address(text):
        return text
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def cidr_list(text: str) -> tuple[str, ...]:
    """Return the CIDRs of a comma separated text, trimmed; none for an empty text."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def first_per_family(prefixes: Sequence[Prefix]) -> dict[Family, Prefix]:
    """Return the first prefix of each family, IPv4 first."""
    first = {prefix.family: prefix for prefix in reversed(prefixes)}
    return {family: first[family] for family in FAMILIES if family in first}


def specific_address(text: str) -> bytes | None:
    """Return the packed address a text names, None for the unspecified ones (0.0.0.0, ::)."""
    packed = parse_address(text)
    return packed if any(packed) else None


def is_loopback(packed: bytes) -> bool:
    """
    Return whether an address lies in 127.0.0.0/8 or is ::1.

    The network address of a prefix is a loopback address if and only if the whole prefix is.
    """
    return packed in LOOPBACK[family_of(packed)]


LOOPBACK = {
    Family.IPV4: Prefix(bytes([127, 0, 0, 0]), 8),
    Family.IPV6: Prefix(bytes(15) + b"\1", 128),
}
