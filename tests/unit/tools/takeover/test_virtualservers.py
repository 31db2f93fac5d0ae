"""IPVS as the kernel's text files show it: kube-proxy's virtual servers, and those in use."""

import pytest

from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.tools.takeover.draining import Snapshot, unused, used_servers
from nfproxy.tools.takeover.virtualservers import (
    IpvsConnection,
    VirtualServer,
    read_connections,
    read_servers,
    read_sources,
    servers_of_kube_proxy,
)

SERVERS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A60000A:0050 rr
  -> 0AF4020B:1F90      Masq    1      0          0
  -> 0AF4010B:1F90      Masq    1      1          2
UDP  C0A84D0B:7580 rr
TCP  [fd00:0010:0096:0000:0000:0000:0000:0010]:0050 rr persistent 600 FFFFFFFF
  -> [fd00:0010:0244:0001:0000:0000:0000:0011]:1F90      Masq    1      0          0
FWM  00000007 rr
"""
CONNECTIONS = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0AF4010C 8235 0A60000A 0050 0AF4010B 1F90 ESTABLISHED     899
TCP 0AF4010C 8236 0A60000A 0050 0AF4020B 1F90 TIME_WAIT       119
UDP 0AF4010C 9000 C0A84D0B 7580 0AF4010B 1F90 UDP             300
TCP fd00:0010:0244:0001:0000:0000:0000:0012 A1B2 fd00:0010:0096:0000:0000:0000:0000:0010 0050 fd00:0010:0244:0001:0000:0000:0000:0011 1F90 NONE            598
"""  # noqa: E501 - as the kernel writes it
#: Listening, established from a virtual address, in TIME_WAIT from another.
SOCKETS = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0A00600A:C350 0A00600A:0050 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 1400600A:C351 1400600A:0050 06 00000000:00000000 00:00000000 00000000     0        0 0 3
"""
SOCKETS6 = """\
  sl  local_address                         remote_address                        st
   0: 100000FD000096000000000010000000:C350 100000FD000096000000000010000000:0050 01
"""

WEB = VirtualServer(Protocol.TCP, parse_address("10.96.0.10"), 80)
WEB6 = VirtualServer(Protocol.TCP, parse_address("fd00:10:96::10"), 80)
NODE_PORT = VirtualServer(Protocol.UDP, parse_address("192.168.77.11"), 30080)


def test_servers_are_read():
    """Real servers and virtual servers by firewall mark are left out."""
    assert read_servers(SERVERS) == [WEB, NODE_PORT, WEB6]
    assert [str(server) for server in read_servers(SERVERS)] == [
        "10.96.0.10:80/tcp",
        "192.168.77.11:30080/udp",
        "[fd00:10:96::10]:80/tcp",
    ]


def test_connections_are_read():
    """Connections of both families and of every state are read."""
    assert [(c.server, c.state) for c in read_connections(CONNECTIONS)] == [
        (WEB, "ESTABLISHED"),
        (WEB, "TIME_WAIT"),
        (NODE_PORT, "UDP"),
        (WEB6, "NONE"),
    ]


def test_sources_of_own_connections_are_read():
    """Only open connections count, in both families."""
    assert {WEB.address} == read_sources(SOCKETS, "")
    assert {WEB6.address} == read_sources("", SOCKETS6)


def test_virtual_servers_of_others_are_left_out():
    """The address shows which are of Services; node address and port show which are node ports."""
    keepalived = VirtualServer(Protocol.TCP, parse_address("192.0.2.1"), 80)
    dns = VirtualServer(Protocol.UDP, parse_address("192.168.77.11"), 53)
    ports = {(Family.IPV4, Protocol.UDP, 30080)}
    every = [WEB, keepalived, NODE_PORT, dns]

    found = servers_of_kube_proxy(every, {WEB.address}, {NODE_PORT.address}, ports)
    assert found == [WEB, NODE_PORT]


def snapshot(at_s, *connections, sources=()):
    """Return a snapshot of some (server, state, expires_s)."""
    made = tuple(IpvsConnection(s, ("0AF4010C", "8235"), state, e) for s, state, e in connections)
    return Snapshot(at_s, made, frozenset(sources))


@pytest.mark.parametrize(
    ("state", "used"),
    [("ESTABLISHED", True), ("FIN_WAIT", True), ("SYN_RECV", True), ("TIME_WAIT", False),
     ("CLOSE", False), ("NONE", False)],
)  # fmt: skip
def test_a_server_is_used_as_long_as_a_connection_is_open(state, used):
    """A connection that has ended, or a template for session affinity, does not count."""
    assert ({WEB} if used else set()) == used_servers(snapshot(0, (WEB, state, 100)), None)


@pytest.mark.parametrize(
    ("before", "after", "used"), [(300, 300, True), (299, 299, True), (300, 298, False)]
)
def test_a_udp_flow_is_open_if_a_packet_renews_its_expiry(before, after, used):
    """Two snapshots show that; in its first snapshot every flow counts as open."""
    first = snapshot(10.0, (NODE_PORT, "UDP", before))
    second = snapshot(12.0, (NODE_PORT, "UDP", after))

    assert {NODE_PORT} == used_servers(first, None)
    assert ({NODE_PORT} if used else set()) == used_servers(second, first)
    assert {NODE_PORT} == used_servers(second, snapshot(10.0))


def test_an_address_goes_when_no_connection_needs_it():
    """Neither a virtual server in use nor a connection of this host needs it."""
    now = snapshot(0, (WEB, "ESTABLISHED", 100), sources=[WEB6.address])
    spare = parse_address("10.96.0.30")
    going = unused([WEB, WEB6], {WEB.address, WEB6.address, spare}, now, None)

    assert ([WEB6], {spare}) == going
