"""Conntrack's sysctls: which values the configuration wants, and writing them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nfproxy.config.durations import Duration
from nfproxy.config.kubeproxy import Conntrack
from nfproxy.errors import ConfigError, MissingFeatureError
from nfproxy.host.sysctls import (
    Refusal,
    Sysctl,
    SysctlChanges,
    cpu_count,
    refused_buckets,
    refused_error,
    set_conntrack_sysctls,
    wanted_sysctls,
)

NOTHING = Conntrack(
    max_per_core=0, tcp_established_timeout=Duration(0), tcp_close_wait_timeout=Duration(0)
)
EVERYTHING = Conntrack(
    tcp_be_liberal=True,
    udp_timeout=Duration.of(30),
    udp_stream_timeout=Duration.of(180),
)


def no_module() -> None:
    """Load nothing, as a kernel without the module."""


class Machine:
    """A fake /proc and /sys with four processors."""

    def __init__(self, root: Path) -> None:
        self.proc, self.sys = root / "proc", root / "sys"
        (self.sys / "devices/system/cpu").mkdir(parents=True)
        self.online.write_text("0-2,5\n")
        (self.proc / "sys/net").mkdir(parents=True)
        self._net = self.proc / "sys/net/netfilter"
        self.load_conntrack()

    @property
    def online(self) -> Path:
        """The file that lists the processors that are on."""
        return self.sys / "devices/system/cpu/online"

    def load_conntrack(self) -> None:
        """Make the sysctls, as loading the module does."""
        self._net.mkdir(exist_ok=True)
        self.path("buckets").write_text("16384\n")
        for name in ("max", "tcp_timeout_established", "tcp_timeout_close_wait"):
            self.path(name).write_text("1\n")
        for name in ("tcp_be_liberal", "udp_timeout", "udp_timeout_stream"):
            self.path(name).write_text("0\n")

    def unload_conntrack(self) -> None:
        """Remove the sysctls, as unloading the module does."""
        shutil.rmtree(self._net)

    def path(self, name: str) -> Path:
        """Return the file of a sysctl."""
        return self._net / f"nf_conntrack_{name}"

    def value(self, name: str) -> str:
        """Return the present value of a sysctl."""
        return self.path(name).read_text().strip()

    def set(self, config: Conntrack, load: Callable[[], None] = no_module) -> list[str]:
        """Set the sysctls of a configuration; return the changes, without directories."""
        outcome = set_conntrack_sysctls(config, load, proc=self.proc, sys=self.sys)
        assert outcome.refused == []
        return [text.rpartition("/")[2] for text in outcome.changed]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("per_core", "least", "cpus", "expected"),
    [
        (32768, 131072, 2, 131072),
        (32768, 131072, 4, 131072),
        (32768, 131072, 5, 163840),
        (32768, 131072, 32, 1048576),
        (32768, 131072, 33, 1048576),
        (32768, 2_000_000, 33, 1048576),
        (32768, 2_000_000, 2, 2_000_000),
        (1, 0, 2, 2),
    ],
)
def test_the_maximum_follows_cores_and_minimum(per_core, least, cpus, expected):
    """
    It is the larger of both. The cores count for a million at most; the minimum may be higher.
    """
    wanted = wanted_sysctls(Conntrack(max_per_core=per_core, min=least), cpus)

    assert [one.value for one in wanted if one.name == "max"] == [expected]


def test_zero_leaves_everything_alone():
    """The minimum does not count then either, and tcp_be_liberal is never switched off."""
    assert wanted_sysctls(NOTHING, 64) == ()


def test_all_configured_sysctls_are_wanted_in_order():
    """Durations are rounded down to whole seconds."""
    config = Conntrack(
        tcp_established_timeout=Duration.of(3600.9),
        tcp_close_wait_timeout=Duration.of(0.5),
        tcp_be_liberal=True,
        udp_timeout=Duration.of(30),
        udp_stream_timeout=Duration.of(180),
    )

    assert [(one.name, one.value) for one in wanted_sysctls(config, 8)] == [
        ("max", 262144),
        ("tcp_timeout_established", 3600),
        ("tcp_timeout_close_wait", 0),
        ("tcp_be_liberal", 1),
        ("udp_timeout", 30),
        ("udp_timeout_stream", 180),
    ]


def test_values_are_written_and_returned(machine):
    """The number of buckets grows with the maximum."""
    changed = machine.set(EVERYTHING)

    assert changed == [
        "nf_conntrack_max: 1 → 131072",
        "nf_conntrack_buckets: 16384 → 32768",
        "nf_conntrack_tcp_timeout_established: 1 → 86400",
        "nf_conntrack_tcp_timeout_close_wait: 1 → 3600",
        "nf_conntrack_tcp_be_liberal: 0 → 1",
        "nf_conntrack_udp_timeout: 0 → 30",
        "nf_conntrack_udp_timeout_stream: 0 → 180",
    ]
    assert machine.value("udp_timeout_stream") == "180"
    assert machine.value("buckets") == "32768"


def test_a_value_that_fits_is_not_written(machine):
    """A second start writes nothing, and more buckets than needed stay."""
    machine.path("buckets").write_text("262144\n")
    machine.set(EVERYTHING)
    before = {path: path.stat().st_mtime_ns for path in machine.path("max").parent.iterdir()}

    assert machine.set(EVERYTHING) == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert machine.value("buckets") == "262144"


def test_buckets_are_left_alone_with_the_maximum(machine):
    """Without maxPerCore nfproxy does not read them, so they may be unreadable."""
    machine.path("buckets").unlink()

    assert machine.set(NOTHING) == []


@pytest.mark.parametrize(
    ("name", "field"),
    [("max", "conntrack.maxPerCore to 0"), ("tcp_be_liberal", "conntrack.tcpBeLiberal to false")],
)
def test_a_value_that_the_kernel_refuses_is_fatal(machine, name, field):
    """The error names the file, and the field to change."""
    machine.path(name).unlink()
    machine.path(name).mkdir()

    with pytest.raises(MissingFeatureError, match="Is a directory") as raised:
        machine.set(EVERYTHING)

    assert str(machine.path(name)) in str(raised.value)
    assert field in str(raised.value)


@pytest.mark.parametrize("present", [131072, 131073, 262144, 1 << 31])
def test_a_maximum_that_is_high_enough_is_never_lowered(machine, present):
    """Nor written as it is: there may be no privilege for that (kubernetes/kubernetes#142035)."""
    machine.path("max").write_text(f"{present}\n")
    machine.path("max").chmod(0o444)
    before = machine.path("max").stat().st_mtime_ns

    assert not any("_max" in text for text in machine.set(EVERYTHING))
    assert machine.value("max") == str(present)
    assert machine.path("max").stat().st_mtime_ns == before


def test_timeouts_are_lowered(machine):
    """Only the maximum and the buckets have a direction."""
    machine.path("tcp_timeout_established").write_text("432000\n")

    assert "nf_conntrack_tcp_timeout_established: 432000 → 86400" in machine.set(EVERYTHING)


@pytest.mark.parametrize("content", ["", "many\n", None])
def test_buckets_that_cannot_be_set_stop_nothing(machine, content):
    """kube-proxy goes on without them; the values behind are set, and a line says what to do."""
    if content is None:
        machine.path("buckets").unlink()
        machine.path("buckets").mkdir()
    else:
        machine.path("buckets").write_text(content)
    outcome = set_conntrack_sysctls(EVERYTHING, no_module, proc=machine.proc, sys=machine.sys)

    assert [one.sysctl for one in outcome.refused] == [Sysctl("buckets", 32768, "maxPerCore")]
    assert all(one.is_harmless for one in outcome.refused)
    assert machine.value("udp_timeout_stream") == "180"
    text = refused_buckets(outcome.refused)
    assert "sysctl -w net.netfilter.nf_conntrack_buckets=32768" in text
    assert refused_buckets([Refusal(Sysctl("max", 1, "maxPerCore"), "no")]) == ""


def test_the_kernel_loads_a_missing_module(machine):
    """Before any value is set; if it has no such module, the error says what to load."""
    machine.unload_conntrack()
    with pytest.raises(MissingFeatureError, match="modprobe nf_conntrack"):
        machine.set(EVERYTHING)

    assert machine.set(EVERYTHING, machine.load_conntrack)[0] == "nf_conntrack_max: 1 → 131072"


def test_a_directory_without_sysctls_is_named(tmp_path):
    """The mount of the init container is missing: no module is loaded for that."""
    with pytest.raises(ConfigError, match=rf"--proc: {tmp_path}/sys/net does not exist"):
        set_conntrack_sysctls(Conntrack(), no_module, proc=tmp_path)


def test_refusals_are_returned_and_the_rest_is_set(lab):
    """In a new network namespace nf_conntrack_max is read-only, and timeouts are not."""
    namespace = lab.namespace("sysctls")
    now = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    wanted = Conntrack(max_per_core=1, min=now + 4, tcp_established_timeout=Duration.of(82800))

    def outcome(config: Conntrack) -> SysctlChanges:
        return set_conntrack_sysctls(config, no_module)

    first = namespace.call(outcome, wanted)

    assert Refusal(Sysctl("max", now + 4, "maxPerCore"), "Permission denied") in first.refused
    assert any("tcp_timeout_established: " in text for text in first.changed)
    assert namespace.call(outcome, wanted) == SysctlChanges([], first.refused)
    fits = namespace.call(outcome, Conntrack(max_per_core=1, min=now)).refused
    assert [one for one in fits if one.sysctl.name == "max"] == []


def test_refusals_are_one_line_with_every_remedy():
    """An init container, a command on the node, or a setting that leaves the value alone."""
    text = str(
        refused_error(
            [
                Refusal(Sysctl("max", 131072, "maxPerCore"), "Read-only file system"),
                Refusal(Sysctl("buckets", 32768, "maxPerCore"), "Read-only file system"),
                Refusal(Sysctl("tcp_be_liberal", 1, "tcpBeLiberal"), "Permission denied"),
            ]
        )
    )

    assert "max to 131072 (Read-only file system), buckets to 32768 (Read-only" in text
    assert "--init-only --proc DIR" in text
    assert (
        "sysctl -w net.netfilter.nf_conntrack_max=131072 "
        "net.netfilter.nf_conntrack_buckets=32768 net.netfilter.nf_conntrack_tcp_be_liberal=1;"
    ) in text
    assert "set conntrack.maxPerCore to 0, conntrack.tcpBeLiberal to false to leave" in text


def test_an_init_container_is_not_advised_to_use_one():
    """With the node's /proc the line says what the container lacks, and how to do without it."""
    refused = [Refusal(Sysctl("max", 131072, "maxPerCore"), "Read-only file system")]
    text = str(refused_error(refused, Path("/host/proc")))

    assert "below /host/proc/sys/net: max to 131072 (Read-only file system); mount the" in text
    assert "--proc" not in text
    for remedy in ("without readOnly", "NET_ADMIN", "conntrack.maxPerCore to 0", "sysctl -w net."):
        assert remedy in text
    assert "without-prepare, prepare.enabled=false" in text


@pytest.mark.parametrize(
    ("online", "count"), [("0-2,5\n", 4), ("0\n", 1), ("0-127\n", 128), ("0,2-3,8-11", 7)]
)
def test_processors_that_are_online_are_counted(machine, online, count):
    """
    As the kernel lists them, whatever this process may use and whatever directories there are.
    """
    machine.online.write_text(online)

    assert cpu_count(machine.sys) == count


@pytest.mark.parametrize(
    "online", ["", "\n", "many", "0-", "-3", "0-99999999999", "0-3;4", "\u0661"]
)
def test_a_list_of_processors_that_cannot_be_read_is_not_used(machine, tmp_path, online):
    """Nor one that is missing: then the processors of this process count."""
    machine.online.write_text(online)

    assert cpu_count(machine.sys) == len(os.sched_getaffinity(0))
    assert cpu_count(tmp_path / "nowhere") == len(os.sched_getaffinity(0))
