"""A node with everything that faults need: a daemon that is restarted, changes, and traffic."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from support.apiserver.churn import Churn, at_rate
from support.kernel.foreignchanges import ADDRESS
from support.processes.apidaemon import Site
from support.processes.commands import (
    ROOT,
    Commands,
    Daemon,
    endpoint_slice,
    node_object,
    package_copy,
    service,
    waits_for,
)
from support.responders import Responders
from support.traffic import Traffic

from nfproxy.tools.lab import Cluster

RATE = 40.0  # changes a second
CONNECTIONS = 12_000  # of each stream; source ports are not used twice
SETTLE_S = 90.0  # back-off after faults in a row goes up to half a minute
PORTS = range(8080, 8085)

MOVING = "10.96.0.2"
NOTICED, READINGS = "nfproxy_foreign_changes_total", "nfproxy_resyncs_total"
UNCHANGED, EXTERNAL = "unchanged", "198.51.100.77"
IN_STEP = "equal: "
GROWTH = 8 << 20  # bytes that memory may vary by
MOST = 300 << 20  # bytes, while a list is as long as it may be
TRACE = "Traceback"
BETWEEN_S = 0.3  # so long on average nothing goes wrong


def inject(site: Site, scratch: Path, files: Mapping[str, str] | None = None) -> Path:
    """
    Let a site's commands have faults inside; return the directory that names them.

    `files` are parts of the package with another text, by their path in it.
    """
    program = (ROOT / "tests/chaos/injection.py").read_text()
    root = package_copy(scratch / "copy", {"__main__.py": program, **(files or {})})
    site.commands = Commands(site.namespace, scratch, root)
    faults = root / "nfproxy/faults"
    faults.mkdir()
    return faults


class Stage:
    """
    Node-1 of a cluster: `steady` keeps its ten endpoints, `moving` never has none.

    `steps` says what was done, for the reader of a failure. `ended` has the log of each daemon that
    ended without a fault that may end it.
    """

    def __init__(
        self,
        site: Site,
        cluster: Cluster,
        responders: Responders,
        scratch: Path,
        seed: int,
        files: Mapping[str, str] | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        """Put the objects that stay, and let their endpoints answer; for `files` see `inject`."""
        self.injected = inject(site, scratch, files)
        self._settle_s = settle_s
        self.site, self.api, self.namespace = site, site.api, site.namespace
        self.random = random.Random(seed)
        pods = list(cluster.pods)
        self._steady, moving = (pods[0], pods[3]), (pods[1], pods[2])
        for pod in pods:
            for port in PORTS:
                responders.listen(pod, port)
        self.churn = Churn(site, [pod.ipv4 for pod in moving], seed)
        self.wanted = {
            ADDRESS: {pod.name for pod in self._steady},
            MOVING: {pod.name for pod in moving},
        }
        self.client = cluster.client
        self.steps: list[str] = []
        self.ended: list[str] = []
        self.logs: list[str] = []
        self.may_end = False
        self._changed: list[Disturbance] = []
        self._due = at_rate(RATE, time.monotonic)
        self.api.apply(
            node_object(),
            service("steady", ADDRESS),
            *(
                endpoint_slice(
                    "steady",
                    *(pod.ipv4 for pod in self._steady),
                    name=f"steady-{port}",
                    port=port,
                )
                for port in PORTS
            ),
            service("moving", MOVING),
            service("shapes", "10.96.0.3"),
            service(UNCHANGED, "10.96.0.4", externalIPs=[EXTERNAL]),
            endpoint_slice("moving", moving[0].ipv4),
        )

    # -- the daemon -------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep a daemon running inside."""
        self._stack = contextlib.ExitStack()
        self._start(ready=True)
        try:
            yield
        finally:
            self._stack.close()
            self.logs.append(self.daemon.log)

    def _start(self, *, ready: bool = False) -> None:
        self.daemon: Daemon = self._stack.enter_context(self.site.daemon(ready=ready))

    def end_daemon(self, number: signal.Signals) -> None:
        """End the daemon by a signal, and start another one."""
        if self.daemon.alive:
            self.daemon.end(number)
        self._restart()

    def _restart(self) -> None:
        self._stack.close()
        if not self.may_end:
            self.logs.append(self.daemon.log)
        self._start()

    def look_after(self) -> None:
        """Restart a daemon that has ended by itself, as a kubelet does."""
        if not self.daemon.alive:
            if not self.may_end:
                self.ended.append(self.daemon.log)
            self._restart()

    # -- a run ------------------------------------------------------------------------------

    def endure(self, faults: Sequence[Act], seconds: float) -> None:
        """Let faults happen in a random order, and check what must hold all the time or after."""
        with self.running(), self.traffic(seconds) as streams:
            began = time.monotonic()
            order: list[Act] = []
            while time.monotonic() < began + seconds:
                order = order or self.random.sample(faults, len(faults))
                act = order.pop()
                self.steps.append(f"{time.monotonic() - began:6.2f} s {act.__name__}")
                act(self)
                self.live(self.random.expovariate(1 / BETWEEN_S))
            self.assert_settled()
            before = self.memory()
            self.live(seconds / 5)
            assert self.memory() - before < GROWTH
            assert self.memory("VmHWM") < MOST
            self.assert_settled()
            for stream in streams:
                stream.wait_for(20)
        for stream in streams:
            assert not (failed := self.unexcused(stream)), failed
        answers = [set(stream.answers) for stream in streams]
        assert answers == list(self.wanted.values()), answers
        assert not self.ended, self.ended[0][-3000:]
        assert not (traces := [log for log in self.logs if TRACE in log]), traces[0][-3000:]

    # -- time passes ------------------------------------------------------------------------

    def live(self, seconds: float) -> None:
        """Let time pass with changes of objects."""
        until = time.monotonic() + seconds
        self._due = at_rate(RATE, time.monotonic)
        while time.monotonic() < until:
            self.look_after()
            if self._due():
                self.churn.change()
            else:
                time.sleep(0.2 / RATE)

    @contextlib.contextmanager
    def tables_changed(self) -> Iterator[Callable[[str], None]]:
        """
        Give what changes the tables, by an nft script that need not apply.

        Connections may fail from there until the daemon has noticed that, and repaired its tables.
        """
        applied: list[str] = []

        def change(script: str) -> None:
            done = self.namespace.run(["nft", "-f", "-"], input=script, check=False)
            applied.extend([script] * (done.returncode == 0))

        def noticed() -> float:  # where announcements were lost, the tables are read at least
            return self.metric(NOTICED) + self.metric(READINGS, reason="foreign")

        def is_noticed() -> bool:
            return noticed() > known or not self.daemon.alive

        self.waits_for(self.is_in_step)
        began, known = time.monotonic(), noticed()
        yield change
        assert not applied or self.waits_for(is_noticed), (
            f"not noticed: {applied}\n{self.daemon.log[-2000:]}"
        )
        self.waits_for(self.is_in_step)
        self._changed.append(Disturbance(began, time.monotonic()))

    def is_in_step(self) -> bool:
        """Return whether a daemon has programmed both families; restart one that has ended."""
        self.look_after()
        return self.metric("nfproxy_in_step") >= 2

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric of the daemon, see `Site.metric`; 0 where it cannot be asked."""
        try:
            return self.site.metric(name, **labels)
        except (OSError, ValueError):
            return 0.0  # the daemon has just been started, or has no descriptors

    @contextlib.contextmanager
    def injects(self, name: str, text: str) -> Iterator[None]:
        """Let a fault of `injection.py` happen inside; assert that it does."""
        (self.injected / name).write_text(text)
        yield
        assert self.waits_for(lambda: self.injected_text(name) != text), f"{name}: not met"
        (self.injected / name).unlink(missing_ok=True)

    def injected_text(self, name: str) -> str:
        """Return what is left of a fault."""
        try:
            return (self.injected / name).read_text()
        except FileNotFoundError:
            return ""

    def waits_for(self, condition: Callable[[], bool]) -> bool:
        """Return whether a condition comes to hold."""
        return waits_for(condition, self._settle_s)

    def settled(self) -> str:
        """Wait until kernel and API server match; return what still differs."""
        said: list[str] = []

        def equal() -> bool:
            self.look_after()
            done = self.site.diff()
            said.append(done.out if done.code == 0 else f"exit {done.code}: {done.out}{done.err}")
            return done.code == 0

        waits_for(equal, self._settle_s)
        return said[-1]

    def assert_settled(self) -> None:
        """Assert that kernel and API server come to match."""
        said = self.settled()
        assert said.startswith(IN_STEP), f"{said}\n{self.daemon.log[-2000:]}"

    def memory(self, which: str = "VmRSS") -> int:
        """Return the memory of the daemon, in bytes; VmHWM is the most it had."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return int(status.partition(f"{which}:")[2].split()[0]) * 1024

    # -- traffic ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def traffic(self, seconds: float) -> Iterator[list[Traffic]]:
        """Send to both Services inside."""
        rate = max(1, min(40, int(CONNECTIONS / (3 * seconds + self._settle_s))))
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(Traffic(self.client, address, 80, rate=rate, held=held))
                for address, held in ((ADDRESS, 8), (MOVING, 0))
            ]

    def unexcused(self, traffic: Traffic) -> list[str]:
        """
        Return the failures at moments at which no other process had changed the tables.

        When a connection that stays open has lost packets is not known before its end.
        """
        return [
            f"{failure.at_s:.2f} s: {failure.reason}"
            for failure in traffic.failures
            if not (self._changed and failure.reason.endswith("packets were lost"))
            and not any(
                one.began - 0.1 <= failure.at_s + traffic.began_s <= one.ended + 1.0
                for one in self._changed
            )
        ]


class Disturbance(NamedTuple):
    """When another process changed the tables, and when they were repaired (monotonic)."""

    began: float
    ended: float


#: What a fault does. It returns when the fault is over.
Act = Callable[[Stage], None]
