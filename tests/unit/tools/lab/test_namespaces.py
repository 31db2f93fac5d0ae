"""What a lab leaves behind, and how a person enters it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.packets.sending import Protocol, probe
from support.responders import Responders
from support.traffic import Traffic

from nfproxy.errors import MissingFeatureError
from nfproxy.host import privatenamespace
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.lab import Cluster, Host, Lab, namespaces

ROOT = Path(__file__).parents[3]


@pytest.fixture
def witness(namespaces_allowed: None) -> Iterator[Host]:
    """A host in its own lab. The kernel removes a veth pair when either end goes."""
    with Lab() as lab:
        yield Host(lab.namespace("witness"))


def interfaces(host: Host) -> list[str]:
    """Return the names of the host's interfaces."""
    return [str(link.get("ifname")) for link in host.netlink(lambda ip: list(ip.get_links()))]


def eventually(claim: Callable[[], bool]) -> bool:
    """Wait until something holds, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def open_files() -> set[str]:
    """Return the open files of this process."""
    targets = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            targets.add(f"{link.name} {link.readlink()}")
        except FileNotFoundError:
            continue  # the one this listing used
    return targets


def use(cluster: Cluster, witness: Host) -> subprocess.Popen[bytes]:
    """Use interfaces, sockets and programs in a cluster; return a running program."""
    for host in cluster.hosts:
        witness.connect(f"to-{host.name}", host, "witness")
    process = cluster.client.namespace.start(["sh", "-c", "sleep 600 & wait"])
    assert cluster.client.namespace.run(["echo", "hello"]).stdout == "hello\n"
    return process


def test_close_leaves_nothing(witness: Host) -> None:
    """After closing there are no namespaces, programs, threads or open files."""
    files, threads = open_files(), set(threading.enumerate())
    with Cluster() as cluster, Responders() as responders:
        process = use(cluster, witness)
        for protocol in Protocol:
            responders.listen(cluster.client, 80, protocol)
        with Traffic(cluster.pod(1, 1), cluster.client.ipv4, 80, rate=50, held=1) as traffic:
            traffic.wait_for(3)
        assert len(interfaces(witness)) == 1 + len(cluster.hosts)

    assert process.returncode is not None
    assert eventually(lambda: interfaces(witness) == ["lo"])
    assert files == open_files()
    assert threads == set(threading.enumerate())


def test_exception_leaves_nothing(witness: Host) -> None:
    """The same holds after an exception in the middle."""
    files, threads = open_files(), set(threading.enumerate())
    started = []

    def break_off() -> None:
        with Cluster() as cluster, Responders() as responders:
            started.append(use(cluster, witness))
            responders.listen(cluster.client, 80)
            with Traffic(cluster.pod(1, 1), cluster.client.ipv4, 80, held=1):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert started[0].returncode is not None
    assert eventually(lambda: interfaces(witness) == ["lo"])
    assert files == open_files()
    assert threads == set(threading.enumerate())


def test_failed_build_leaves_nothing(witness: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that cannot be completed removes its parts."""
    files, threads = open_files(), set(threading.enumerate())

    def fail(cluster: Cluster, *_: object) -> None:
        witness.connect("to-node", cluster.nodes[0], "witness")
        raise KeyboardInterrupt

    monkeypatch.setattr(Cluster, "add_pod", fail)
    with pytest.raises(KeyboardInterrupt):
        Cluster()
    assert eventually(lambda: interfaces(witness) == ["lo"])
    assert files == open_files()
    assert threads == set(threading.enumerate())


def test_host_network_is_left_alone(namespaces_allowed: None) -> None:
    """This thread stays in its namespace, and no lab shares it."""

    def links() -> str:
        return Path("/proc/thread-self/net/dev").read_text().partition("lo:")[0]

    before = (Path("/proc/thread-self/ns/net").readlink(), links())
    with Cluster() as cluster:
        inside = {Path(f"/proc/self/fd/{one.fd}").readlink() for one in cluster.lab.namespaces}
        assert len(inside) == 8
        assert before[0] not in inside
        assert before == (Path("/proc/thread-self/ns/net").readlink(), links())


