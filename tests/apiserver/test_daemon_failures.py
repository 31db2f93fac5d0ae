"""``nfproxy run`` when writing to the kernel fails, or is limited: health, metrics, recovery."""

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
CALL = "        code, output, errors = nft.cmd("
#: Runs in the child before it calls libnftables: crashes while the file `broken` exists.
CRASH = """
        import pathlib, signal
        if pathlib.Path(__file__).with_name("broken").exists():
            os.kill(os.getpid(), signal.SIGSEGV)
"""


class Nft:
    """The libnftables of a site's daemon."""

    def __init__(self, site: Site, directory: Path) -> None:
        child = (ROOT / "nfproxy/dataplane/libnftables_child.py").read_text()
        assert child.count(CALL) == 1
        changed = {"dataplane/libnftables_child.py": child.replace(CALL, CRASH + CALL)}
        root = package_copy(directory / "copy", changed)
        self._file = root / "nfproxy/dataplane/broken"
        site.commands = Commands(site.namespace, directory, root)

    def be_broken(self, broken: bool) -> None:
        """Crash at each call from now on, or stop crashing."""
        self._file.touch() if broken else self._file.unlink()


@pytest.fixture
def nft(site: Site, tmp_path: Path) -> Nft:
    """A libnftables that a test can break."""
    return Nft(site, tmp_path)


@pytest.fixture(autouse=True)
def objects(site: Site) -> None:
    """A Service with an endpoint."""
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))


def codes(site: Site) -> list[int]:
    """Return the status codes of /healthz and /livez."""
    return [site.code("/healthz"), site.code("/livez")]


def test_a_kernel_that_cannot_be_written_to_makes_the_node_unhealthy(site: Site, nft: Nft) -> None:
    """
    This takes twice the syncPeriod; installed rules stay. The daemon recovers with all changes.
    """
    failures = "kubeproxy_sync_proxy_rules_nftables_sync_failures_total"
    with site.daemon("--iptables-sync-period=400ms") as daemon:
        eventually([200, 200], lambda: codes(site))
        nft.be_broken(True)
        # So many endpoints need a chain that does not exist yet: it is not made ahead.
        addresses = [f"10.244.1.{number}" for number in range(11, 20)]
        site.api.apply(endpoint_slice("web", *addresses))
        eventually([503, 503], lambda: codes(site))
        assert daemon.log.count("SIGSEGV") >= 2
        for family in ("IPv4", "IPv6"):
            assert site.metric(failures, ip_family=family) >= 2
        assert site.metric("kubeproxy_proxy_healthz_total", code="503") >= 1
        assert site.code("/readyz") == 503
        assert site.commands.frontends() == {WEB: ("10.244.1.5:8080",)}
        site.api.apply(service("second", "10.96.0.2"))

        nft.be_broken(False)

        served = tuple(f"{address}:8080" for address in addresses)
        site.serves({WEB: served, "10.96.0.2:80/tcp": ()})
        eventually([200, 200], lambda: codes(site))
        assert site.metric("nfproxy_resyncs_total", reason="failure") >= 1


def test_a_kernel_that_cannot_be_written_to_at_start_is_tried_again(site: Site, nft: Nft) -> None:
    """The node is not ready before that, and no family has rules without the other."""
    nft.be_broken(True)
    with site.daemon("--iptables-sync-period=400ms", ready=False) as daemon:
        daemon.wait_for("SIGSEGV", times=2)
        assert site.code("/readyz") == 503
        eventually([503, 503], lambda: codes(site))

        nft.be_broken(False)

        daemon.wait_for("ready after")
        site.serves({WEB: ("10.244.1.5:8080",)})
        eventually([200, 200], lambda: codes(site))


def test_the_daemon_waits_for_a_table_of_another_owner(site: Site) -> None:
    """The kernel lets no other process change an owned table; the table goes with its owner."""
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
    """Start a process that takes nft commands and owns its tables until its input ends."""
    return subprocess.Popen(
        ["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def test_changes_within_min_sync_period_are_one_commit(site: Site) -> None:
    """The first change is applied at once, later ones within the period together."""
    period_s = 1.0
    counter = "kubeproxy_sync_proxy_rules_endpoint_changes_total"
    with site.daemon(f"--iptables-min-sync-period={period_s:g}s"):
        site.api.wait_for_watches(count=4)
        before, first = site.commands.generation(), site.metric(counter)
        began = time.monotonic()
        for last in range(2, 42):
            site.api.apply(endpoint_slice("web", f"10.244.1.{last}"))
            wait_until(lambda: site.metric(counter) >= first + last - 1)  # noqa: B023
        site.serves({WEB: ("10.244.1.41:8080",)})
        periods = (time.monotonic() - began) / period_s
        assert 1 <= site.commands.generation() - before <= 2 + periods
