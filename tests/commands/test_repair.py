"""``nfproxy run`` when other processes change its tables, or libnftables fails."""

import http.client
import re
import time
from pathlib import Path

import pytest
from support.processes.commands import (
    ROOT,
    Commands,
    endpoint_slice,
    eventually,
    node_object,
    package_copy,
    service,
    wait_until,
    write,
)

from nfproxy.tools.lab import Lab

WEB = "10.96.0.1:80/tcp"

#: Runs in the child before it calls libnftables: does what the file `mode` says.
MISBEHAVE = """
        import pathlib, signal, time
        mode = pathlib.Path(__file__).with_name("mode").read_text()
        if mode == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if mode == "hang":
            pathlib.Path(__file__).with_name("hung").write_text(str(os.getpid()))
            time.sleep(600)
"""
CALL = "        code, output, errors = nft.cmd("


class Faulty:
    """Commands whose libnftables crashes or hangs on demand."""

    def __init__(self, lab: Lab, tmp_path: Path) -> None:
        child = (ROOT / "nfproxy/dataplane/libnftables_child.py").read_text()
        loader = (ROOT / "nfproxy/dataplane/libnftables.py").read_text()
        assert (child.count(CALL), loader.count("TIMEOUT_S = 120.0")) == (1, 1)
        root = package_copy(
            tmp_path / "copy",
            {
                "dataplane/libnftables_child.py": child.replace(CALL, MISBEHAVE + CALL),
                "dataplane/libnftables.py": loader.replace("TIMEOUT_S = 120.0", "TIMEOUT_S = 1.5"),
                "dataplane/mode": "",
            },
        )
        self._directory = root / "nfproxy/dataplane"
        self.commands = Commands(lab.namespace("node"), tmp_path, root)

    def be(self, mode: str) -> None:
        """Choose what the next child does: "", "crash" or "hang"."""
        (self._directory / "mode").write_text(mode)

    def hung_pid(self) -> int:
        """Wait for a child that hangs, and return its process id."""
        path = self._directory / "hung"
        wait_until(lambda: path.exists() and path.read_text())
        return int(path.read_text())


#: So many endpoints need a chain that is not there yet. One more or two more do not.
NINE = [f"10.244.1.{number}" for number in range(11, 20)]


def served(addresses: list[str]) -> tuple[str, ...]:
    """Return endpoints as `frontends` has them."""
    return tuple(f"{address}:8080" for address in addresses)


@pytest.fixture
def faulty(lab: Lab, tmp_path: Path) -> Faulty:
    """Commands whose libnftables crashes or hangs on demand."""
    return Faulty(lab, tmp_path)


def start_files(manifests: Path) -> None:
    """Write a Node, a Service and its endpoints, each to a file."""
    write(manifests / "node.json", node_object())
    write(manifests / "web.json", service())
    write(manifests / "slice.json", endpoint_slice("web", "10.244.1.5", "10.244.1.6"))


ALL = "NO SERVICE WORKS OVER IPv4 ON THIS NODE until it is repaired"
SOME = "SERVICES FAIL OVER IPv4 ON THIS NODE until it is repaired"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("delete table ip nfproxy", f"deleted table ip nfproxy: {ALL}"),
        (
            "flush ruleset",
            "deleted table ip nfproxy and ip6 nfproxy: "
            "NO SERVICE WORKS ON THIS NODE until it is repaired",
        ),
        ("flush table ip nfproxy", f"deleted rules of chain [a-z-]+ in table ip nfproxy: {SOME}"),
        (
            "add table ip nfproxy { flags dormant; }",
            rf"switched off \(flag dormant\) table ip nfproxy: {ALL}",
        ),
        (
            "flush chain ip nfproxy nat-prerouting\ndelete chain ip nfproxy nat-prerouting",
            f"deleted base chain nat-prerouting of table ip nfproxy: {SOME}",
        ),
        (
            "flush map ip nfproxy frontends",
            "deleted 10.96.0.1:80/tcp of default/web in table ip nfproxy",
        ),
        (
            "delete element ip nfproxy endpoints-tcp { 10.96.0.1 . 80 . 0 }",
            "deleted slot 0 of default/web in table ip nfproxy",
        ),
        (
            "delete element ip nfproxy frontends { 10.96.0.1 . tcp . 80 }\n"
            "flush chain ip nfproxy cluster-tcp-2\ndelete chain ip nfproxy cluster-tcp-2",
            "changed table ip nfproxy",
        ),
    ],
    ids=[
        *("table", "ruleset", "rules", "dormant", "base chain", "frontends", "slot"),
        "frontend and chain",
    ],
)
def test_damage_by_another_process_is_repaired_at_once(
    commands: Commands, manifests: Path, damage: str, said: str
) -> None:
    """
    The kernel names the process. The tables are read and repaired without a change of objects.
    """
    start_files(manifests)
    with commands.daemon(manifests) as daemon:
        commands.nft(damage)
        log = daemon.wait_for("repaired table ip nfproxy")
        assert re.search(rf"nft \(pid \d+.*\) {said}; repairing now", log), log
        assert commands.frontends() == {WEB: ("10.244.1.5:8080", "10.244.1.6:8080")}
        assert commands.run("diff", "-f", manifests).code == 0


