"""Conntrack's sysctls, wanted and written."""

from pathlib import Path

import pytest

from nfproxy.config.durations import Duration
from nfproxy.config.kubeproxy import Conntrack
from nfproxy.errors import MissingFeatureError
from nfproxy.host.sysctls import cpu_count, set_conntrack_sysctls, wanted_sysctls

NOTHING = Conntrack(
    max_per_core=0, tcp_established_timeout=Duration(0), tcp_close_wait_timeout=Duration(0)
)
EVERYTHING = Conntrack(
    tcp_be_liberal=True,
    udp_timeout=Duration.of(30),
    udp_stream_timeout=Duration.of(180),
)


class Machine:
    """A made-up /proc and /sys with four processors."""

    def __init__(self, root: Path) -> None:
        self.proc, self.sys = root / "proc", root / "sys"
        for number in range(4):
            (self.sys / f"devices/system/cpu/cpu{number}/topology").mkdir(parents=True)
        for name in ("cpufreq", "cpuidle", "cpu4"):  # the fifth is off: it has no topology
            (self.sys / "devices/system/cpu" / name).mkdir()
        self.hashsize = self.sys / "module/nf_conntrack/parameters/hashsize"
        self.hashsize.parent.mkdir(parents=True)
        self.hashsize.write_text("16384\n")
        self._net = self.proc / "sys/net/netfilter"
        self._net.mkdir(parents=True)
        for name in ("max", "tcp_timeout_established", "tcp_timeout_close_wait"):
            self.path(name).write_text("1\n")
        for name in ("tcp_be_liberal", "udp_timeout", "udp_timeout_stream"):
            self.path(name).write_text("0\n")

    def path(self, name: str) -> Path:
        """Return the file of a sysctl."""
        return self._net / f"nf_conntrack_{name}"

    def value(self, name: str) -> str:
        """Return what a sysctl is now."""
        return self.path(name).read_text().strip()

    def set(self, config: Conntrack) -> list[str]:
        """Set what a configuration asks for; return what changed, without directories."""
        changed = set_conntrack_sysctls(config, proc=self.proc, sys=self.sys)
        return [text.rpartition("/")[2] for text in changed]


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
    The larger of both; the cores alone come to a million at most, the minimum may exceed it.
    """
    wanted = wanted_sysctls(Conntrack(max_per_core=per_core, min=least), cpus)

    assert [one.value for one in wanted if one.name == "max"] == [expected]


def test_zero_leaves_everything_alone():
    """
    The minimum says nothing then either, and tcp_be_liberal is never switched off.
    """
    assert wanted_sysctls(NOTHING, 64) == ()


def test_all_that_is_asked_for_is_wanted_in_order():
    """
    Durations are cut to whole seconds.
    """
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


def test_values_are_written_and_told(machine):
    """
    The table of buckets grows with the maximum.
    """
    changed = machine.set(EVERYTHING)

    assert changed == [
        "nf_conntrack_max: 1 → 131072",
        "hashsize: 16384 → 32768",
        "nf_conntrack_tcp_timeout_established: 1 → 86400",
        "nf_conntrack_tcp_timeout_close_wait: 1 → 3600",
        "nf_conntrack_tcp_be_liberal: 0 → 1",
        "nf_conntrack_udp_timeout: 0 → 30",
        "nf_conntrack_udp_timeout_stream: 0 → 180",
    ]
    assert machine.value("udp_timeout_stream") == "180"
    assert machine.hashsize.read_text().strip() == "32768"


def test_what_fits_is_not_written(machine):
    """
    A second start writes nothing, and a table of more buckets than needed stays.
    """
    machine.hashsize.write_text("262144\n")
    machine.set(EVERYTHING)
    before = {path: path.stat().st_mtime_ns for path in machine.path("max").parent.iterdir()}

    assert machine.set(EVERYTHING) == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert machine.hashsize.read_text() == "262144\n"


def test_buckets_are_left_alone_with_the_maximum(machine):
    """
    Without maxPerCore nobody looks at them, so that they may be unreadable.
    """
    machine.hashsize.unlink()

    assert machine.set(NOTHING) == []


@pytest.mark.parametrize(
    ("name", "field"),
    [("max", "conntrack.maxPerCore to 0"), ("tcp_be_liberal", "conntrack.tcpBeLiberal to false")],
)
def test_what_cannot_be_set_is_fatal_and_says_what_to_do(machine, name, field):
    """
    The message names the file, the way round it, and the field that asks for it.
    """
    machine.path(name).unlink()
    machine.path(name).mkdir()

    with pytest.raises(MissingFeatureError, match="--init-only") as raised:
        machine.set(EVERYTHING)

    assert str(machine.path(name)) in str(raised.value)
    assert field in str(raised.value)


@pytest.mark.parametrize("content", [None, "", "many\n"])
def test_unreadable_buckets_are_fatal(machine, content):
    """
    As in kube-proxy.
    """
    machine.hashsize.unlink()
    if content is not None:
        machine.hashsize.write_text(content)

    with pytest.raises(MissingFeatureError, match="hashsize"):
        machine.set(Conntrack())


def test_sysctls_that_nothing_may_write_stay_in_a_namespace_of_ones_own(lab):
    """
    nf_conntrack_max is read-only there: what it is already is no error, anything else is.
    """
    namespace = lab.namespace("sysctls")
    now = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())

    def fits() -> list[str]:
        return set_conntrack_sysctls(Conntrack(max_per_core=1, min=now))

    def differs() -> list[str]:
        return set_conntrack_sysctls(Conntrack(max_per_core=1, min=now + 1))

    assert namespace.call(lambda: [text for text in fits() if "max" in text]) == []
    with pytest.raises(MissingFeatureError, match="nf_conntrack_max"):
        namespace.call(differs)


def test_processors_are_counted_by_topology(machine, tmp_path):
    """
    Those that are off have none; where nothing is to be read, the process's own count.
    """
    assert cpu_count(machine.sys) == 4
    assert cpu_count(tmp_path / "nowhere") >= 1
