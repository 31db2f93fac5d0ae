"""Other service proxies, judged by what they leave on a node."""

from pathlib import Path

import pytest

from nfproxy.host.paths import HostRoot
from nfproxy.tools.preflight import proxies
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.network import Link
from nfproxy.tools.preflight.nft import TableListing
from nfproxy.tools.preflight.ports import Port
from nfproxy.tools.preflight.proxies import Traces, read_pins
from nfproxy.tools.preflight.ruleset import Ruleset

CACHE = Link("nodelocaldns", "dummy", ("169.254.20.10", "10.96.0.10"))


LEFT = Traces((("iptables-nft nat", "7 chains"), ("iptables-nft nat", "3 rules"), ("x", "1 y")))


ANSWERS = Port("health", "0.0.0.0:10256", "in use", "kube-proxy (mode ipvs)")


def test_no_kube_proxy() -> None:
    """Nothing is left and none runs; another program at a port is not kube-proxy."""
    (finding,) = proxies.judge_kube_proxy("", Traces(), [ANSWERS._replace(holder="nfproxy")])

    assert finding.level is Level.OK


def test_what_it_has_left() -> None:
    """The finding sums it up by place; the remedy is the command that removes it."""
    (finding,) = proxies.judge_kube_proxy("", LEFT, [])

    assert finding.level is Level.WARN
    assert "has been here: iptables-nft nat: 7 chains, 3 rules; x: 1 y" in finding.found
    assert "cleanup --kube-proxy" in finding.remedy


@pytest.mark.parametrize(
    ("running", "ports", "where"),
    [("process 7", [ANSWERS], "(process 7)"), ("", [ANSWERS], "(it answers at 0.0.0.0:10256)")],
)
def test_a_kube_proxy_that_runs(running: str, ports: list[Port], where: str) -> None:
    """Its process shows it or, from a container, its pages."""
    (finding,) = proxies.judge_kube_proxy(running, LEFT, ports)

    assert finding.level is Level.WARN
    assert finding.found.startswith(f"kube-proxy runs here {where}; iptables-nft nat")
    assert "keep kube-proxy off this node" in finding.remedy


def test_what_cannot_be_looked_at_is_said() -> None:
    """That may be a part of it, or all."""
    (part,) = proxies.judge_kube_proxy("", Traces(unknown=("IPVS: not permitted",)), [])
    (everything,) = proxies.judge_kube_proxy("", None, [])

    assert (part.level, part.found) == (Level.WARN, "IPVS: not permitted")
    assert (everything.level, "NET_ADMIN" in everything.remedy) == (Level.WARN, True)


@pytest.mark.parametrize(
    ("links", "pins", "level", "words"),
    [
        ((), (), Level.OK, "no other service proxy"),
        (("eth0", "cni0"), (), Level.OK, "no other service proxy"),
        (("cilium_host",), (), Level.WARN, "does not show whether"),
        (("cilium_host",), ("cilium_lb4_services_v2",), Level.WARN, "does not show whether"),
        (("cilium_host",), ("cilium/socketlb",), Level.FAIL, "Cilium replaces kube-proxy"),
        (("cilium_host",), ("cilium_lb4_reverse_sk",), Level.FAIL, "Cilium replaces kube-proxy"),
        (("bpfin.cali",), (), Level.FAIL, "Calico's eBPF"),
        (("cali12345",), (), Level.OK, "no other service proxy"),
        (("kube-dummy-if",), (), Level.FAIL, "kube-router"),
        (("kube-bridge",), (), Level.OK, "no other service proxy"),
        (("ovn-k8s-mp0",), (), Level.FAIL, "OVN-Kubernetes"),
        (("antrea-gw0",), (), Level.WARN, "Antrea"),
    ],
)
def test_others(links: tuple[str, ...], pins: tuple[str, ...], level: Level, words: str) -> None:
    """A proxy that certainly works is a failure; one that may work is worth a look."""
    (finding,) = proxies.judge_others([Link(name) for name in links], pins)

    assert level is finding.level
    assert words in finding.found


def test_what_network_plugins_have_pinned(root: Path) -> None:
    """A container sees them, too: /sys is the same there."""
    (root / "sys/fs/bpf/cilium/socketlb").mkdir(parents=True)
    (root / "sys/fs/bpf/tc/globals/cilium_lb4_reverse_sk").mkdir(parents=True)
    (root / "sys/fs/bpf/tc/globals/mine").mkdir()
    assert read_pins(HostRoot(root)) == ("cilium/socketlb", "cilium_lb4_reverse_sk")


@pytest.mark.parametrize(
    ("links", "lines", "level"),
    [
        ((), (), Level.OK),
        ((CACHE,), ("ip daddr 10.96.0.10 udp dport 53 counter notrack",), Level.OK),
        ((CACHE,), ('ip daddr 10.96.0.10 counter xt target "CT"',), Level.OK),
        ((CACHE,), ("ip daddr 10.96.0.11 notrack",), Level.WARN),
        ((CACHE,), (), Level.WARN),
        ((Link("nodelocaldns", "dummy", ("169.254.20.10",)),), (), Level.OK),
    ],
)
def test_node_local_dns(links: tuple[Link, ...], lines: tuple[str, ...], level: Level) -> None:
    """The cache loses packets only at a Service's address, and only where they are tracked."""
    assert level is proxies.judge_node_local_dns(links, TableListing(untracked=lines)).level


def test_own_tables_are_taken_over() -> None:
    """An upgrade finds them and takes them over."""
    ruleset = Ruleset(("ip nfproxy", "ip6 nfproxy", "inet nfproxy"))
    found = proxies.judge_own_tables(ruleset, "")

    assert found.level is Level.OK
    assert "ip nfproxy, ip6 nfproxy are here" in found.found

    found = proxies.judge_own_tables(Ruleset(("ip nfproxy-next",)), "")
    assert "ip nfproxy-next are here" in found.found

    found = proxies.judge_own_tables(ruleset, "pid 7, node n")
    assert found.level is Level.OK
    assert found.found.startswith("nfproxy runs here already (pid 7, node n)")
    assert "taken over" not in found.found
