"""Connections of a machine to itself have a queue of their own, which a flood cannot fill."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from collections.abc import Iterator

import pytest
from support.processes.commands import ROOT

from nfproxy.errors import ListenError
from nfproxy.servers.localqueue import listen_apart
from nfproxy.tools.lab import Lab

PLACES = {
    "IPv4": ("127.0.0.1:0", "127.0.0.1", "127.0.0.2"),
    "all addresses, IPv4": ("0.0.0.0:0", "127.0.0.1", "127.0.0.2"),
    "all addresses, another of its own": ("0.0.0.0:0", "127.0.0.9", "127.0.0.8"),
}


@contextlib.contextmanager
def connected(host: str, port: int, sources: list[str]) -> Iterator[list[tuple[str, int]]]:
    """Connect from these addresses, in this order; yield where from."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(socket.create_connection((host, port), 5, (source, 0)))
            for source in sources
        ]
        yield [one.getsockname()[:2] for one in made]


def accepted(listening: socket.socket) -> list[tuple[str, int]]:
    """Return where the connections in a queue come from."""
    found = []
    while select.select([listening], [], [], 0)[0]:
        client, place = listening.accept()
        client.close()
        found.append((place[0].removeprefix("::ffff:"), place[1]))
    return found


@pytest.mark.parametrize(("address", "host", "other"), PLACES.values(), ids=PLACES)
def test_local_connections_wait_behind_no_others(address: str, host: str, other: str) -> None:
    """Whatever waits at the other socket."""
    remote, local = listen_apart(address)
    with remote, local, connected(host, remote.getsockname()[1], [*[other] * 99, host]) as clients:
        assert accepted(local) == clients[-1:]
        assert accepted(remote) == clients[:-1]


#: Connects to an address from itself, and from one that differs in its last bits.
IPV6 = """
import select, socket
from nfproxy.servers.localqueue import listen_apart
for address in "[fd00::1]:0", "[::]:0":
    remote, local = listen_apart(address)
    port = remote.getsockname()[1]
    held = [socket.create_connection(("fd00::1", port), 5, (a, 0)) for a in ("fd00::2", "fd00::1")]
    print(*(one.accept()[1][0] for one in (remote, local)))
    assert not select.select([remote, local], [], [], 0)[0]
"""


def test_ipv6_addresses_are_compared_as_a_whole(lab: Lab) -> None:
    """Four words each."""
    namespace = lab.namespace("node")
    namespace.run(["ip", "link", "set", "lo", "up"])
    for address in ("fd00::1/128", "fd00::2/128"):
        namespace.run(["ip", "address", "add", address, "dev", "lo", "nodad"])
    done = namespace.run(["env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-c", IPV6])
    assert done.stdout.split("\n") == ["fd00::2 fd00::1", "fd00::2 fd00::1", ""]


def test_two_processes_do_not_share_a_port() -> None:
    """Each would get a part of the probes."""
    remote, local = listen_apart("127.0.0.1:0")
    with remote, local, pytest.raises(ListenError, match="another process listens"):
        listen_apart(f"127.0.0.1:{remote.getsockname()[1]}")
