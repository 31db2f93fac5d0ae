"""The demo, in order: network, nfproxy, requests, changes under traffic, the kernel, drift."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from nfproxy.model.addresses import Family
from nfproxy.tools.demo import scenario
from nfproxy.tools.demo.nodedaemon import NodeDaemon
from nfproxy.tools.demo.results import (
    DemoError,
    Drift,
    HeldConnections,
    RequestResult,
    Results,
    ServiceChange,
    TableSize,
)
from nfproxy.tools.demo.screen import Screen
from nfproxy.tools.demo.tableview import Tables
from nfproxy.tools.demo.workspace import Workspace
from nfproxy.tools.lab import Cluster, Pod, Responders
from nfproxy.tools.lab.traffic import Traffic

_WEB = ("10.96.0.10", "fd00:10:96::10")
_PORT, _POD_PORT = 80, 8080
_SCALABLE = ("pod-1-1", "pod-2-1", "pod-1-2", "pod-2-2")
_AT_FIRST = 2
_CROWD = 500
_HELD_EACH = 5
_RATE = 200  # new connections a second from each host
_TRAFFIC_S = 0.5  # for which connections run after each change
_IN_FLIGHT = 10  # connections of each host: when so many more have ended, earlier ones have, too
_IN_FORCE_S = 15.0

PICTURE = """\
pod-1-1  pod-1-2  pod-1-3        pod-2-1  pod-2-2  pod-2-3
   └────────┼────────┘              └────────┼────────┘
         node-1                           node-2                client
      192.168.77.11                    192.168.77.12        192.168.77.100
            └────────────────────────────────┴────────────────────┘
