"""
Firewalls and sysctls, judged.
"""

import pytest

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.tools.preflight.facts import Chain, Conntrack, HostFiles, Link, Processes, Ruleset
from nfproxy.tools.preflight.findings import Level, Verdict
from nfproxy.tools.preflight.judge import firewalls, sysctls

BOTH = (Family.IPV4, Family.IPV6)
FORWARDS = {"ipv4.ip_forward": "1", "ipv6.conf.all.forwarding": "1"}
NODE_PORTS = (30000, 32767)


def levels(verdicts: list[Verdict]) -> list[Level]:
    """Return the levels of some verdicts."""
    return [verdict.level for verdict in verdicts]


# --- firewalls ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "level"),
    [
        (HostFiles(seen=True), Level.OK),
        (HostFiles(seen=False), Level.WARN),
        (HostFiles(seen=True, flushing=("/etc/nftables.conf",)), Level.OK),
        (HostFiles(seen=True, reloaded=("nftables.service",)), Level.OK),
        (
            HostFiles(seen=True, flushing=("/etc/nftables.conf",), reloaded=("nftables.service",)),
            Level.WARN,
        ),
        (HostFiles(seen=True, iptables=("iptables.service",)), Level.OK),
        (HostFiles(seen=True, troubles=("/etc/nftables.conf: is no file",)), Level.WARN),
    ],
)
def test_a_flush_matters_where_a_service_does_it(files: HostFiles, level: Level) -> None:
    """
    Debian ships a file that flushes, and a service that is not enabled.
    """
    assert [level] == levels(firewalls.reload(files))


def test_firewalld() -> None:
    """
    It is told by its process or its table; what a reload would flush is said.
    """
    idle, none = Processes({}), HostFiles(seen=True)
    flushes = HostFiles(seen=True, firewalld={"FlushAllOnReload": "yes"})

    assert firewalls.firewalld(none, idle, Ruleset()).level is Level.OK
    table = firewalls.firewalld(none, idle, Ruleset(("inet firewalld",)))
    process = firewalls.firewalld(flushes, Processes({9: "firewalld"}), Ruleset())
    assert (table.level, process.level) == (Level.WARN, Level.WARN)
    assert "flushes rules on each reload" in process.found
    assert "flushes" not in table.found
    assert "--zone=trusted" in table.remedy


@pytest.mark.parametrize(
    ("ruleset", "level"),
    [
        (Ruleset(chains=(Chain("ip", "filter", "FORWARD", "forward", drops=True),)), Level.WARN),
        (Ruleset(chains=(Chain("ip", "filter", "FORWARD", "forward"),)), Level.OK),
        (Ruleset(chains=(Chain("ip", "filter", "INPUT", "input", drops=True),)), Level.OK),
        (Ruleset(legacy_text="*filter\n:FORWARD DROP [0:0]\n"), Level.WARN),
        (Ruleset(legacy_text="*filter\n:FORWARD ACCEPT [0:0]\n"), Level.OK),
        (Ruleset(legacy=("ip filter",)), Level.WARN),
        (Ruleset(legacy=("ip filter",), legacy_text=""), Level.OK),
    ],
)
def test_a_policy_that_drops_what_is_forwarded(ruleset: Ruleset, level: Level) -> None:
    """
    Only the forward hook, in whatever table.
    """
    assert [level] == levels(firewalls.forwarding_policy(ruleset))


# --- forwarding, reverse paths, bridges --------------------------------------------------


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
    """
    Needed for the families that the Node has; IPv4 where that is not known.
    """
    assert expected == levels(sysctls.forwarding(found, enabled, node))


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
    """
    The greater of the two values counts, and only with several uplinks.
    """
    assert level is sysctls.reverse_path(found, routes).level


