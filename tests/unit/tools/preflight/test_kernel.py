"""Privileges, the kernel and nfproxy's program, judged."""

from pathlib import Path

import pytest
from support.preflight import levels

from nfproxy.errors import NfproxyError
from nfproxy.host.processes import Privileges
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.tools.preflight import kernel
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.kernel import Process, read_process
from nfproxy.tools.preflight.trial import Trial

NET_ADMIN = 1 << 12


WORKS = Trial("namespace", library="1.1.3", host_nft="")


def test_this_process() -> None:
    """The kernel reports its capabilities in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff"))

    assert int(effective, 16) == read_process().privileges.capabilities


def test_net_admin_is_needed_and_enough() -> None:
    """
    It is the only capability. A seccomp filter is mentioned, and blamed only where nf_tables fails.
    """
    assert kernel.judge_privileges(Process(Privileges(NET_ADMIN, True))).level is Level.OK
    lacking = kernel.judge_privileges(Process(Privileges(~NET_ADMIN & ((1 << 40) - 1), False)))
    assert (lacking.level, lacking.remedy.split(": ")[-1]) == (Level.FAIL, "[NET_ADMIN]")


def test_the_obstacle_to_nf_tables_is_named() -> None:
    """The error brings the remedy; under a seccomp filter the finding adds a hint."""
    trouble = NfproxyError(
        "the kernel has no nf_tables (Protocol not supported)", "modprobe nf_tables"
    )
    plain = kernel.judge_privileges(Process(Privileges(NET_ADMIN, False), trouble))
    filtered = kernel.judge_privileges(Process(Privileges(NET_ADMIN, True), trouble))

    assert (plain.level, plain.remedy) == (Level.FAIL, "modprobe nf_tables")
    assert "RuntimeDefault" in filtered.remedy


@pytest.mark.parametrize(
    ("release", "trial", "level"),
    [
        ("5.13.0", None, Level.OK),
        ("6.1.0-13-amd64", None, Level.OK),
        ("6.18.44-fc-v669", None, Level.OK),
        ("10.0-rc1", None, Level.OK),
        ("5.4.0-150-generic", None, Level.FAIL),
        ("5.4.0-150-generic", WORKS, Level.WARN),
        ("5.4.0", Trial("namespace", refused="no"), Level.FAIL),
        ("5.4.0", Trial("", "not tried"), Level.FAIL),
        ("linux", WORKS, Level.WARN),
    ],
)
def test_the_kernel_version(release: str, trial: Trial | None, level: Level) -> None:
    """A kernel older than 5.13 passes only where it could load the program."""
    assert level is kernel.judge_release(release, trial).level


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (WORKS, [Level.OK]),
        (Trial("validation", "no SYS_ADMIN"), [Level.OK]),
        (Trial("", "no SYS_ADMIN"), [Level.WARN]),
        (Trial("namespace", refused="refused"), [Level.FAIL]),
        (
            Trial("namespace", refused="refused", missing=(("a", "b"), ("c", ""))),
            [Level.FAIL] * 2,
        ),
    ],
)
def test_the_program(trial: Trial, expected: list[Level]) -> None:
    """Each missing feature has a line; there is one line where the feature is unknown."""
    assert expected == levels(kernel.judge_program(trial, FAMILIES))


def test_a_missing_feature_comes_with_its_remedy() -> None:
    """Both are those of the daemon's start; where no remedy is known, a report helps."""
    fib = ("this kernel lacks the fib expression for IPv4", "modprobe nft_fib_ipv4")
    trial = Trial("namespace", refused="x", missing=(fib, ("libnftables crashed", "")))
    first, second = kernel.judge_program(trial, FAMILIES)

    assert (first.found, first.remedy) == fib
    assert second.remedy.startswith("report it")


def test_ipv6_that_is_switched_off_matters_where_the_node_has_it() -> None:
    """A Node without IPv6 addresses needs none."""
    assert kernel.judge_families([Family.IPV4], []).level is Level.OK
    assert kernel.judge_families([Family.IPV4], [Family.IPV4]).level is Level.OK
    assert kernel.judge_families(FAMILIES, FAMILIES).level is Level.OK
    lacking = kernel.judge_families([Family.IPV4], FAMILIES)
    assert lacking.level is Level.FAIL
    assert "disable_ipv6=0" in lacking.remedy


def test_a_send_buffer_that_cannot_grow_is_named():
    """It must hold the program; elements come in portions."""
    enough = kernel.judge_privileges(Process(Privileges(NET_ADMIN, False), None, 425_472))
    too_small = kernel.judge_privileges(Process(Privileges(NET_ADMIN, False), None, 65_536))

    assert enough.level is Level.OK
    assert "transactions of at most 415 KB (user namespace)" in enough.found
    assert too_small.level is Level.FAIL
    assert "net.core.wmem_max" in too_small.remedy
