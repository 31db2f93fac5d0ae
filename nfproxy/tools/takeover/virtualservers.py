"""
IPVS as the kernel's text files show it: virtual servers, connections, sockets of this host.

Source: ``ip_vs_ctl.c`` and ``ip_vs_conn.c``. Addresses are hexadecimal; IPv6 addresses are written
in full, in brackets where a port follows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from typing import NamedTuple

from nfproxy.model.addresses import Family, family_of, format_address
from nfproxy.model.service import Protocol

_PROTOCOLS = {protocol.name: protocol for protocol in Protocol}

# States of sockets, tcp_states.h: TIME_WAIT, CLOSE, LISTEN. Connected UDP is "established".
_SOCKET_ENDED = frozenset(("06", "07", "0A"))


class VirtualServer(NamedTuple):
    """An address, protocol and port that IPVS balances."""

    protocol: Protocol
    address: bytes
    port: int

    @property
    def family(self) -> Family:
        """The family of its address."""
        return family_of(self.address)

    def __str__(self) -> str:
        """Return ``10.96.0.1:80/tcp``."""
        text = format_address(self.address)
        host = f"[{text}]" if ":" in text else text
        return f"{host}:{self.port}/{self.protocol.word}"


class IpvsConnection(NamedTuple):
    """
    A connection through a virtual server.

    `client` is the address and port as the file has them. The kernel forgets the connection after
    `expires_s` unless another packet arrives.
    """

    server: VirtualServer
    client: tuple[str, str]
    state: str
    expires_s: int


def read_servers(text: str) -> list[VirtualServer]:
    """Return the virtual servers of ``/proc/net/ip_vs``, except those by firewall mark."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] in _PROTOCOLS:
            address, _, port = words[1].rpartition(":")
            found.append(VirtualServer(_PROTOCOLS[words[0]], _address(address), int(port, 16)))
    return found


def read_connections(text: str) -> list[IpvsConnection]:
    """Return the connections of ``/proc/net/ip_vs_conn``."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 9 or words[0] not in _PROTOCOLS:
            continue
        protocol, client, client_port, server, port, _, _, state, expires = words[:9]
        key = VirtualServer(_PROTOCOLS[protocol], _address(server), int(port, 16))
        found.append(IpvsConnection(key, (client, client_port), state, int(expires)))
    return found


def read_sources(*texts: str) -> set[bytes]:
    """
    Return the local addresses of this host's open connections.

    `texts` are ``/proc/net/tcp``, ``tcp6``, ``udp`` and ``udp6``. A process on the node that
    connects to a virtual address sends from that same address while it is local.
    """
    found = set()
    for text in texts:
        for line in text.splitlines()[1:]:
            words = line.split()
            if len(words) > 3 and words[3] not in _SOCKET_ENDED and words[2].strip("0:"):
                found.add(_socket_address(words[1].partition(":")[0]))
    return found


def servers_of_kube_proxy(
    servers: Iterable[VirtualServer],
    bound: Collection[bytes],
    local: Collection[bytes],
    node_ports: Collection[tuple[Family, Protocol, int]],
) -> list[VirtualServer]:
    """
    Return the virtual servers that kube-proxy made; all others belong to other software.

    Those of Services have addresses `bound` to kube-proxy's device. Those of node ports have
    another `local` address and are among the `node_ports` of kube-proxy's ipsets.
    """
    return [
        server
        for server in servers
        if server.address in bound
        or (server.address in local and (server.family, server.protocol, server.port) in node_ports)
    ]


def _address(text: str) -> bytes:
    if ":" in text:
        return ipaddress.IPv6Address(text.strip("[]")).packed
    return bytes.fromhex(text)


def _socket_address(text: str) -> bytes:
    """Return the address of a socket: words of four bytes, each in little-endian order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return b"".join(words)
