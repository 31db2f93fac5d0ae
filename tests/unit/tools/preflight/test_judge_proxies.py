"""
Other service proxies, judged by what they leave on a node.
"""

import pytest

from nfproxy.tools.preflight.facts import HostFiles, Leftovers, Link, Listing, Port, Ruleset
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.judge import proxies

CACHE = Link("nodelocaldns", "dummy", ("169.254.20.10", "10.96.0.10"))
LEFT = Leftovers((("iptables-nft nat", "7 chains"), ("iptables-nft nat", "3 rules"), ("x", "1 y")))
ANSWERS = Port("health", "0.0.0.0:10256", "in use", "kube-proxy (mode ipvs)")


def test_no_kube_proxy() -> None:
    """
    Nothing left, nobody there: a stranger at a port is none.
    """
    (verdict,) = proxies.kube_proxy("", Leftovers(), [ANSWERS._replace(holder="nfproxy")])

    assert verdict.level is Level.OK


def test_what_it_has_left() -> None:
    """
    Is summed up by place; the remedy is the command that removes it.
    """
    (verdict,) = proxies.kube_proxy("", LEFT, [])

    assert verdict.level is Level.WARN
    assert "has been here: iptables-nft nat: 7 chains, 3 rules; x: 1 y" in verdict.found
    assert "cleanup --kube-proxy" in verdict.remedy


@pytest.mark.parametrize(
    ("running", "ports", "where"),
    [("process 7", [ANSWERS], "(process 7)"), ("", [ANSWERS], "(it answers at 0.0.0.0:10256)")],
)
def test_a_kube_proxy_that_runs(running: str, ports: list[Port], where: str) -> None:
    """
    It is told by its process or, out of a container, by its pages.
    """
    (verdict,) = proxies.kube_proxy(running, LEFT, ports)

    assert verdict.level is Level.WARN
    assert verdict.found.startswith(f"kube-proxy runs here {where}; iptables-nft nat")
    assert "keep kube-proxy off this node" in verdict.remedy


def test_what_cannot_be_looked_at_is_said() -> None:
    """
    A part of it, or all.
    """
    (part,) = proxies.kube_proxy("", Leftovers(unknown=("IPVS: not permitted",)), [])
    (everything,) = proxies.kube_proxy("", None, [])

    assert (part.level, part.found) == (Level.WARN, "IPVS: not permitted")
    assert (everything.level, "NET_ADMIN" in everything.remedy) == (Level.WARN, True)


@pytest.mark.parametrize(
    ("links", "pins", "level", "words"),
    [
        ((), (), Level.OK, "no other service proxy"),
        (("eth0", "cni0"), (), Level.OK, "no other service proxy"),
        (("cilium_host",), (), Level.WARN, "cannot be told"),
        (("cilium_host",), ("cilium_lb4_services_v2",), Level.WARN, "cannot be told"),
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
    """
    A proxy that is surely at work is a failure, one that may be is worth a look.
    """
    files = HostFiles(seen=True, pins=pins)
    (verdict,) = proxies.others([Link(name) for name in links], files)

    assert level is verdict.level
    assert words in verdict.found


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
    """
    Only an address of a Service that is tracked as well gets lost to the cache.
    """
    assert level is proxies.node_local_dns(links, Listing(notracked=lines)).level


def test_own_tables_are_no_strangers() -> None:
    """
    An upgrade finds them, and takes them over.
    """
    found = proxies.own(Ruleset(("ip nfproxy", "ip6 nfproxy", "inet nfproxy")))

    assert found.level is Level.OK
    assert "ip nfproxy, ip6 nfproxy are here" in found.found
