"""
New TCP connections through nfproxy's table, through the baseline's, and through none.

Each variant has a line of its own, in namespaces::

    client ── node ── server

The client is a pod of the node (nothing is masqueraded) and connects to Services chosen at random
(without a table: to endpoints), then resets. Rounds of the variants alternate, so that
whatever else the machine does meets all of them. Without a table there is no connection
tracking either.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from support.kernel.nodeproxy import NodeProxy

from bench import BenchError, baseline, objects
from bench.measure import CONFIG, value_of
from bench.objects import ENDPOINT_PORT, POD_CIDR, PORT, Size
from bench.results import Connections, Spread
from nfproxy.kube.identity import Kind
from nfproxy.tools.lab import Host, Lab

NFPROXY, BASELINE, NONE = "nfproxy", "baseline", "none"
VARIANTS = (NFPROXY, BASELINE, NONE)
_TARGETS = 5000


class Line:
    """A client, a node and a server in a row; use within a Lab."""

    def __init__(self, lab: Lab, name: str) -> None:
        """Lay the cables."""
        self.client = Host(lab.namespace(f"client-{name}"))
        self.node = Host(lab.namespace(f"node-{name}"), forwarding=True)
        self.server = Host(lab.namespace(f"server-{name}"))
        self.node.connect("client", self.client, "eth0")
        self.node.connect("server", self.server, "eth0")
        self.client.add_address("10.64.1.10/24")
        self.node.add_address("10.64.1.1/24", "client")
        self.node.add_address("192.168.78.1/24", "server")
        self.server.add_address("192.168.78.2/24")
        self.client.add_route("default", via="10.64.1.1")
        self.server.add_route("default", via="192.168.78.1")
        self.node.add_route(POD_CIDR, via="192.168.78.2", interface="server")
        # The server is every endpoint.
        self.server.netlink(_own_all_endpoints)

    def start(self, targets: Path) -> subprocess.Popen[Any]:
        """Start both ends; return the client's."""
        command = [sys.executable, "-m", "bench.connect"]
        serving = self.server.namespace.start(
            [*command, "serve", str(ENDPOINT_PORT)], stdout=subprocess.PIPE
        )
        assert serving.stdout is not None
        if serving.stdout.readline() != b"ready\n":
            raise BenchError("the benchmark's server did not start")
        return self.client.namespace.start(
            [*command, "measure", str(targets)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )


def _own_all_endpoints(ip: IPRoute) -> None:
    ip.route("add", dst=POD_CIDR, type="local", scope=254, oif=1)


def measure(size: Size, directory: Path, rounds: int, per_round: int) -> dict[str, Connections]:
    """Return the connections through each variant, with tables of a size."""
    with Lab() as lab:
        lines = {name: Line(lab, name) for name in VARIANTS}
        NodeProxy(lines[NFPROXY].node, CONFIG, objects_of(size))
        baseline.load(lines[BASELINE].node.namespace, baseline.write_ruleset(size, directory))
        clients = {
            name: line.start(_write_targets(size, directory, name)) for name, line in lines.items()
        }
        taken: dict[str, list[int]] = {name: [] for name in VARIANTS}
        elapsed = dict.fromkeys(VARIANTS, 0)
        for number in range(rounds + 1):
            for name in _rotated(VARIANTS, number):
                nanoseconds, total = _round(clients[name], per_round)
                if number:  # the first one warms up
                    taken[name] += nanoseconds
                    elapsed[name] += total
    return {
        name: Connections(
            Spread.of([ns / 1e9 for ns in taken[name]]), len(taken[name]) / elapsed[name] * 1e9
        )
        for name in VARIANTS
    }


def objects_of(size: Size) -> list[Any]:
    services = (objects.service_json(n) for n in range(size.services))
    slices = (
        objects.slice_json(n, objects.endpoints_of(n, size.endpoints)) for n in range(size.services)
    )
    return [
        *(value_of(Kind.SERVICE, data) for data in services),
        *(value_of(Kind.ENDPOINT_SLICE, data) for data in slices),
    ]


def _write_targets(size: Size, directory: Path, name: str) -> Path:
    chosen = random.Random(1).choices(range(size.services), k=_TARGETS)
    if name == NONE:
        rows = [f"{objects.endpoints_of(n, size.endpoints)[0]} {ENDPOINT_PORT}" for n in chosen]
    else:
        rows = [f"{objects.cluster_ip(n)} {PORT}" for n in chosen]
    path = directory / f"targets-{name}"
    path.write_text("\n".join(rows), "ascii")
    return path


def _rotated(names: Sequence[str], by: int) -> Iterable[str]:
    by %= len(names)
    return (*names[by:], *names[:by])


def _round(client: subprocess.Popen[Any], count: int) -> tuple[list[int], int]:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(f"{count}\n".encode())
    client.stdin.flush()
    nanoseconds, total = json.loads(client.stdout.readline() or "[[], 0]")
    if len(nanoseconds) != count:
        raise BenchError("the benchmark's client could not connect")
    return nanoseconds, total