Each of them is a network namespace. Pods have the addresses 10.244.1.11 to 10.244.1.13 and
10.244.2.11 to 10.244.2.13. All have an IPv6 address, too: fd00:10:244:1::11 is pod-1-1, fd77::11
is node-1, and fd77::100 is the client."""


class Story:
    """
    Builds the cluster, runs the demo in it and prints what happens; `stack` removes the cluster.

    The main thread uses it.
    """

    def __init__(self, screen: Screen, stack: ExitStack) -> None:
        self._screen = screen
        self._began = time.monotonic()
        directory = stack.enter_context(TemporaryDirectory(prefix="nfproxy-demo-"))
        self.workspace = Workspace(Path(directory))
        screen.heading("A cluster on this machine")
        screen.say(PICTURE)
        screen.heading("Setting up")
        with screen.step("building the network") as done:
            self.cluster = stack.enter_context(Cluster(pods_per_node=3))
            servers = stack.enter_context(Responders())
            for pod in self.cluster.pods:
                servers.listen(pod, _POD_PORT)
            self.tables = [stack.enter_context(Tables(node)) for node in self.cluster.nodes]
            done("built the network: 2 nodes, 6 pods with a server each, a client")
        self.proxies = [NodeDaemon(node, self.workspace) for node in self.cluster.nodes]
        self._sizes: list[TableSize] = []
        self._answers: Counter[str] = Counter()  # to connections during changes, by pod

    def run(self) -> Results:
        """Do and show everything except the clean-up. Raises DemoError."""
        self._start()
        requests = self._requests()
        changes, held = self._changes()
        self._show_sizes()
        rows = self._show_service()
        drift = self._drift()
        return Results(
            requests=requests,
            changes=tuple(changes),
            held=held,
            sizes=tuple(self._sizes),
            rows=rows,
            drift=drift,
            seconds=round(time.monotonic() - self._began, 1),
        )

    def clean_up(self) -> None:
        """Stop nfproxy on the nodes and remove its tables with its own command."""
        with self._screen.step("running nfproxy cleanup on both nodes") as done:
            for proxy, tables in zip(self.proxies, self.tables, strict=True):
                proxy.stop()
                result = proxy.call("cleanup")
                left = tables.size("after cleanup")
                if result.returncode or left.chains:
                    raise DemoError(
                        f"nfproxy cleanup on {proxy.node.name} left {left.chains} chains "
                        f"(exit code {result.returncode}) {result.stderr.strip()}"
                    )
            done("nfproxy cleanup removed its tables from both nodes")

    def check(self) -> None:
        """Raise DemoError where nfproxy has exited on a node."""
        for proxy in self.proxies:
            proxy.check()

    def ends_of_logs(self) -> str:
        """Return the end of nfproxy's log on each node."""
        texts = [(proxy.node.name, proxy.end_of_log()) for proxy in self.proxies]
        return "\n".join(f"The end of nfproxy's log on {name}:\n{text}" for name, text in texts)

    def _start(self) -> None:
        self._sizes.append(self.tables[0].size("before nfproxy runs"))
        with self._screen.step("starting nfproxy on both nodes") as done:
            for proxy in self.proxies:
                proxy.start()
            for proxy in self.proxies:
                proxy.wait()
            files = len(list(self.workspace.manifests.iterdir()))
            done(f"nfproxy runs on both nodes and has programmed both kernels from {files} files")
        self._sizes.append(self.tables[0].size("with the example Services"))

    def _requests(self) -> tuple[RequestResult, ...]:
        with self._screen.step("sending requests to Services") as done:
            results = scenario.ask_all(self.cluster)
            total = sum(sum(row.answers.values()) + row.refused + row.dropped for row in results)
            done(f"made {total} connections; each ended as expected")
        self._screen.heading("Which pod answers, and which client address it sees")
        self._screen.requests(results, scenario.ABOUT, scenario.names_by_address(self.cluster))
        return results

    def _changes(self) -> tuple[list[ServiceChange], HeldConnections]:
        self._screen.heading(
            "Changes while connections run",
            "from the client, a node and pods to web, IPv4 and IPv6",
        )
        cluster = self.cluster
        paths = [
            (cluster.client, _WEB[0], _PORT),
            (cluster.pod(1, 3), _WEB[1], _PORT),
            (cluster.pod(2, 3), _WEB[0], _PORT),
            (cluster.nodes[1], _WEB[1], _PORT),
        ]
        with self._screen.step("changing Services under traffic") as done:
            traffic = [Traffic(*path, rate=_RATE, held=_HELD_EACH) for path in paths]
            with ExitStack() as stack:
                for one in traffic:
                    stack.enter_context(one)
                changes = self._make_changes(traffic)
            held = HeldConnections(
                connections=len(paths) * _HELD_EACH,
                requests=sum(one.echoes for one in traffic),
                failures=_failures(traffic),
            )
            total = sum(change.connections for change in changes)
            done(f"changed manifests while the hosts made {total:,} connections")
        self._screen.changes(changes, held)
        if held.failures:
            raise DemoError(f"a connection failed: {held.failures[0]}")
        return changes, held

    def _make_changes(self, traffic: Sequence[Traffic]) -> list[ServiceChange]:
        return [
            self._watch(traffic, f"web has {_AT_FIRST} endpoints", _AT_FIRST),
            self._crowd(traffic),
            self._scale(traffic, 4, f"web scaled up, {_AT_FIRST} to 4"),
            self._scale(traffic, 1, "web scaled down, 4 to 1"),
            self._restart(traffic),
            self._scale(traffic, _AT_FIRST, f"web scaled up, 1 to {_AT_FIRST}"),
        ]

    def _scale(self, traffic: Sequence[Traffic], count: int, what: str) -> ServiceChange:
        began = time.monotonic()
        self.workspace.scale(self._pods(count))
        self._until(what, lambda t: all(t.endpoints(address, _PORT) == count for address in _WEB))
        in_force_s = time.monotonic() - began
        if count > _AT_FIRST:
            self._sizes.append(
                self.tables[0].size(f"without those, web scaled up to {count} endpoints")
            )
        return self._watch(traffic, what, count, in_force_s)

    def _crowd(self, traffic: Sequence[Traffic]) -> ServiceChange:
        what = f"{_CROWD} more Services"
        usual = self.tables[0].frontends()
        began = time.monotonic()
        self.workspace.add_crowd(_CROWD)
        self._until(what, lambda t: t.frontends()[0] == usual[0] + 2 * _CROWD)
        in_force_s = time.monotonic() - began
        self._sizes.append(
            self.tables[0].size(
                f"with {_CROWD} more Services, dual-stack, {_AT_FIRST} endpoints each"
            )
        )
        change = self._watch(traffic, what, _AT_FIRST, in_force_s)
        self.workspace.remove_crowd()
        self._until(f"{what} removed", lambda t: t.frontends() == usual)
        return change

    def _restart(self, traffic: Sequence[Traffic]) -> ServiceChange:
        self.proxies[0].stop()
        self.proxies[0].start()
        self.proxies[0].wait()
        return self._watch(traffic, "nfproxy restarts on node-1", 1)

    def _pods(self, count: int) -> list[Pod]:
        by_name = {pod.name: pod for pod in self.cluster.pods}
        return [by_name[name] for name in _SCALABLE[:count]]

    def _until(self, what: str, holds: Callable[[Tables], bool]) -> None:
        """Return once `holds` is true on both nodes. Raises DemoError."""
        deadline = time.monotonic() + _IN_FORCE_S
        for tables in self.tables:
            while not holds(tables):
                self.check()
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"{what}: not in the kernel of {tables.node.name} within {_IN_FORCE_S:g} s"
                    )
                time.sleep(0.002)

    def _watch(
        self, traffic: Sequence[Traffic], what: str, count: int, in_force_s: float | None = None
    ) -> ServiceChange:
        """Let connections run for a while; count them and those made during the change."""
        for stream in traffic:
            stream.wait_for(_IN_FLIGHT)
        during = _answers(traffic)
        time.sleep(_TRAFFIC_S)
        answers = _answers(traffic)
        after, connections = answers - during, (answers - self._answers).total()
        self._answers = answers
        failures = _failures(traffic)
        if failures:
            raise DemoError(f"{what}: {len(failures)} connections failed; {failures[0]}")
        if set(after) != set(_SCALABLE[:count]):
            pods = ", ".join(sorted(after)) or "no pod"
            raise DemoError(f"{what}: answers came from {pods}")
        return ServiceChange(
            what=what,
            in_force_s=in_force_s,
            connections=connections,
            failures=failures,
            answers=dict(sorted(after.items())),
        )

    def _show_sizes(self) -> None:
        self._screen.heading("Size of the ruleset on node-1", "both families")
        self._screen.sizes(self._sizes)

    def _show_service(self) -> tuple[str, ...]:
        rows = self.tables[0].rows(_WEB[0], _PORT)
        chain = f"cluster-tcp-{_AT_FIRST}"
        self._screen.heading("One Service in the kernel", "the elements of web, IPv4, on node-1")
        self._screen.rows(rows)
        self._screen.say(f"and one chain, which all Services with {_AT_FIRST} endpoints share:")
        self._screen.say(self.tables[0].chain(Family.IPV4, chain))
        return tuple(f"{row.map}: {row.element}" for row in rows)

    def _drift(self) -> Drift:
        """Delete an element of an endpoint while nfproxy is stopped; show diff and repair."""
        proxy, tables = self.proxies[0], self.tables[0]
        self._screen.heading("Another program changes the table", "node-1, nfproxy is stopped")
        command = f"delete element ip nfproxy endpoints-tcp {{ {_WEB[0]} . {_PORT} . 1 }}"
        with self._screen.step("comparing the manifests with the kernel") as done:
            proxy.stop()
            before = proxy.diff(0)
            tables.run_nft(command)
            after = proxy.diff(1)
            proxy.start()
            proxy.wait()
            repair = proxy.first_sync()
            mended = proxy.diff(0)
            done("compared the manifests with the kernel three times")
        diff, run = (_shown(["nfproxy", *proxy.arguments(name)]) for name in ("diff", "run"))
        for line, output in (
            (diff, before),
            (f"nft {command}", ""),
            (diff, after),
            (f"{run} &", repair),
            (diff, mended),
        ):
            self._screen.say(f"$ {line}", "bold")
            self._screen.say(output.replace("\t", "  "))
        return Drift(before, f"nft {command}", after, mended)


def _shown(command: Sequence[str]) -> str:
    """Return a command as a shell takes it, in lines that fit."""
    text = shlex.join(command)
    lines = textwrap.wrap(text, 88, break_long_words=False, break_on_hyphens=False)
    return " \\\n    ".join(lines)


def _answers(traffic: Sequence[Traffic]) -> Counter[str]:
    """Return how often each pod has answered a new connection so far."""
    return sum((one.answers for one in traffic), Counter[str]())


def _failures(traffic: Sequence[Traffic]) -> tuple[str, ...]:
    return tuple(failure.reason for one in traffic for failure in one.failures)