def test_pods_on_a_bridge() -> None:
    """
    Bridged packets have to pass through netfilter; a bridge without ports has none.
    """
    bridge = Link("cni0", "bridge", ports=3)
    on = {"bridge.bridge-nf-call-iptables": "1", "bridge.bridge-nf-call-ip6tables": "1"}

    assert levels(sysctls.bridges([Link("docker0", "bridge")], {}, BOTH)) == [Level.OK]
    assert levels(sysctls.bridges([Link("eth0", ports=3)], {}, BOTH)) == [Level.OK]
    assert levels(sysctls.bridges([bridge], on, BOTH)) == [Level.OK]
    (off,) = sysctls.bridges([bridge], {**on, "bridge.bridge-nf-call-ip6tables": "0"}, BOTH)
    assert (off.level, "modprobe" in off.remedy) == (Level.WARN, False)
    absent = sysctls.bridges([bridge], {}, BOTH)
    assert levels(absent) == [Level.WARN, Level.WARN]
    assert absent[0].remedy.startswith("modprobe br_netfilter")


# --- conntrack ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        (Conntrack(10, 1000, 250, writable=True), None, [Level.OK]),
        (Conntrack(799, 1000, 250, writable=True), 1000, [Level.OK]),
        (Conntrack(800, 1000, 250, writable=True), None, [Level.WARN]),
        (Conntrack(10, 1000, 250, writable=True), 2000, [Level.OK, Level.OK]),
        (Conntrack(10, 1000, 250, writable=False), 2000, [Level.OK, Level.OK]),
        (Conntrack(10, 1000, 250, writable=True), 500, [Level.OK, Level.WARN]),
        (Conntrack(10, 1000, 100, writable=True), None, [Level.OK, Level.WARN]),
        (Conntrack(10, 0, 0, writable=True), None, [Level.WARN]),
        (Conntrack(None, None, None, writable=False), 1000, [Level.WARN]),
    ],
)
def test_conntrack(found: Conntrack, wanted: int | None, expected: list[Level]) -> None:
    """
    Full, about to get smaller, few buckets, not there.
    """
    assert expected == levels(sysctls.conntrack(found, wanted))


# --- ports -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ephemeral", "reserved", "level"),
    [
        ("32768\t60999", "", Level.OK),
        ("1024 29999", "", Level.OK),
        ("32767 60999", "", Level.WARN),
        ("20000 40000", "", Level.WARN),
        ("20000 40000", "30000-32767", Level.OK),
        ("20000 40000", "1-5,30000-31000,31001-32767", Level.OK),
        ("20000 40000", "30000-31000,31002-32767", Level.WARN),
        ("32767 60999", "32767", Level.OK),
        ("20000 40000", "what,-,30000", Level.WARN),
        ("", "", Level.WARN),
        ("9 1", "", Level.WARN),
    ],
)
def test_ephemeral_ports(ephemeral: str, reserved: str, level: Level) -> None:
    """
    An overlap with node ports is of no consequence where it is reserved as a whole.
    """
    found = {"ipv4.ip_local_port_range": ephemeral, "ipv4.ip_local_reserved_ports": reserved}

    assert level is sysctls.ephemeral_ports(found, NODE_PORTS).level


def test_the_remedy_keeps_what_is_reserved() -> None:
    """
    The sysctl is replaced as a whole.
    """
    found = {"ipv4.ip_local_port_range": "20000 40000", "ipv4.ip_local_reserved_ports": "8080"}

    assert sysctls.ephemeral_ports(found, NODE_PORTS).remedy.endswith("=8080,30000-32767")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30000-32767", (30000, 32767)),
        ("1\t65535", (1, 65535)),
        ("0-1", None),
        ("2-1", None),
        ("1-65536", None),
        ("-1-5", None),
        ("²-5", None),
        ("99999999999999999999-5", None),
        ("5", None),
    ],
)
def test_ranges(text: str, expected: tuple[int, int] | None) -> None:
    """
    Two ports in order, or nothing.
    """
    assert expected == sysctls.port_range(text)


def test_all_families_have_a_sysctl_for_forwarding() -> None:
    """
    Each has a name of its own.
    """
    found = sysctls.forwarding({}, FAMILIES, FAMILIES)

    assert len({verdict.remedy for verdict in found}) == len(FAMILIES)
