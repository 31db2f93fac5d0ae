"""kube-proxy's rules and nfproxy's together: either answers as it does alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kernel.oldproxy import Mode, cleanup, configuration, install
from support.packets.sending import Outcome, Probe, probe_many
from support.processes.commands import Commands

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster

TCP, UDP = Protocol.TCP, Protocol.UDP
SERVICES = {
    "web": {Family.IPV4: "10.96.0.10", Family.IPV6: "fd00:10:96::10"},
    "sticky": {Family.IPV4: "10.96.0.20", Family.IPV6: "fd00:10:96::20"},
    "empty": {Family.IPV4: "10.96.0.30", Family.IPV6: "fd00:10:96::30"},
    "load balancer": {Family.IPV4: "198.51.100.2", Family.IPV6: "2001:db8:1::2"},
}
DRAWS = 24  # one of two endpoints is missed once in eight million times

# iptables-legacy translates in the same hooks as iptables-nft.
MODES = (Mode.NFTABLES, Mode.IPTABLES_NFT)


@pytest.fixture(params=["kube-proxy first", "nfproxy first"])
def both(
    request: pytest.FixtureRequest,
    mode: Mode,
    served: Cluster,
    commands: Commands,
    manifests: Path,
    tmp_path: Path,
) -> Iterator[Cluster]:
    """Both proxies' rules on node-1; the rules that were made last see packets first."""
    node = served.nodes[0].namespace
    install_first = request.param == "nfproxy first"
    if install_first:
        install(node, mode)
    with commands.daemon(manifests, "--config", configuration(tmp_path)):
        if not install_first:
            install(node, mode)
        yield served


def said(outcomes: list[Outcome]) -> set[tuple[str, bool]]:
    """Return the answering pod, or the verdict, and whether the pod saw the node as its client."""
    return {
        (o.by if o.answered else o.verdict.value, o.answered and o.masqueraded) for o in outcomes
    }


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_new_connections_are_answered_as_by_one_proxy(
    mode: Mode, both: Cluster, commands: Commands
) -> None:
    """
    Connections are balanced, masqueraded, rejected and dropped as by one proxy.

    With session affinity, a client that came while both were there keeps its endpoint when
    kube-proxy goes, whichever of the two chose it.
    """
    node, pod, client = both.nodes[0], both.pod(1, 2), both.client
    endpoints = ("pod-1-1", "pod-2-1")
    plain = {(name, False) for name in endpoints}
    masqueraded = {(name, True) for name in endpoints}
    asked: dict[tuple[str, Family], tuple[Probe, set[tuple[str, bool]]]] = {}
    for family in FAMILIES:
        address = {name: pair[family] for name, pair in SERVICES.items()}
        outside = node.address(family)
        rows = {
            "pod": (Probe(pod, address["web"], 80, TCP), plain),
            "pod, UDP": (Probe(pod, address["web"], 80, UDP), plain),
            "client": (Probe(client, address["web"], 80, TCP), masqueraded),
            "node port": (Probe(client, outside, 30080, TCP), masqueraded),
            "node port, UDP": (Probe(client, outside, 30080, UDP), masqueraded),
            "local": (Probe(client, address["load balancer"], 80, TCP), {("pod-1-1", False)}),
            "empty": (Probe(pod, address["empty"], 80, TCP), {("refused", False)}),
            "empty, node port": (Probe(client, outside, 30081, TCP), {("refused", False)}),
        }
        asked |= {(name, family): row for name, row in rows.items()}

    outcomes = probe_many(probe for probe, _ in asked.values() for _ in range(DRAWS))
    seen = {key: said(outcomes[at * DRAWS : (at + 1) * DRAWS]) for at, key in enumerate(asked)}

    assert seen == {key: expected for key, (_, expected) in asked.items()}

    sticky = [Probe(pod, SERVICES["sticky"][family], 80, TCP) for family in FAMILIES]
    before = [outcome.by for outcome in probe_many(sticky)]
    assert cleanup(commands)[0] == 0
    assert [outcome.by for outcome in probe_many(sticky * DRAWS)] == before * DRAWS
