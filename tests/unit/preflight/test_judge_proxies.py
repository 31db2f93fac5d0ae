"""
Other service proxies, judged by what they leave on a node.
"""

import pytest

from nfproxy.preflight.facts import Chain, HostFiles, Link, Listing, Port, Processes, Ruleset
from nfproxy.preflight.findings import Level, Verdict
from nfproxy.preflight.judge import proxies

NOTHING = Processes({1: "systemd"})
CACHE = Link("nodelocaldns", "dummy", ("169.254.20.10", "10.96.0.10"))


def kube_proxy(
    ruleset: Ruleset | None = Ruleset(),  # noqa: B008 - frozen
    links: tuple[Link, ...] = (),
    processes: Processes = NOTHING,
    ports: tuple[Port, ...] = (),
) -> list[Verdict]:
    """Judge with nothing but what is given."""
    return proxies.kube_proxy(ruleset, links, processes, ports)


def test_no_kube_proxy() -> None:
    """
    Chains of others do not look like its own.
    """
    ruleset = Ruleset(
        ("ip nat", "ip nfproxy"),
        (Chain("ip", "nat", "KUBE-ROUTER-FORWARD"), Chain("ip", "nat", "KUBE-KUBELET-CANARY")),
    )
    (verdict,) = kube_proxy(ruleset)

    assert verdict.level is Level.OK


@pytest.mark.parametrize(
    ("ruleset", "links", "words"),
    [
        (Ruleset(("ip kube-proxy", "ip6 kube-proxy")), (), "nftables mode"),
        (Ruleset(chains=(Chain("ip", "nat", "KUBE-SERVICES"),)), (), "1 chains KUBE-… (iptables-"),
        (
            Ruleset(legacy=("ip nat",), legacy_text="*nat\n:KUBE-SVC-X - [0:0]\n:DOCKER - [0:0]"),
            (),
            "1 chains KUBE-… (iptables-legacy)",
        ),
        (Ruleset(), (Link("kube-ipvs0", "dummy"),), "kube-ipvs0: IPVS mode"),
    ],
)
def test_what_each_mode_leaves(ruleset: Ruleset, links: tuple[Link, ...], words: str) -> None:
    """
    Every mode is recognised; without a process, what is there are leftovers.
    """
    (verdict,) = kube_proxy(ruleset, links)

    assert verdict.level is Level.WARN
    assert verdict.found.startswith("kube-proxy has been here")
    assert words in verdict.found
    assert "cleanup --kube-proxy" in verdict.remedy


@pytest.mark.parametrize(
    ("processes", "ports"),
    [
        (Processes({7: "kube-proxy"}), ()),
        (NOTHING, (Port("health", "0.0.0.0:10256", "in use", "kube-proxy"),)),
    ],
)
def test_a_kube_proxy_that_runs(processes: Processes, ports: tuple[Port, ...]) -> None:
    """
    It is told by its process or, out of a container, by its pages.
    """
    (verdict,) = kube_proxy(processes=processes, ports=ports)

    assert verdict.level is Level.WARN
    assert verdict.found.startswith("kube-proxy runs here")


def test_what_cannot_be_looked_into_is_said() -> None:
    """
    Legacy tables without their program, and a ruleset that may not be read.
    """
    (legacy,) = kube_proxy(Ruleset(legacy=("ip nat",)))
    (unread,) = kube_proxy(None)

    assert (legacy.level, unread.level) == (Level.WARN, Level.WARN)
    assert "iptables-legacy-save | grep KUBE-" in legacy.remedy
    assert "NET_ADMIN" in unread.remedy


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
