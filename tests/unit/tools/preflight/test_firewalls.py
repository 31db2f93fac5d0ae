"""The host's firewalls: read from its files and processes, and judged."""

from pathlib import Path

import pytest
from support.preflight import levels, put

from nfproxy.host.paths import HostRoot
from nfproxy.netlink.nftables import ChainRow, Hook
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.firewalls import (
    FirewallFiles,
    judge_firewalld,
    judge_flushing,
    judge_forward_policy,
    read_firewall_files,
    read_processes,
)
from nfproxy.tools.preflight.ruleset import Ruleset


def test_an_empty_host_says_nothing(root: Path) -> None:
    """Nor does a host whose root directory is missing."""
    for directory in (root, root / "none"):
        found = read_firewall_files(HostRoot(directory), seen=True)
        assert (found.flushing, found.reloaded, found.troubles) == ((), (), ())


@pytest.mark.parametrize(
    ("text", "flushes"),
    [
        ("flush ruleset\n", True),
        ("#!/usr/sbin/nft -f\n\tflush\t ruleset ip\n", True),
        ("# flush ruleset\ntable inet filter { }\n", False),
        ("flush table inet filter\n", False),
        ("\x00\xff flush rulesets", False),
        ('include "/etc/nft.d/*.conf"\n', True),
        ("include 'nft.d/b.conf'\n", True),
        ('include "/etc/nft.d/a.conf"\n', False),
        ('include "/etc/../../../etc/nft.d/b.conf"\n', True),
        ('include "/etc/main.conf"\ninclude "/etc/loop"\n', False),
    ],
)
@pytest.mark.parametrize("place", ["nftables.conf", "sysconfig/nftables.conf"])
def test_files_that_flush(root: Path, place: str, text: str, flushes: bool) -> None:
    """A file flushes itself or by a file that it includes; comments do not count."""
    for path, content in {
        "etc/nft.d/a.conf": "add table ip a\n",
        "etc/nft.d/b.conf": "flush ruleset\n",
        "etc/main.conf": f'include "/etc/{place}"\n',
        f"etc/{place}": text,
    }.items():
        (root / path).parent.mkdir(exist_ok=True, parents=True)
        (root / path).write_text(content)

    found = read_firewall_files(HostRoot(root), seen=True)
    assert found.flushing == ((f"/etc/{place}",) if flushes else ())


def test_services_that_are_enabled(root: Path) -> None:
    """systemd and OpenRC each have their own way to enable; other services are ignored."""
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    for name in ("nftables.service", "firewalld.service", "ssh.service", "iptables.service"):
        (wants / name).symlink_to(f"/usr/lib/systemd/system/{name}")
    (root / "etc/runlevels/default").mkdir(parents=True)
    (root / "etc/runlevels/default/nftables").symlink_to("/etc/init.d/nftables")
    (root / "etc/firewalld").mkdir()
    (root / "etc/firewalld/firewalld.conf").write_text(
        "# FlushAllOnReload=no\nFlushAllOnReload=yes\nFirewallBackend = iptables\n=\n"
    )
    found = read_firewall_files(HostRoot(root), seen=True)

    assert found.reloaded == ("nftables", "nftables.service")
    assert found.iptables == ("iptables.service",)
    assert found.firewalld_enabled
    assert found.firewalld == {"FlushAllOnReload": "yes", "FirewallBackend": "iptables"}


def test_large_files_are_searched_in_linear_time(root: Path) -> None:
    """A megabyte of empty lines, each of which could begin a statement, takes no longer."""
    (root / "etc/firewalld").mkdir()
    (root / "etc/firewalld/firewalld.conf").write_text("\n" * 600_000 + "FlushAllOnReload=yes\n")
    (root / "etc/nftables.conf").write_text("\n" * 600_000 + "flush ruleset\n")

    found = read_firewall_files(HostRoot(root), seen=True)

    assert found.firewalld == {"FlushAllOnReload": "yes"}
    assert found.flushing == ("/etc/nftables.conf",)


def test_processes(tmp_path: Path) -> None:
    """Processes known to be in another network namespace are left out."""
    proc = put(
        tmp_path,
        {"1/comm": "init\n", "7/comm": "elsewhere\n", "8/comm": "kube-proxy\n", "self/comm": "x"},
    )
    (proc / "9").mkdir()
    for number, target in ((1, Path("/proc/self/ns/net").readlink()), (7, "net:[1]")):
        (proc / f"{number}/ns").mkdir()
        (proc / f"{number}/ns/net").symlink_to(target)

    assert read_processes(proc) == {"init", "kube-proxy"}


@pytest.mark.parametrize(
    ("files", "level"),
    [
        (FirewallFiles(seen=True), Level.OK),
        (FirewallFiles(seen=False), Level.SKIP),
        (FirewallFiles(seen=True, flushing=("/etc/nftables.conf",)), Level.OK),
        (FirewallFiles(seen=True, reloaded=("nftables.service",)), Level.OK),
        (
            FirewallFiles(
                seen=True, flushing=("/etc/nftables.conf",), reloaded=("nftables.service",)
            ),
            Level.WARN,
        ),
        (FirewallFiles(seen=True, iptables=("iptables.service",)), Level.OK),
        (
            FirewallFiles(seen=True, troubles=("/etc/nftables.conf: not a regular file",)),
            Level.WARN,
        ),
    ],
)
def test_a_flush_matters_where_a_service_does_it(files: FirewallFiles, level: Level) -> None:
    """Debian ships a file that flushes, and leaves its service disabled."""
    assert [level] == levels(judge_flushing(files))


def test_firewalld() -> None:
    """Its process or its table shows it; the finding says what a reload would flush."""
    idle, none = frozenset[str](), FirewallFiles(seen=True)
    flushes = FirewallFiles(seen=True, firewalld={"FlushAllOnReload": "yes"})

    assert judge_firewalld(none, idle, Ruleset()).level is Level.OK
    table = judge_firewalld(none, idle, Ruleset(("inet firewalld",)))
    process = judge_firewalld(flushes, {"firewalld"}, Ruleset())
    assert (table.level, process.level) == (Level.WARN, Level.WARN)
    assert "flushes rules on each reload" in process.found
    assert "flushes" not in table.found
    assert "--zone=trusted" in table.remedy


def chain(name: str, hook: int, policy: int) -> ChainRow:
    """Return a base chain of table ip filter."""
    return ChainRow(2, "filter", name, Hook("filter", hook, 0), policy)


@pytest.mark.parametrize(
    ("ruleset", "level"),
    [
        (Ruleset(chains=(chain("FORWARD", 2, 0),)), Level.WARN),
        (Ruleset(chains=(chain("FORWARD", 2, 1),)), Level.OK),
        (Ruleset(chains=(chain("INPUT", 1, 0),)), Level.OK),
        (Ruleset(legacy_text="*filter\n:FORWARD DROP [0:0]\n"), Level.WARN),
        (Ruleset(legacy_text="*filter\n:FORWARD ACCEPT [0:0]\n"), Level.OK),
        (Ruleset(legacy=("ip filter",)), Level.WARN),
        (Ruleset(legacy=("ip filter",), legacy_text=""), Level.OK),
    ],
)
def test_a_policy_that_drops_what_is_forwarded(ruleset: Ruleset, level: Level) -> None:
    """It counts in the forward hook only, in whatever table."""
    assert [level] == levels(judge_forward_policy(ruleset))
