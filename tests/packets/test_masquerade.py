"""Source NAT on request by a packet mark: for whom, with which bit, and next to others' marks."""

from collections.abc import Iterator

import msgspec
import pytest
from support.kernel import rules
from support.packets.scenes import (
    CLUSTER_CIDR,
    CONFIG,
    NO_DETECTOR,
    TARGET_PORT,
    Scene,
    Table,
    table,
    with_pods,
)
from support.packets.sending import Probe, Protocol, probe_many
from support.packets.steps import families, protocols

from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.plan.frontends import FrontendKind
from nfproxy.tools.lab import Host

detectors = pytest.mark.parametrize(
    "pods",
    [CLUSTER_CIDR, LocalPods(interface_prefix="veth"), NO_DETECTOR],
    ids=["ClusterCIDR", "InterfaceNamePrefix", "no detector"],
)
bits = pytest.mark.parametrize("bit", [14, 0, 20, 31])

FOREIGN_MARK = 0x0200
ALL_SOURCES = ("pod", "node", "outside")


@pytest.fixture
def marks(scene: Scene, family: Family) -> Iterator["Marks"]:
    """A stranger's table on node-1, for one test."""
    made = Marks(scene.node, family)
    yield made
    made.remove()


class Marks:
    """
    Another table of the node that marks packets before nfproxy and looks after it.

    It sees the first packet of each connection that nfproxy has translated.
    """

    def __init__(self, node: Host, family: Family) -> None:
        self._node = node
        self._table = f"{family.table} stranger"

    def put(self, mark: int, *masks: int) -> None:
        """Mark all packets; count how they look in postrouting, before and after source NAT."""
        counters = "\n".join(f"meta mark & {mask:#x} == {mask:#x} counter" for mask in masks)
        first = "ct state != new return\n ct status & dnat == 0 return\n"
        rules.load(
            self._node,
            f"table {self._table} {{\n"
            f"chain before-nat {{ type filter hook prerouting priority -150\n"
            f" meta mark set {mark:#x}\n }}\n"
            f"chain before-nat-output {{ type route hook output priority -150\n"
            f" meta mark set {mark:#x}\n }}\n"
            f"chain before-source-nat {{ type filter hook postrouting priority 99\n"
            f" {first} {counters}\n counter\n }}\n"
            f"chain after-source-nat {{ type filter hook postrouting priority 101\n"
            f" {first} meta mark == {mark:#x} counter\n counter\n }}\n }}\n",
        )

    def counts(self, chain: str) -> list[int]:
        """Return the packets each counter of a chain has seen; the last one saw all."""
        objects = rules.listing_json(self._node, "chain", *self._table.split(), chain)
        return [
            part["counter"]["packets"]
            for one in objects
            for part in one.get("rule", {}).get("expr", ())
            if "counter" in part
        ]

    def remove(self) -> None:
        """Remove the table."""
        rules.load(self._node, f"add table {self._table}\ndelete table {self._table}\n")


@detectors
@families
@protocols
def test_masquerade_all(scene: Scene, pods: LocalPods, family: Family, protocol: Protocol) -> None:
    """With masqueradeAll every client of a cluster IP is masqueraded, pods too."""
    config = with_pods(pods, masquerade_all=True)
    scene.program(scene.web(), *scene.slices(), config=config)

    every = ("both masqueraded", "both masqueraded")
    expected = table(pod=every, node=every, outside=every, far_pod=every)
    assert expected == scene.reached(expected, family, protocol)


