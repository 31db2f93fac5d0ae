"""Forwarding, reverse paths and bridges: read and judged."""

from pathlib import Path

import pytest
from support.preflight import levels, put

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.tools.preflight import network
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.network import Link, read_default_routes, read_sysctls

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101A8C0	0003	0	0	0	00000000	0	0	0
eth1	00000000	0101A8C0	0003	0	0	10	00000000	0	0	0
tun0	00000000	00000000	0003	0	0	0	00000080	0	0	0
eth0	0001A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
rubbish
"""


BOTH = (Family.IPV4, Family.IPV6)


FORWARDS = {"ipv4.ip_forward": "1", "ipv6.conf.all.forwarding": "1"}


def test_sysctls(tmp_path: Path) -> None:
    """An interface's name may have dots; a missing sysctl is left out."""
    proc = put(
        tmp_path,
        {
            "sys/net/ipv4/ip_forward": "1\n",
            "sys/net/ipv4/conf/all/rp_filter": "2\n",
            "sys/net/ipv4/conf/eth0.100/rp_filter": "1\n",
            "sys/net/bridge/bridge-nf-call-iptables": "0\n",
        },
    )
    assert read_sysctls(proc) == {
        "ipv4.ip_forward": "1",
        "ipv4.conf.all.rp_filter": "2",
        "ipv4.conf.eth0.100.rp_filter": "1",
        "bridge.bridge-nf-call-iptables": "0",
    }


def test_default_routes(tmp_path: Path) -> None:
    """Two halves of the address space, as VPNs route them, do not count."""
    assert {"eth0", "eth1"} == read_default_routes(put(tmp_path, {"net/route": ROUTES}))
    assert frozenset() == read_default_routes(tmp_path / "none")


@pytest.mark.parametrize(
    ("found", "enabled", "node", "expected"),
    [
        (FORWARDS, BOTH, (), [Level.OK, Level.OK]),
        ({}, BOTH, (), [Level.FAIL, Level.WARN]),
        ({}, BOTH, BOTH, [Level.FAIL, Level.FAIL]),
        ({}, BOTH, (Family.IPV6,), [Level.OK, Level.FAIL]),
        ({"ipv4.ip_forward": "1"}, BOTH, (Family.IPV4,), [Level.OK, Level.OK]),
        ({"ipv4.ip_forward": "0"}, (Family.IPV4,), (), [Level.FAIL]),
        ({"ipv4.ip_forward": "nonsense" * 50}, (Family.IPV4,), (), [Level.FAIL]),
    ],
)
def test_forwarding(
    found: dict[str, str],
    enabled: tuple[Family, ...],
    node: tuple[Family, ...],
    expected: list[Level],
) -> None:
    """The families of the Node need it; IPv4 does where the Node is unknown."""
    assert expected == levels(network.judge_forwarding(found, enabled, node))


@pytest.mark.parametrize(
    ("found", "routes", "level"),
    [
        ({"ipv4.conf.all.rp_filter": "1"}, {"eth0"}, Level.OK),
        ({"ipv4.conf.all.rp_filter": "1"}, {"eth0", "eth1"}, Level.WARN),
        ({"ipv4.conf.eth1.rp_filter": "1"}, {"eth0", "eth1"}, Level.WARN),
        (
            {"ipv4.conf.all.rp_filter": "2", "ipv4.conf.eth1.rp_filter": "1"},
            {"eth0", "eth1"},
            Level.OK,
        ),
        ({}, {"eth0", "eth1"}, Level.OK),
    ],
)
def test_reverse_paths(found: dict[str, str], routes: set[str], level: Level) -> None:
    """The greater of the two values counts, and only with several uplinks."""
    assert level is network.judge_reverse_path(found, routes).level


def test_pods_on_a_bridge() -> None:
    """Bridged packets have to pass through netfilter; a bridge without ports carries no packets."""
    bridge = Link("cni0", "bridge", port_count=3)
    on = {"bridge.bridge-nf-call-iptables": "1", "bridge.bridge-nf-call-ip6tables": "1"}

    assert levels(network.judge_bridges([Link("docker0", "bridge")], {}, BOTH)) == [Level.OK]
    assert levels(network.judge_bridges([Link("eth0", port_count=3)], {}, BOTH)) == [Level.OK]
    assert levels(network.judge_bridges([bridge], on, BOTH)) == [Level.OK]
    (off,) = network.judge_bridges([bridge], {**on, "bridge.bridge-nf-call-ip6tables": "0"}, BOTH)
    assert (off.level, "modprobe" in off.remedy) == (Level.WARN, False)
    absent = network.judge_bridges([bridge], {}, BOTH)
    assert levels(absent) == [Level.WARN, Level.WARN]
    assert absent[0].remedy.startswith("modprobe br_netfilter")


def test_all_families_have_a_sysctl_for_forwarding() -> None:
    """Each family has a name of its own."""
    found = network.judge_forwarding({}, FAMILIES, FAMILIES)

    assert len({finding.remedy for finding in found}) == len(FAMILIES)