def test_enter_command(namespaces_allowed: None) -> None:
    """A person can enter a host with the command it names."""
    with Cluster(nodes=1, pods_per_node=1) as cluster:
        for host, interface in ((cluster.client, "eth0:"), (cluster.underlay, "switch:")):
            # a person comes from outside; we may be in the user namespace already
            enter = [
                word
                for word in host.namespace.enter_command()
                if not word.startswith(("--user", "--preserve"))
            ]
            seen = subprocess.run(
                [*enter, "cat", "/proc/net/dev"], check=True, capture_output=True, text=True
            )
            assert interface in seen.stdout


def test_failed_program_says_why(witness: Host) -> None:
    """The error of a failing program quotes its output."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        witness.namespace.run(["sh", "-c", "echo broken >&2; exit 3"])
    assert caught.value.returncode == 3
    assert caught.value.__notes__ == ["in witness: broken\n"]
    assert witness.namespace.run(["false"], check=False).returncode == 1


def test_stubborn_program_is_killed(witness: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ignores SIGTERM is killed."""
    monkeypatch.setattr(namespaces, "STOP_SECONDS", 0.1)
    command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]
    process = witness.namespace.start(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    witness.namespace.stop(process)
    assert process.returncode == -signal.SIGKILL


CHILD = """
import time
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.lab import Cluster
{before}
print(enter_private_namespace(), flush=True)
with Cluster() as cluster:
    client = cluster.client.namespace
    started = client.start(["sleep", "600"])
    print(started.pid, flush=True)
    print(*client.enter_command(), flush=True)
    try:
        print(client.run(["cat", "/proc/net/dev"]).stdout.count("eth0"), flush=True)
        time.sleep(600)
    finally:
        print("leaving", flush=True)
"""

# Root becomes an ordinary user; a process that changed its user is not dumpable (PR_SET_DUMPABLE
# is 4), and its files in /proc are root's. In a user namespace without such a user, root
# becomes one in a further user namespace, and gives up the capabilities it has there.
DROP_ROOT = """
import ctypes, os, struct
from pathlib import Path
libc = ctypes.CDLL(None)
if os.geteuid() == 0:
    try:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        assert libc.prctl(4, 1, 0, 0, 0) == 0
    except OSError:
        assert libc.unshare(0x10000000) == 0
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("65534 0 1")
        Path("/proc/self/gid_map").write_text("65534 0 1")
        assert libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24)) == 0
"""


def child(before: str = "") -> subprocess.Popen[bytes]:
    """Start a process that builds a cluster, prints facts about it and waits."""
    code = CHILD.format(before=before)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_end_of_the_process(number: signal.Signals, namespaces_allowed: None) -> None:
    """Ctrl-C ends everything in order; a killed process leaves no program behind either."""
    process = child()
    assert process.stdout is not None
    with process.stdout as lines:
        assert lines.readline() == b"False\n"
        started = int(lines.readline())
        assert lines.readline().startswith(b"nsenter --net=/proc/")
        assert lines.readline() == b"1\n"
        assert alive(started)
        process.send_signal(number)
        rest = lines.read()
    process.wait()

    assert (rest == b"leaving\n") == (number is signal.SIGINT)
    assert eventually(lambda: not alive(started))


@pytest.mark.namespaces
def test_without_root() -> None:
    """An ordinary user gets a lab, in a user namespace, and can enter it."""
    process = child(DROP_ROOT)
    assert process.stdout is not None
    with process.stdout as lines:
        try:
            assert lines.readline() == b"True\n"
            started = int(lines.readline())
            enter = lines.readline().decode().split()
            assert lines.readline() == b"1\n"
            assert "--preserve-credentials" in enter
            seen = subprocess.run([*enter, "cat", "/proc/net/dev"], check=True, capture_output=True)
            assert b"eth0:" in seen.stdout
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()

    assert eventually(lambda: not alive(started))


def test_refusal_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where user namespaces are forbidden, the error says what to do."""

    def refuse(flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(privatenamespace, "_entered", False)
    monkeypatch.setattr(privatenamespace, "unshare", refuse)
    with pytest.raises(MissingFeatureError, match=r"Operation not permitted.*as root.*sysctl"):
        enter_private_namespace()
    assert not privatenamespace.in_private_namespace()


def test_probe_from_worker_does_not_block(witness: Host) -> None:
    """A probe to the host itself gets its answer although one thread does all the work inside."""
    witness.add_address("192.0.2.1/24", "lo")
    with Responders() as responders:
        responders.listen(witness, 80, addresses=["192.0.2.1"])
        assert probe(witness, "192.0.2.1", 80).by == "witness"
