"""A node with everything that faults need: a daemon that is restarted, changes, and traffic."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
    wait_until,
)
from support.responders import Responders
from support.traffic import Traffic

from nfproxy.tools.lab import Cluster

RATE = 40.0  # changes a second
CONNECTIONS = 12_000  # of each stream; source ports are not used twice
REPAIR_S = 20.0
SETTLE_S = float(
    __import__("os").environ.get("SETTLE_S", 90)
)  # back-off after faults in a row goes up to half a minute
PORTS = range(8080, 8085)

MOVING = "10.96.0.2"


def inject(site: Site, scratch: Path) -> Path:
    """Let a site's commands have faults inside; return the directory that names them."""
    program = (ROOT / "tests/chaos/injection.py").read_text()
    root = package_copy(scratch / "copy", {"__main__.py": program})
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
    ) -> None:
        """Put the objects that stay, and let their endpoints answer."""
        self.injected = inject(site, scratch)
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
            endpoint_slice("moving", moving[0].ipv4),
        )

    def may_lie_about(self, item: Mapping[str, Any]) -> bool:
        """Return whether an object is none of a Service that connections are made to."""
        return item["metadata"]["name"] not in ("steady", "moving")

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
        self.logs.append(self.daemon.log)
        self._start()

    def look_after(self) -> None:
        """Restart a daemon that has ended by itself, as a kubelet does."""
        if not self.daemon.alive:
            if not self.may_end:
                self.ended.append(self.daemon.log)
            self._restart()

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
    def tables_changed(self) -> Iterator[None]:
        """Expect that connections fail from here until the daemon has repaired its tables."""
        began, readings = time.monotonic(), self._readings()
        yield
        wait_until(lambda: self._readings() > readings or not self.daemon.alive, REPAIR_S)
        self.look_after()
        wait_until(self._in_step, REPAIR_S)
        self._changed.append(Disturbance(began, time.monotonic()))

    def _readings(self) -> float:
        return self._metric("nfproxy_resyncs_total")

    def _in_step(self) -> bool:
        return self._metric("nfproxy_in_step") >= 2  # both families

    def _metric(self, name: str) -> float:
        try:
            return self.site.metric(name)
        except (OSError, ValueError):
            return 0.0  # the daemon has just been started, or has no descriptors

    def settled(self) -> str:
        """Wait until kernel and API server match; return what still differs."""
        said: list[str] = []

        def equal() -> bool:
            self.look_after()
            done = self.site.diff()
            said.append(done.out if done.code == 0 else done.out + done.err)
            return done.code == 0

        wait_until(equal, SETTLE_S)
        return said[-1]

    def memory(self, which: str = "VmRSS") -> int:
        """Return the memory of the daemon, in bytes; VmHWM is the most it had."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return int(status.partition(f"{which}:")[2].split()[0]) * 1024

    # -- traffic ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def traffic(self, seconds: float) -> Iterator[list[Traffic]]:
        """Send to both Services inside."""
        rate = max(1, min(40, int(CONNECTIONS / (3 * seconds + SETTLE_S))))
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
