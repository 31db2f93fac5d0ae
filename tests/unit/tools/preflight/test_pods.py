"""The way to pods: hairpin mode of bridge ports, and the size of packets."""

import pytest

from nfproxy.host.routes import read_links
from nfproxy.insight.nodefacts import NodeLink
from nfproxy.tools.lab import Lab
from nfproxy.tools.preflight.findings import Level, worst
from nfproxy.tools.preflight.pods import judge_hairpin, judge_packet_size

CNI = NodeLink(2, "cni0", 1500, "bridge")
ON = NodeLink(3, "veth1", 1500, "veth", 2, hairpin=True)
OFF = NodeLink(4, "veth2", 1500, "veth", 2, hairpin=False)
UPLINK = NodeLink(1, "eth0", 1500)


@pytest.mark.parametrize(
    ("links", "level"),
    [
        ((UPLINK,), Level.OK),
        ((CNI, ON), Level.OK),
        ((CNI, ON, OFF), Level.WARN),
        ((NodeLink(2, "cni0", 1500, "bridge", is_promiscuous=True), OFF), Level.OK),
        ((NodeLink(2, "docker0", 1500, "bridge"), OFF), Level.OK),
    ],
    ids=["no bridge", "on", "off", "promiscuous", "Docker's own"],
)
def test_hairpin_mode_of_ports_of_pods(links: tuple[NodeLink, ...], level: Level) -> None:
    """A port without it, and a bridge that does not make up for it."""
    (found,) = judge_hairpin(links)
    assert found.level is level
    assert ("1 of 2 ports" in found.found) is (len(links) == 3)


@pytest.mark.parametrize(
    ("others", "level"),
    [
        ((UPLINK,), Level.OK),
        ((NodeLink(1, "eth0", 1400),), Level.WARN),
        ((NodeLink(1, "eth1", 1400),), Level.OK),
        ((UPLINK, NodeLink(9, "flannel.1", 1450, "vxlan")), Level.WARN),
        ((NodeLink(1, "eth0", 9000), NodeLink(9, "flannel.1", 1500, "vxlan")), Level.OK),
    ],
    ids=["equal", "smaller uplink", "no uplink", "tunnel", "large uplink"],
)
def test_the_size_of_packets(others: tuple[NodeLink, ...], level: Level) -> None:
    """Pods' packets of 1500 bytes have to fit the tunnel, or else the default route."""
    (found,) = judge_packet_size((CNI, ON, *others), {"eth0"})
    assert found.level is level


def test_without_pods_nothing_is_too_large() -> None:
    """A new node has none yet."""
    (found,) = judge_packet_size((NodeLink(9, "wg0", 1420, "wireguard"),), {"eth0"})
    assert found.level is Level.OK


def test_skip_and_note_make_no_node_less_fit() -> None:
    """They have a level of their own, so that a warning is worth reading."""
    assert worst((Level.OK, Level.SKIP, Level.NOTE)) is Level.OK
    assert worst((Level.NOTE, Level.WARN)) is Level.WARN


def test_ports_are_read_from_the_kernel(namespaces_allowed: None) -> None:
    """Of a bridge with two ports, one in hairpin mode."""
    with Lab() as lab:
        node = lab.namespace("node")
        for words in (
            "link add cni0 type bridge",
            "link add veth1 mtu 1400 type veth peer name pod1",
            "link add veth2 mtu 1400 type veth peer name pod2",
            "link set veth1 master cni0",
            "link set veth2 master cni0",
            "link set dev veth2 type bridge_slave hairpin on",
        ):
            node.run(["ip", *words.split()])
        (found,) = judge_hairpin(node.call(read_links))
    assert (found.level, "1 of 2 ports" in found.found) == (Level.WARN, True)
    assert "veth1" in found.remedy
