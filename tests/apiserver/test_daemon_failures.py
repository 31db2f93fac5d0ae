"""
``nfproxy run`` when the kernel is not written to, or not often: health, metrics, recovery.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from support.processes.apidaemon import Site
from support.processes.commands import (
    ROOT,
    Commands,
    endpoint_slice,
    eventually,
    node_object,
    package_copy,
    service,
    wait_until,
)

WEB = "10.96.0.1:80/tcp"
CALL = "    code, output, errors = nft.cmd("
#: Put into the child that is about to call libnftables: crashes while the file `broken` is there.
CRASH = """
    import os, pathlib
    if pathlib.Path(__file__).with_name("broken").exists():
        os.kill(os.getpid(), signal.SIGSEGV)
"""


class Nft:
    """libnftables, as the daemon of a site has it."""

    def __init__(self, site: Site, directory: Path) -> None:
        child = (ROOT / "nfproxy/dataplane/libnftables_child.py").read_text()
        assert child.count(CALL) == 1
        changed = {"dataplane/libnftables_child.py": child.replace(CALL, CRASH + CALL)}
        root = package_copy(directory / "copy", changed)
        self._file = root / "nfproxy/dataplane/broken"
        site.commands = Commands(site.namespace, directory, root)

    def be_broken(self, broken: bool) -> None:
        """Crash at each call from now on, or no longer."""
        self._file.touch() if broken else self._file.unlink()


@pytest.fixture
def nft(site: Site, tmp_path: Path) -> Nft:
    """A libnftables that can be broken."""
    return Nft(site, tmp_path)


@pytest.fixture(autouse=True)
def objects(site: Site) -> None:
    """A Service with an endpoint."""
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))


def codes(site: Site) -> list[int]:
    """Return what /healthz and /livez answer."""
    return [site.code("/healthz"), site.code("/livez")]


def test_a_kernel_that_cannot_be_written_to_makes_the_node_unhealthy(site: Site, nft: Nft) -> None:
    """
    After twice the syncPeriod; what was programmed stays. It recovers by itself, with all changes.
    """
    failures = "kubeproxy_sync_proxy_rules_nftables_sync_failures_total"
    with site.daemon("--iptables-sync-period=400ms") as daemon:
        eventually([200, 200], lambda: codes(site))
        nft.be_broken(True)
        # Two endpoints need a chain that is not there yet.
        site.api.apply(endpoint_slice("web", "10.244.1.6", "10.244.1.7"))
        eventually([503, 503], lambda: codes(site))
        assert daemon.log.count("SIGSEGV") >= 2
        for family in ("IPv4", "IPv6"):
            assert site.metric(failures, ip_family=family) >= 2
        assert site.metric("kubeproxy_proxy_healthz_total", code="503") >= 1
        assert site.code("/readyz") == 503
        assert site.commands.frontends() == {WEB: ("10.244.1.5:8080",)}
        site.api.apply(service("second", "10.96.0.2"))

        nft.be_broken(False)

        site.serves({WEB: ("10.244.1.6:8080", "10.244.1.7:8080"), "10.96.0.2:80/tcp": ()})
        eventually([200, 200], lambda: codes(site))
        assert site.metric("nfproxy_resyncs_total", reason="failure") >= 1


def test_a_kernel_that_cannot_be_written_to_at_start_is_tried_again(site: Site, nft: Nft) -> None:
    """
    The node is not ready before; nothing is half programmed.
    """
    nft.be_broken(True)
    with site.daemon("--iptables-sync-period=400ms", ready=False) as daemon:
        daemon.wait_for("SIGSEGV", times=2)
        assert site.code("/readyz") == 503
        eventually([503, 503], lambda: codes(site))

        nft.be_broken(False)

        daemon.wait_for("ready after")
        site.serves({WEB: ("10.244.1.5:8080",)})
        eventually([200, 200], lambda: codes(site))


def test_a_table_of_another_owner_is_waited_for(site: Site) -> None:
    """
    The kernel lets nobody touch a table with an owner; when that one ends, the table goes.
    """
    with site.namespace.call(_owner) as owner:
        assert owner.stdin is not None
        owner.stdin.write("add table ip nfproxy { flags owner; }\n")
        owner.stdin.flush()
        eventually(["ip nfproxy"], site.commands.tables)
        with site.daemon("--iptables-sync-period=400ms", ready=False) as daemon:
            daemon.wait_for("Operation not permitted")
            eventually([503, 503], lambda: codes(site))
            assert site.commands.tables() == ["ip nfproxy"]  # both families, or none

            owner.stdin.close()

            daemon.wait_for("ready after")
            site.serves({WEB: ("10.244.1.5:8080",)})
            eventually([200, 200], lambda: codes(site))


def _owner() -> subprocess.Popen[str]:
    """Start what takes nft commands, and owns the tables it makes until its input ends."""
    return subprocess.Popen(
        ["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def test_changes_within_min_sync_period_are_one_commit(site: Site) -> None:
    """
    The first is acted upon at once, what follows within the period together.
    """
    period_s = 1.0
    told = "kubeproxy_sync_proxy_rules_endpoint_changes_total"
    with site.daemon(f"--iptables-min-sync-period={period_s:g}s"):
        site.api.wait_for_watches(count=4)
        before, first = site.commands.generation(), site.metric(told)
        began = time.monotonic()
        for last in range(2, 42):
            site.api.apply(endpoint_slice("web", f"10.244.1.{last}"))
            wait_until(lambda: site.metric(told) >= first + last - 1)  # noqa: B023
        site.serves({WEB: ("10.244.1.41:8080",)})
        periods = (time.monotonic() - began) / period_s
        assert 1 <= site.commands.generation() - before <= 2 + periods