@families
@protocols
def test_masquerade_all_local(scene: Scene, family: Family, protocol: Protocol) -> None:
    """
    masqueradeAll changes nothing for outside addresses, whose clients are preserved.

    A pod of another node is masqueraded there in any case: see test_far_pods.
    """
    config = with_pods(CLUSTER_CIDR, masquerade_all=True)
    web = scene.web(internal_local=True, external_local=True)
    scene.program(web, *scene.slices(), config=config)

    expected = table(
        pod=("local masqueraded", "both"),
        node=("local masqueraded", "both masqueraded"),
        outside=("local masqueraded", "local"),
        far_pod=("local masqueraded", "both masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
def test_masquerade_all_switched(scene: Scene, family: Family) -> None:
    """masqueradeAll can be switched on and off again under services that exist."""
    web, slices = scene.web(), scene.slices()
    for on in (False, True, False):
        scene.program(web, *slices, config=with_pods(CLUSTER_CIDR, masquerade_all=on))
        expected: Table = {("pod", FrontendKind.CLUSTER_IP): "both masqueraded" if on else "both"}
        assert expected == scene.reached(expected, family, Protocol.TCP)


@families
@protocols
def test_source_port_is_random(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Masqueraded connections get random source ports, others keep theirs."""
    scene.program(scene.web(), *scene.slices())
    outside = scene.probe("outside", family, protocol, FrontendKind.CLUSTER_IP)
    pod = scene.probe("pod", family, protocol, FrontendKind.CLUSTER_IP)

    outcomes = probe_many([outside] * 20)
    assert sum(one.seen_port == one.source_port for one in outcomes) < 10
    outcomes = probe_many([pod] * 20)
    assert sum(one.seen_port == one.source_port for one in outcomes) > 10


@families
@protocols
def test_only_services(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Who talks to a pod or to a host without a service is never masqueraded."""
    config = with_pods(CLUSTER_CIDR, masquerade_all=True)
    scene.program(scene.web(), *scene.slices(), config=config)
    client = scene.cluster.client

    rows = [
        (source, target)
        for source in ("pod", "node", "outside", "far pod")
        for target in (scene.local, scene.remote, client, scene.node)
    ]
    probes = [
        scene.probe_to(source, target.address(family), TARGET_PORT, protocol)
        for source, target in rows
    ]
    names = {scene.local.name: "local", scene.remote.name: "remote"}
    assert [names.get(target.name, target.name) for _, target in rows] == scene.ask(*probes)


@bits
@families
@protocols
def test_mark_bit(scene: Scene, marks: Marks, bit: int, family: Family, protocol: Protocol) -> None:
    """Whatever bit asks for source NAT, it is set on the way, gone afterwards, and works."""
    scene.program(scene.web(), *scene.slices(), config=_with_bit(bit))
    marks.put(0, 1 << bit)

    expected: Table = {
        (source, FrontendKind.NODE_PORT): "both masqueraded" for source in ALL_SOURCES
    }
    assert expected == scene.reached(expected, family, protocol)
    with_bit, seen = marks.counts("before-source-nat")
    without_mark, seen_after = marks.counts("after-source-nat")
    assert with_bit == seen > 0
    assert without_mark == seen_after > 0


@bits
@families
@protocols
def test_foreign_bits_survive(
    scene: Scene, marks: Marks, bit: int, family: Family, protocol: Protocol
) -> None:
    """A stranger's mark is there during and after, with source NAT and without."""
    scene.program(scene.web(), *scene.slices(), config=_with_bit(bit))
    marks.put(FOREIGN_MARK, FOREIGN_MARK, FOREIGN_MARK | 1 << bit)

    expected = table(
        pod=("both", "both masqueraded"),
        node=("both masqueraded", "both masqueraded"),
        outside=("both masqueraded", "both masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)
    with_mark, with_both, seen = marks.counts("before-source-nat")
    assert with_mark == seen > with_both > 0
    exactly_foreign, seen_after = marks.counts("after-source-nat")
    assert exactly_foreign == seen_after > 0


@families
@protocols
def test_foreign_bit_14(scene: Scene, marks: Marks, family: Family, protocol: Protocol) -> None:
    """With another bit configured, bit 14 means nothing, is left alone, and stays."""
    scene.program(scene.web(external_local=True), *scene.slices(), config=_with_bit(20))
    marks.put(1 << 14, 1 << 14)

    expected = table(pod=("both", "both"), outside=("both masqueraded", "local"))
    assert expected == scene.reached(expected, family, protocol)
    with_mark, seen = marks.counts("before-source-nat")
    assert with_mark == seen > 0
    exactly_foreign, seen_after = marks.counts("after-source-nat")
    assert exactly_foreign == seen_after > 0


@families
def test_mark_of_other_traffic(scene: Scene, marks: Marks, family: Family) -> None:
    """A connection past all services is not marked; a stranger's mark on it stays."""
    scene.program(scene.web(), *scene.slices())
    marks.put(FOREIGN_MARK)
    rules.load(
        scene.node,
        f"table {family.table} stranger {{ chain others {{\n"
        "type filter hook postrouting priority 102\n ct state != new return\n"
        f" meta mark == {FOREIGN_MARK:#x} counter\n counter\n }}\n }}\n",
    )

    pod = scene.sources["pod"]
    probes = [
        Probe(source, target.address(family), TARGET_PORT)
        for source, target in ((pod, scene.remote), (scene.cluster.client, scene.local))
    ]
    assert [one.masqueraded for one in probe_many(probes)] == [False, False]
    exactly_foreign, seen = marks.counts("others")
    assert exactly_foreign == seen == 2


def _with_bit(bit: int) -> NodeConfig:
    return msgspec.structs.replace(CONFIG, masquerade_mark=1 << bit)