def test_elements_that_change_repeatedly_are_repaired_later_each_time(
    commands: Commands, manifests: Path
) -> None:
    """Two programs that both claim an element do not use up the processor."""
    start_files(manifests)
    with commands.daemon(manifests) as daemon:
        before = commands.state()["shared"]
        for number in range(40):
            commands.nft(f"add element ip nfproxy cluster-ips {{ 192.0.2.{number} }}")
        eventually(before, lambda: commands.state()["shared"])
        assert daemon.log.count("after reading the tables") < 20


def test_tables_that_are_deleted_again_and_again_are_there_most_of_the_time(
    commands: Commands, manifests: Path
) -> None:
    """Each deletion is repaired before many more have come, however many there were before."""
    start_files(manifests)
    web = {WEB: ("10.244.1.5:8080", "10.244.1.6:8080")}
    with commands.daemon(manifests) as daemon:
        further = []
        for _ in range(15):
            commands.nft("flush ruleset")
            further.append(0)
            while commands.frontends() != web and further[-1] < MANY:
                time.sleep(EVERY_S)
                if commands.frontends() != web:
                    commands.nft("flush ruleset")
                    further[-1] += 1
        log = daemon.log

    assert max(further) < MANY, further
    assert 1 <= log.count("NO SERVICE WORKS") <= 10  # not one for each


#: Deletions follow each other so fast, and so many may be needed until one is repaired in between:
#: a busy machine is slow. With a back-off of up to half a minute it would be a hundred.
EVERY_S, MANY = 0.3, 20


def test_health_follows_the_tables(faulty: Faulty, manifests: Path) -> None:
    """Load balancers stay away until the repair is committed; nothing restarts nfproxy."""
    web = service(
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        healthCheckNodePort=32000,
        ports=[{"port": 80, "nodePort": 30080}],
    )
    write(manifests / "node.json", node_object())
    write(manifests / "web.json", web)
    write(manifests / "slice.json", endpoint_slice("web", "10.244.1.5", "10.244.1.6"))
    commands = faulty.commands
    node = commands.namespace
    node.run(["ip", "link", "set", "lo", "up"])
    node.run(["ip", "address", "add", "192.168.77.11/24", "dev", "lo"])

    def codes() -> dict[str, int]:
        return {
            "healthz": node.call(ask, "127.0.0.1", 10256, "/healthz")[0],
            "livez": node.call(ask, "127.0.0.1", 10256, "/livez")[0],
            "readyz": node.call(ask, "127.0.0.1", 10256, "/readyz")[0],
            "service": node.call(ask, "192.168.77.11", 32000, "/")[0],
        }

    well = {"healthz": 200, "livez": 200, "readyz": 200, "service": 200}
    ill = {"healthz": 503, "livez": 200, "readyz": 503, "service": 503}
    with commands.daemon(manifests) as daemon:
        eventually(well, codes)
        faulty.be("hang")
        commands.nft("delete table ip nfproxy")
        faulty.hung_pid()
        assert codes() == ill
        said = node.call(ask, "127.0.0.1", 10256, "/readyz")[1]
        assert '"programmed":false' in said
        assert "deleted table ip nfproxy" in said
        metrics = node.call(ask, "127.0.0.1", 10249, "/metrics")[1]
        assert 'nfproxy_in_step{ip_family="IPv4"} 0\n' in metrics
        assert 'nfproxy_in_step{ip_family="IPv6"} 1\n' in metrics
        # A failed repair changes nothing.
        daemon.wait_for("libnftables did not finish within")
        assert codes() == ill
        faulty.be("")
        daemon.wait_for("repaired table ip nfproxy")
        eventually(well, codes)
        metrics = node.call(ask, "127.0.0.1", 10249, "/metrics")[1]
        assert 'nfproxy_in_step{ip_family="IPv4"} 1\n' in metrics


