"""
From kube-proxy's ipvs mode to nfproxy and back: what connections still need stays until they end.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.commands import Commands, wait_until
from support.ipvs import install, virtual_servers
from support.oldproxy import (
    CLUSTER_CIDR,
    OBJECTS,
    Left,
    cleanup,
    left_on,
)
from support.packets import Probe, probe_many
from support.responders import Responders
from support.sctp import socket_family
from support.steps import Streams
from support.traffic import Traffic

from nfproxy.lab import Cluster, Host, Namespace
from nfproxy.model.service import Protocol

TCP, UDP = Protocol.TCP, Protocol.UDP
WEB, WEB6 = "10.96.0.10", "fd00:10:96::10"
NODE_PORT = 30080
RATE, STEP = 4, 4  # of each stream: a second, and between two changes; the machine is emulated
SOMEBODY_ELSES = "192.0.2.50:80/tcp"


@pytest.fixture
def served(namespaces_allowed: None) -> Iterator[Cluster]:
    """Two nodes with two pods each that answer, and a client."""
    with Cluster() as cluster, Responders() as responders:
        for pod in cluster.pods:
            for protocol in (TCP, UDP):
                responders.listen(pod, 8080, protocol)
        yield cluster


@pytest.fixture
def commands(served: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """nfproxy's commands on node-1, in ipvs mode of kube-proxy's."""
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    node = served.nodes[0]
    install(node.namespace)
    ways = [Probe(source, *where, TCP) for source, where in ways_in(served)]
    # The first of each kind may have to wait for the kernel to load something.
    assert {outcome.by for outcome in probe_many(ways * 4, timeout_s=20)} == {"pod-1-1", "pod-2-1"}
    return Commands(node.namespace, tmp_path)


def ways_in(cluster: Cluster) -> list[tuple[Host, tuple[str, int]]]:
    """Return who asks where: pod, node and outside."""
    node, pod, client = cluster.nodes[0], cluster.pod(1, 2), cluster.client
    return [
        (pod, (WEB, 80)),
        (node, (WEB, 80)),
        (node, (WEB6, 80)),
        (client, (node.ipv4, NODE_PORT)),
        (client, (node.ipv6, NODE_PORT)),
    ]


@contextmanager
def load(cluster: Cluster) -> Iterator[Streams]:
    """Send new connections from pod, node and outside, with one of each held open, and UDP."""
    streams = [Traffic(s, *where, TCP, rate=RATE, held=1) for s, where in ways_in(cluster)]
    streams += [Traffic(s, *where, UDP, rate=RATE) for s, where in ways_in(cluster)[:1]]
    with Streams(*streams) as entered:
        yield entered


def go_on(streams: Streams) -> None:
    """Return when each stream has opened so many more connections and seen their end."""
    targets = {stream: stream.sent + STEP for stream in streams.streams}
    wait_until(lambda: all(s.answered + len(s.failures) >= n for s, n in targets.items()), 60)


def devices(node: Namespace) -> set[str]:
    """Return the names of all interfaces."""
    return {
        line.split(":")[1].strip()
        for line in node.run(["ip", "-o", "link"]).stdout.split("\n")
        if line
    }


@pytest.mark.timeout(220)  # the machine is emulated
def test_what_is_in_use_stays_until_it_is_not_and_no_connection_is_lost(
    served: Cluster, commands: Commands
) -> None:
    """
    Virtual servers with open connections are named and stay, with the addresses they need.

    Every new connection is served on the way to nfproxy and back, none that is open breaks, and
    virtual servers of other software are not touched at all.
    """
    node = served.nodes[0]
    flags = ("-f", OBJECTS, "--cluster-cidr", CLUSTER_CIDR)
    program = commands.run("render", *flags).out
    with load(served) as streams:
        go_on(streams)
        # The kernel may have to load a dozen modules for it.
        node.namespace.run(["nft", "-f", "-"], input=program, timeout_s=120)
        go_on(streams)
        partly = cleanup(commands, "--drain", "3s")
        in_use = node.namespace.call(virtual_servers)
        go_on(streams)
        since = opened(node, WEB, 80)  # while its address is local
        source = since.getsockname()[0]
    done = cleanup(commands, "--drain", "1m")
    alone = (node.namespace.call(virtual_servers), "kube-ipvs0" in devices(node.namespace))
    rules_left = left_on(node.namespace)
    with load(served) as back:
        install(node.namespace)
        go_on(back)
        returned = commands.run("cleanup")
        go_on(back)
    still = ask(since)
    since.close()

    assert streams.lost == back.lost == []
    assert partly[0] == 1
    assert "open connections still need virtual servers of IPVS after 3 s" in partly[2]
    assert in_use == {
        f"{WEB}:80/tcp",
        f"[{WEB6}]:80/tcp",
        f"{node.ipv4}:{NODE_PORT}/tcp",
        f"[{node.ipv6}]:{NODE_PORT}/tcp",
        SOMEBODY_ELSES,
    }
    assert done[0] == 0, done
    assert alone == ({SOMEBODY_ELSES}, False)
    assert rules_left == Left((), ())
    assert returned.code == 0
    assert (source, still) == (node.ipv4, b"?\n")


def opened(host: Host, address: str, port: int) -> socket.socket:
    """Open a connection, and read who answers."""
    made = host.namespace.socket(socket_family(address), socket.SOCK_STREAM)
    made.settimeout(20)
    made.connect((address, port))
    made.recv(4096)
    return made


def ask(connection: socket.socket) -> bytes:
    """Send a line over an open connection, and return what comes back."""
    connection.sendall(b"?\n")
    return connection.recv(4096)
