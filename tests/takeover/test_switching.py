"""From kube-proxy to nfproxy and back, under load: no connection fails or breaks."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.kernel.oldproxy import (
    KUBELETS,
    Left,
    Mode,
    cleanup,
    configuration,
    install,
    left_on,
)
from support.packets.sending import Probe
from support.packets.steps import Streams
from support.packets.udpflows import UdpFlows
from support.processes.commands import Commands, wait_until
from support.traffic import Traffic

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster

TCP, UDP = Protocol.TCP, Protocol.UDP
WEB, WEB6 = "10.96.0.10", "fd00:10:96::10"
NODE_PORT = 30080
RATE = 50  # new connections a second, of each of the streams
STEP = 35  # of each stream, between two changes


@contextmanager
def load(cluster: Cluster) -> Iterator[tuple[Streams, UdpFlows]]:
    """Send new connections and keep others open, from pod, node and outside, in all ways."""
    node, pod, client = cluster.nodes[0], cluster.pod(1, 2), cluster.client
    outside, outside6 = (node.ipv4, NODE_PORT), (node.ipv6, NODE_PORT)
    streams = Streams(
        Traffic(pod, WEB, 80, TCP, rate=RATE, held=4),
        Traffic(pod, WEB6, 80, UDP, rate=RATE),
        Traffic(node, WEB, 80, TCP, rate=RATE, held=4),
        Traffic(node, WEB6, 80, TCP, rate=RATE, held=2),
        Traffic(client, *outside, TCP, rate=RATE, held=4),
        Traffic(client, *outside, UDP, rate=RATE),
        Traffic(client, *outside6, TCP, rate=RATE, held=4),
        Traffic(client, WEB, 80, TCP, rate=RATE, held=2),
    )
    flows = UdpFlows(
        Probe(source, *where, UDP)
        for source, where in (
            (pod, (WEB, 80)),
            (node, (WEB, 80)),
            (client, outside),
            (client, outside6),
        )
        for _ in range(2)
    )
    with ExitStack() as stack:
        stack.enter_context(flows)
        stack.enter_context(streams)
        yield streams, flows


def go_on(streams: Streams) -> None:
    """Return when each stream has opened STEP more connections and seen their end."""
    targets = {stream: stream.sent + STEP for stream in streams.streams}
    wait_until(lambda: all(s.answered + len(s.failures) >= n for s, n in targets.items()))


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_nothing_is_lost_on_the_way_to_nfproxy_and_back(
    mode: Mode, served: Cluster, commands: Commands, manifests: Path, tmp_path: Path
) -> None:
    """kube-proxy alone, both, nfproxy alone, both, kube-proxy alone: every connection is served."""
    node, config = served.nodes[0].namespace, configuration(tmp_path)
    install(node, mode)
    with load(served) as (streams, flows):
        go_on(streams)
        # What was made last answers first: nfproxy here, kube-proxy below.
        with commands.daemon(manifests, "--config", config) as daemon:
            go_on(streams)
            warned = daemon.log
            assert daemon.end(signal.SIGTERM) == 0
        assert commands.run("cleanup").code == 0
        go_on(streams)
        with commands.daemon(manifests, "--config", config) as daemon:
            assert cleanup(commands)[0] == 0
            alone = left_on(node)
            go_on(streams)
            install(node, mode)
            go_on(streams)
            assert cleanup(commands)[0] == 0
            go_on(streams)
            install(node, mode)
            assert daemon.end(signal.SIGTERM) == 0
        assert commands.run("cleanup").code == 0
        go_on(streams)

    assert streams.lost == []
    assert flows.failures == []
    assert flows.sent > 0
    assert "remove them with `nfproxy cleanup --kube-proxy`" in warned
    assert alone == (Left((), ()) if mode is Mode.NFTABLES else KUBELETS)
    assert not [table for table in commands.tables() if table.endswith(" nfproxy")]