def ask(host: str, port: int, path: str) -> tuple[int, str]:
    """Return code and body of an answer; 0 where nothing answers."""
    asked = http.client.HTTPConnection(host, port, timeout=10)
    try:
        asked.request("GET", path)
        answer = asked.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        asked.close()


def test_other_tables_and_own_changes_cause_no_repair(commands: Commands, manifests: Path) -> None:
    """Own changes include the chains that libnftables loads."""
    start_files(manifests)
    with commands.daemon(manifests) as daemon:
        commands.nft("add table ip other\nadd chain ip other nfproxy")
        addresses = ["10.244.1.5", "10.244.1.6", "10.244.1.7"]
        write(manifests / "slice.json", endpoint_slice("web", *addresses))
        eventually({WEB: tuple(f"{a}:8080" for a in addresses)}, commands.frontends)
        commands.nft("add table ip other2")
        write(manifests / "b.json", service("b", "10.96.0.2"))
        daemon.wait_for("synced", times=3)
        assert daemon.log.count("after reading the tables") == 1
        assert "changed table" not in daemon.log


def test_a_crash_of_libnftables_is_survived(faulty: Faulty, manifests: Path) -> None:
    """It is logged and retried with back-off, and changes that come in meanwhile are not lost."""
    start_files(manifests)
    with faulty.commands.daemon(manifests) as daemon:
        faulty.be("crash")
        write(manifests / "slice.json", endpoint_slice("web", *NINE))
        daemon.wait_for("SIGSEGV", times=2)
        assert faulty.commands.frontends() == {WEB: ("10.244.1.5:8080", "10.244.1.6:8080")}

        write(manifests / "b.json", service("b", "10.96.0.2"))
        log = daemon.wait_for("next try in 1 s")
        assert log.index("0.25 s") < log.index("0.5 s") < log.index("next try in 1 s")
        faulty.be("")
        eventually(
            {WEB: served(NINE), "10.96.0.2:80/tcp": ()},
            faulty.commands.frontends,
        )


def test_a_crash_at_start_is_retried_and_not_reported_as_a_missing_feature(
    faulty: Faulty, manifests: Path
) -> None:
    """Tables of other programs can crash libnftables, and may go away."""
    start_files(manifests)
    faulty.be("crash")
    with faulty.commands.daemon(manifests, ready=False) as daemon:
        log = daemon.wait_for("SIGSEGV", times=2)
        assert "lacks" not in log
        assert "ready" not in log
        faulty.be("")
        daemon.wait_for("ready after")
        assert faulty.commands.frontends() == {WEB: ("10.244.1.5:8080", "10.244.1.6:8080")}


def test_a_libnftables_that_hangs_is_killed_and_retried(faulty: Faulty, manifests: Path) -> None:
    """The sync succeeds once it answers again."""
    start_files(manifests)
    with faulty.commands.daemon(manifests) as daemon:
        faulty.be("hang")
        write(manifests / "slice.json", endpoint_slice("web", *NINE))
        pid = faulty.hung_pid()
        faulty.be("")
        daemon.wait_for("libnftables did not finish within")
        assert not Path(f"/proc/{pid}").exists()
        eventually({WEB: served(NINE)}, faulty.commands.frontends)


def test_no_child_outlives_the_daemon(faulty: Faulty, manifests: Path) -> None:
    """Not even one that hangs, when the daemon is killed."""
    start_files(manifests)
    with faulty.commands.daemon(manifests) as daemon:
        faulty.be("hang")
        write(manifests / "slice.json", endpoint_slice("web", *NINE))
        pid = faulty.hung_pid()
        daemon.process.kill()
        daemon.process.wait()
        wait_until(lambda: not _running(pid))
        assert not _running(pid)


def _running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_second_nfproxy_is_recognised(commands: Commands, manifests: Path) -> None:
    """The first one says so when the second loads its rules."""
    start_files(manifests)
    with commands.daemon(manifests) as first, commands.daemon(manifests) as second:
        first.wait_for("another nfproxy (pid ")
        assert f"another nfproxy (pid {first.process.pid})" not in first.log
        assert second.alive
