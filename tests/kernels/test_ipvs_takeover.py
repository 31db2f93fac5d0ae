"""
From kube-proxy's ipvs mode to nfproxy and back: what connections still need stays until they end.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from support.kernel.ipvs import install, virtual_servers
from support.kernel.oldproxy import (
    CLUSTER_CIDR,
    OBJECTS,
    Left,
    cleanup,
    left_on,
)
from support.packets.sending import Probe, probe_many
from support.processes.commands import Commands, wait_until
from support.responders import Responders

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster, Host, Namespace
from nfproxy.tools.lab.attempts import socket_family

TCP, UDP = Protocol.TCP, Protocol.UDP
WEB, WEB6 = "10.96.0.10", "fd00:10:96::10"
NODE_PORT = 30080
TIMES = 3  # of each way, between two changes
LIMIT_S = 60.0
FOREIGN = "192.0.2.50:80/tcp"


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


class Load:
    """
    New connections all the time, from pod, node and outside, and one of each kept open.

    An emulated machine may stand still for seconds: late is not failed here.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.failures: list[str] = []
        self.made: Counter[int] = Counter()
        self._ways = ways_in(cluster)
        self._held = [opened(host, *where) for host, where in self._ways]
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._knock, args=(number,), daemon=True)
            for number in range(len(self._ways))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for one in self._held:
            one.close()

    def go_on(self) -> None:
        """Return when each way has been gone a few times more, and what is open has answered."""
        targets = {number: self.made[number] + TIMES for number in range(len(self._ways))}
        wait_until(
            lambda: self.failures or all(self.made[n] >= t for n, t in targets.items()), LIMIT_S
        )
        self.failures += [
            str(way) for way, one in zip(self._ways, self._held, strict=True) if ask(one) != b"?\n"
        ]

    def _knock(self, number: int) -> None:
        host, where = self._ways[number]
        while not self._stopping.is_set():
            try:
                opened(host, *where).close()
            except OSError as error:
                self.failures.append(f"{host.name} to {where}: {error}")
            self.made[number] += 1
            time.sleep(0.3)


def devices(node: Namespace) -> set[str]:
    """Return the names of all interfaces."""
    return {
        line.split(":")[1].strip()
        for line in node.run(["ip", "-o", "link"]).stdout.split("\n")
        if line
    }


@pytest.mark.timeout(235)  # the machine is emulated
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
    flow = served.pod(1, 2).namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flow.settimeout(LIMIT_S)
    flow.connect((WEB, 80))
    asked = [ask(flow)]
    with Load(served) as going:
        going.go_on()
        # The kernel may have to load a dozen modules for it.
        node.namespace.run(["nft", "-f", "-"], input=program, timeout_s=120)
        going.go_on()
        asked.append(ask(flow))  # by IPVS still, as conntrack does not translate it
        partly = cleanup(commands, "--drain", "3s")
        asked.append(ask(flow))
        in_use = node.namespace.call(virtual_servers)
        going.go_on()
        # While the addresses are local: connections from them would break with them.
        since = [opened(node, address, 80) for address in (WEB, WEB6)]
        sources = [one.getsockname()[0] for one in since]
    done = cleanup(commands, "--drain", "1m")
    alone = (node.namespace.call(virtual_servers), "kube-ipvs0" in devices(node.namespace))
    rules_left = left_on(node.namespace)
    flow.close()
    with Load(served) as back:
        install(node.namespace)
        back.go_on()
        returned = commands.run("cleanup")
        back.go_on()
    still = [ask(one) for one in since]
    for one in since:
        one.close()

    assert going.failures == back.failures == []
    assert partly[0] == 1
    assert "open connections still need virtual servers of IPVS after 3 s" in partly[2]
    assert in_use == {
        f"{WEB}:80/tcp",
        f"[{WEB6}]:80/tcp",
        f"{node.ipv4}:{NODE_PORT}/tcp",
        f"[{node.ipv6}]:{NODE_PORT}/tcp",
        FOREIGN,
    }
    assert done[0] == 0, done
    assert alone == ({FOREIGN}, False)
    assert rules_left == Left((), ())
    assert returned.code == 0
    assert all(asked)
    assert sources == [node.ipv4, node.ipv6]
    assert still == [b"?\n", b"?\n"]


def opened(host: Host, address: str, port: int) -> socket.socket:
    """Open a connection, and read who answers."""
    made = host.namespace.socket(socket_family(address), socket.SOCK_STREAM)
    made.settimeout(LIMIT_S)
    made.connect((address, port))
    made.recv(4096)
    return made


def ask(connection: socket.socket) -> bytes:
    """Send a line over an open connection, and return what comes back."""
    connection.sendall(b"?\n")
    return connection.recv(4096)
