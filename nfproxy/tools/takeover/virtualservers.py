"""
IPVS as the kernel's text files show it: virtual servers, connections, and which are in use.

Source: ``ip_vs_ctl.c`` and ``ip_vs_conn.c``. Addresses are hexadecimal, IPv6 in full and in
brackets where a port follows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from typing import NamedTuple

from nfproxy.model.addresses import Family, family_of, format_address
from nfproxy.model.service import Protocol

_PROTOCOLS = {protocol.name: protocol for protocol in Protocol}

#: States of a connection over which nothing is sent any more; NONE is a template for persistence.
_ENDED = frozenset(("NONE", "TIME_WAIT", "CLOSE", "CLOSED", "LISTEN"))

# States of sockets, tcp_states.h; a UDP socket that is connected is "established".
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


class Connection(NamedTuple):
    """
    A connection through a virtual server.

    `client` are its address and port as the file has them, `expires_s` when it is forgotten
    unless there is another packet.
    """

    server: VirtualServer
    client: tuple[str, str]
    state: str
    expires_s: int


def read_servers(text: str) -> list[VirtualServer]:
    """Return the virtual servers of ``/proc/net/ip_vs``; those by firewall mark are left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] in _PROTOCOLS:
            address, _, port = words[1].rpartition(":")
            found.append(VirtualServer(_PROTOCOLS[words[0]], _address(address), int(port, 16)))
    return found


def read_connections(text: str) -> list[Connection]:
    """Return the connections of ``/proc/net/ip_vs_conn``."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 9 or words[0] not in _PROTOCOLS:
            continue
        protocol, client, client_port, server, port, _, _, state, expires = words[:9]
        key = VirtualServer(_PROTOCOLS[protocol], _address(server), int(port, 16))
        found.append(Connection(key, (client, client_port), state, int(expires)))
    return found


def read_sources(*texts: str) -> set[bytes]:
    """
    Return the local addresses of this host's open connections.

    `texts` are ``/proc/net/tcp``, ``tcp6``, ``udp`` and ``udp6``. A process on the node that
    connects to a virtual address sends from that address, as long as it is a local one.
    """
    found = set()
    for text in texts:
        for line in text.splitlines()[1:]:
            words = line.split()
            if len(words) > 3 and words[3] not in _SOCKET_ENDED and words[2].strip("0:"):
                found.add(_socket_address(words[1].partition(":")[0]))
    return found


class Look(NamedTuple):
    """What was seen at one time: connections, and addresses this host's own ones come from."""

    at_s: float
    connections: tuple[Connection, ...]
    sources: frozenset[bytes]


def busy(now: Look, before: Look | None) -> set[VirtualServer]:
    """
    Return the virtual servers that connections go on through.

    A UDP flow has no end: it goes on if its time has been set anew since the look `before`. As long
    as there is none, each counts.
    """
    used = set()
    then = {_ageless(c): c.expires_s for c in before.connections} if before else {}
    # What is idle has lost all of the seconds between; they are counted as whole ones.
    half = (now.at_s - before.at_s) / 2 if before else 0.0
    for connection in now.connections:
        if connection.server.protocol is not Protocol.UDP:
            alive = connection.state not in _ENDED
        else:
            earlier = then.get(_ageless(connection))
            alive = earlier is None or connection.expires_s > earlier - half
        if alive:
            used.add(connection.server)
    return used


def _ageless(connection: Connection) -> Connection:
    return connection._replace(expires_s=0, state="")


class Idle(NamedTuple):
    """What nobody uses: virtual servers, and addresses that none is left at."""

    servers: list[VirtualServer]
    addresses: set[bytes]


def idle(
    servers: Iterable[VirtualServer], bound: Collection[bytes], now: Look, before: Look | None
) -> Idle:
    """Return what may go without breaking a connection."""
    used = busy(now, before)
    every = list(servers)
    needed = now.sources.union(s.address for s in every if s in used)
    return Idle([s for s in every if s not in used], set(bound) - needed)


class NodePorts(NamedTuple):
    """Node ports that kube-proxy's ipsets name, and the node's own addresses."""

    ports: Collection[tuple[Family, Protocol, int]]
    local: Collection[bytes]


def kube_proxys(
    servers: Iterable[VirtualServer], bound: Collection[bytes], node_ports: NodePorts
) -> list[VirtualServer]:
    """
    Return the virtual servers that are kube-proxy's.

    Those of Services have addresses `bound` to its device. Node ports are at addresses of the node
    and in one of its ipsets. Everything else belongs to other software.
    """
    return [
        server
        for server in servers
        if server.address in bound
        or (
            server.address in node_ports.local
            and (server.family, server.protocol, server.port) in node_ports.ports
        )
    ]


def _address(text: str) -> bytes:
    if ":" in text:
        return ipaddress.IPv6Address(text.strip("[]")).packed
    return bytes.fromhex(text)


def _socket_address(text: str) -> bytes:
    """Return an address of a socket: words of four bytes, each in the machine's (little) order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return b"".join(words)
