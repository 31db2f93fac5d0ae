"""``nfproxy demo``, run as a person runs it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nfproxy.tools.lab import Lab, Namespace

ROOT = Path(__file__).parents[2]
LIMIT_S = 90.0
#: A process that is not root, and may make user namespaces.
UNPRIVILEGED = ("unshare", "--map-user=1000", "--map-group=1000", "--")
OTHER_TABLE = "add table ip nfproxy\nadd chain ip nfproxy of-the-caller\n"


class Demo:
    """A running demo. All processes that it starts inherit a mark in their environment."""

    def __init__(
        self, caller: Namespace, home: Path, *arguments: str, prefix: tuple[str, ...] = ()
    ) -> None:
        self.home = home
        self.home.mkdir()
        self.namespaces: set[int] = set()
        self._caller = os.fstat(caller.fd).st_ino
        self._mark = f"NFPROXY_DEMO_TEST={uuid.uuid4()}"
        name, _, value = self._mark.partition("=")
        (home / "tmp").mkdir()
        environment = os.environ | {
            "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(home / "tmp"), name: value,
        }  # fmt: skip
        with (home / "out").open("wb") as out, (home / "err").open("wb") as err:
            self.process = caller.start(
                [*prefix, sys.executable, "-m", "nfproxy", "demo", *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=home, env=environment,
            )  # fmt: skip

    @property
    def out(self) -> str:
        """Its standard output so far."""
        return (self.home / "out").read_text()

    @property
    def err(self) -> str:
        """Its standard error so far."""
        return (self.home / "err").read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has printed something on standard output."""
        assert eventually(lambda: text in self.out or self.process.poll() is not None)
        assert text in self.out, self.err
        self._look_at_namespaces()

    def finish(self) -> int:
        """Wait for its end and return its exit code."""
        assert eventually(lambda: self._look_at_namespaces() or self.process.poll() is not None)
        return self.process.wait()

    def _look_at_namespaces(self) -> None:
        """Remember the network namespaces that the demo holds open now, by inode."""
        for number in Path(f"/proc/{self.process.pid}/fd").glob("*"):
            with contextlib.suppress(OSError):  # a file that has just been closed
                target = str(number.readlink())
                if target.startswith("net:["):
                    self.namespaces.add(int(target[5:-1]))
        self.namespaces.discard(self._caller)

    def processes(self) -> list[int]:
        """Return the live processes that it started, itself included."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue  # just gone, or a zombie
                if self._mark.encode() in environment.split(b"\0"):
                    found.append(int(entry.name))
        return found

    def daemon(self, node: str) -> int:
        """Return the process of nfproxy on a node."""
        for pid in self.processes():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"run" in words and node.encode() in words:
                return pid
        raise LookupError(node)

    def assert_gone(self, *, files: bool = True) -> None:
        """Assert that it has left no process, no network namespace and no file."""
        assert eventually(lambda: self.processes() == [])
        assert len(self.namespaces) >= 9  # nodes, pods and the client
        assert eventually(lambda: not self.namespaces & namespaces_in_use())
        if files:
            assert list((self.home / "tmp").iterdir()) == []


def eventually(claim: Callable[[], bool]) -> bool:
    """Wait for something to become true."""
    deadline = time.monotonic() + LIMIT_S
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def namespaces_in_use() -> set[int]:
    """Return the network namespaces of all processes, and those with a name, by inode."""
    found = set()
    for path in (*Path("/proc").glob("[0-9]*/ns/net"), *Path("/run/netns").glob("*")):
        with contextlib.suppress(OSError):  # a process or a namespace that has just ended
            found.add(path.stat().st_ino)
    return found


def network_of(caller: Namespace) -> tuple[str, str]:
    """Return what a demo could have changed for its caller: rules and links."""
    ruleset = caller.run(["nft", "list", "ruleset"]).stdout
    return ruleset, caller.run(["ip", "-o", "link"]).stdout


@pytest.fixture(scope="module")
def caller(namespaces_allowed: None) -> Iterator[Namespace]:
    """The network namespace of the demo's caller, with an nfproxy table of its own."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with Lab() as lab:
        namespace = lab.namespace("caller")
        namespace.run(["nft", "-f", "-"], input=OTHER_TABLE)
        yield namespace


@pytest.fixture(scope="module")
def before(caller: Namespace) -> tuple[str, str]:
    """The caller's network before any demo."""
    return network_of(caller)


@pytest.fixture(scope="module")
def demos(
    caller: Namespace, before: object, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Demo]:
    """Two demos at the same time: one with JSON output, and one that stays, without root."""
    homes = tmp_path_factory.mktemp("demos")
    return {
        "json": Demo(caller, homes / "json", "-o", "json"),
        "keep": Demo(caller, homes / "keep", "--keep", prefix=UNPRIVILEGED),
    }


@pytest.fixture(scope="module")
def found(demos: dict[str, Demo]) -> dict[str, Any]:
    """The demo's results as data."""
    demo = demos["json"]
    assert demo.finish() == 0, demo.err
    result = json.loads(demo.out)
    assert isinstance(result, dict)
    return result


