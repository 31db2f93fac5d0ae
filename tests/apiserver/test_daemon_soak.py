"""``nfproxy run`` in a cluster that never rests, with a bad network."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.apiserver.churn import Churn, at_rate
from support.processes.apidaemon import Site, site_in
from support.processes.commands import (
    Daemon,
    endpoint_slice,
    errors_in,
    node_object,
    service,
    wait_until,
)
from support.responders import Responders
from support.traffic import Traffic

from nfproxy.tools.lab import Cluster

RATE = 100.0  # changes a second: 6000 a minute
FAULT_EVERY_S = 8.0  # so long that a watch counts as working again before the next one
CONNECTIONS = 12_000  # of each stream; source ports are not used twice
GROWTH = 8 << 20  # bytes that memory may vary by
SETTLE_S = 60.0  # back-off after faults in a row goes up to half a minute


@pytest.fixture(scope="module")
def site(
    cluster: Cluster, responders: Responders, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Node-1 of a cluster whose pods answer, with an API server on it."""
    for pod in cluster.pods:
        responders.listen(pod, 8080)
    with site_in(cluster.nodes[0].namespace, tmp_path_factory.mktemp("site")) as made:
        made.api.apply(
            node_object(),
            service("steady", "10.96.0.1"),
            endpoint_slice("steady", cluster.pods[0].ipv4, cluster.pods[3].ipv4),
            service("moving", "10.96.0.2"),
            endpoint_slice("moving", cluster.pods[1].ipv4),
        )
        yield made


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_cluster_that_never_rests(site: Site, cluster: Cluster, soak_s: float) -> None:
    """
    There are thousands of changes a minute, watches break, both sides restart. In the end the
    kernel matches the API server, no connection has failed, and memory has not grown.
    """
    churn = Churn(site, [pod.ipv4 for pod in cluster.pods], seed=int(soak_s))
    rate = max(1, min(50, int(CONNECTIONS / soak_s)))
    streams = [
        Traffic(cluster.client, "10.96.0.1", 80, rate=rate, held=8),
        Traffic(cluster.client, "10.96.0.2", 80, rate=rate),
    ]
    fault_every_s = min(FAULT_EVERY_S, soak_s / 3)
    with contextlib.ExitStack() as stack:
        with site.daemon() as first:
            for stream in streams:
                stack.enter_context(stream)
            go_on(churn, soak_s / 4, fault_every_s)
            first.end(signal.SIGKILL)
            go_on(churn, soak_s / 16, fault_every_s)
        with site.daemon() as second:
            go_on(churn, soak_s / 4, fault_every_s)
            before = memory(second)
            go_on(churn, soak_s / 2, fault_every_s)
            assert settled(site) == "equal: the kernel holds what it should\n"
            after = memory(second)
            for stream in streams:
                stream.wait_for(20)
            assert errors_in(second.log) == []
            assert site.metric("nfproxy_transaction_operations_count") > soak_s
    assert [stream.failures for stream in streams] == [[], []]
    assert after - before < GROWTH
    assert churn.changes > soak_s * RATE / 4  # a slow machine makes fewer
    assert churn.faults >= 4  # each part begins with one


def go_on(churn: Churn, seconds: float, fault_every_s: float) -> None:
    """Make changes and faults for that time."""
    until = time.monotonic() + seconds
    change, fault = at_rate(RATE, time.monotonic), at_rate(1 / fault_every_s, time.monotonic)
    while time.monotonic() < until:
        if change():
            churn.change()
        else:
            time.sleep(0.2 / RATE)
        if fault():
            churn.fault()


def settled(site: Site) -> str:
    """Wait until kernel and API server match; return what still differs."""
    said: list[str] = []

    def equal() -> bool:
        done = site.diff()
        said.append(done.out)
        return done.code == 0

    wait_until(equal, SETTLE_S)
    return said[-1]


def memory(daemon: Daemon) -> int:
    """Return the memory of the daemon, in bytes."""
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(value) * 1024