def test_every_kind_of_request_has_its_outcome(found: dict[str, Any]) -> None:
    """Requests are answered, refused and dropped in both families, each for its reason."""
    outcomes: dict[str, set[tuple[str, str]]] = {}
    for row in found["requests"]:
        family = "IPv6" if ":" in row["sourceAddress"] else "IPv4"
        for outcome in ("refused", "dropped", "answers"):
            if row[outcome]:
                outcomes.setdefault(row["service"], set()).add((outcome, family))
        seen = set(row["seen"])
        if row["remark"] == "address kept":
            assert seen == {row["sourceAddress"]}
        if row["remark"] == "masqueraded":
            assert seen.isdisjoint({row["sourceAddress"]})
            assert seen

    both = {("answers", "IPv4"), ("answers", "IPv6")}
    assert outcomes == {
        "web": both | {("refused", "IPv4")},
        "shop": both,
        "api": both | {("dropped", "IPv4")},
        "audit": both | {("dropped", "IPv4")},
        "cart": both,
        "search": {("refused", "IPv4"), ("refused", "IPv6")},
        "(none)": {("dropped", "IPv4")},
    }


def test_nothing_fails_while_services_change(found: dict[str, Any]) -> None:
    """New connections during each change succeed, and open ones go on."""
    counts = []
    for change in found["changes"]:
        assert change["connections"] > 0
        assert change["failures"] == []
        counts.append((change["inForceS"] is not None, len(change["answers"])))

    assert counts == [(False, 2), (True, 2), (True, 4), (True, 1), (False, 1), (True, 2)]
    assert found["held"]["connections"] == 20
    assert found["held"]["requests"] > 20
    assert found["held"]["failures"] == []


def test_services_are_elements_and_not_rules(found: dict[str, Any]) -> None:
    """500 more Services add elements, but no chain and no rule."""
    nothing, example, crowded, scaled = found["sizes"]

    assert (nothing["chains"], nothing["rules"], nothing["elements"]) == (0, 0, 0)
    assert crowded["chains"] == example["chains"] > 0
    assert crowded["rules"] == example["rules"] > 0
    # dual-stack: a frontend, a cluster IP and two slots, twice
    assert crowded["elements"] == example["elements"] + 500 * 2 * 4
    assert scaled["elements"] == example["elements"] + 2 * 2
    assert "frontends: 10.96.0.10 . tcp . 80 : goto cluster-tcp-2" in found["rows"]


def test_diff_sees_the_change_of_another_program(found: dict[str, Any]) -> None:
    """The difference is empty, then names the Service, and is empty after nfproxy's next start."""
    drift = found["drift"]

    assert drift["before"].startswith("equal")
    assert "default/web:http" in drift["after"]
    assert drift["mended"].startswith("equal")


def test_nothing_is_left(
    demos: dict[str, Demo], found: dict[str, Any], caller: Namespace, before: object
) -> None:
    """The demo leaves no process, namespace or file, and the caller's network is unchanged."""
    demos["json"].assert_gone()

    assert "of-the-caller" in str(before)
    assert before == network_of(caller)


def test_keep_without_privileges_then_a_failure(demos: dict[str, Demo]) -> None:
    """
    The demo stays and its hints work; when nfproxy dies, it prints the log and fails.

    nfproxy would repair a change before `diff` can see it, so the test stops it meanwhile.
    """
    demo = demos["keep"]
    demo.wait_for("# nfproxy's log on node-1\n")
    assert "\x1b" not in demo.out
    shown = demo.out.partition("keeps running")[0].splitlines()
    assert [line for line in shown if len(line) > 100 and "/manifests" not in line] == []
    hints = [line for line in demo.out.splitlines() if line.startswith(("nsenter", "sudo nsenter"))]

    listing, diff = (next(h for h in hints if word in h) for word in ("nft list", " diff "))
    assert "goto cluster-tcp-2" in in_shell(listing, 0)
    assert in_shell(diff, 0).startswith("equal: ")
    enter = shlex.split(listing.partition(" nft ")[0])
    command = ["nft", "flush", "map", "ip", "nfproxy", "frontends"]
    os.kill(demo.daemon("node-1"), signal.SIGSTOP)
    subprocess.run([*enter, *command], check=True)
    assert "default/web:http" in in_shell(diff, 1)

    os.kill(demo.daemon("node-1"), signal.SIGKILL)
    assert demo.finish() == 1
    assert "The end of nfproxy's log on node-1:" in demo.err
    assert "INFO node node-1" in demo.err
    assert "nfproxy: error: nfproxy on node-1 exited" in demo.err
    demo.assert_gone()


def in_shell(command: str, code: int) -> str:
    """Run a command in a shell and return what it prints."""
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_demo_cleans_up(
    caller: Namespace, before: object, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """A signal in the middle ends the demo and everything that it started."""
    demo = Demo(caller, tmp_path / "demo")
    demo.wait_for("nfproxy runs on both nodes")
    assert len(demo.processes()) >= 3

    demo.process.send_signal(number)

    assert code == demo.finish()
    demo.assert_gone(files=number != signal.SIGKILL)
    assert before == network_of(caller)
