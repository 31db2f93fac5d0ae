"""
What ``explain``, ``services``, ``status`` and the web page cost, and what they cost the daemon.

Commands are processes of their own, compiled modules included, as an operator starts them. While
`services` runs, and while the web page is asked for, the health page is asked again and again: its
slowest answer shows how long the daemon's event loop was delayed.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from socket import AF_INET, SOCK_STREAM
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import machine, objects
from bench.daemon import EndpointChanges
from bench.objects import Size
from bench.running import NODE, compiled, daemon, serve
from bench.targets import Target, at_most
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.lab import Lab, Namespace

LARGE = Size(10_000, 10)
_HEALTH_PORT, _PAGE_PORT = 10256, 10249
_KEPT_S = 2.1  # a list is kept for two seconds
_CHANGE_S = 0.1  # between two changes, while planning is looked at


class Measured(msgspec.Struct, frozen=True):
    """
    Seconds that each run of a command took, and the slowest answers of the health page.

    `page` are those of the web page's list, `service_page` those of a Service's page,
    `health_page_s` is the slowest answer meanwhile. `planning_idle_s` and `planning_busy_s` are
    the slowest changes of an endpoint, from the planning thread's start to the kernel: at rest,
    and while commands and pages look at the daemon.
    """

    size: str
    explain_node: list[float]
    explain_api: list[float]
    services: list[float]
    health_idle_s: float
    health_busy_s: float
    status: list[float]
    page: list[float]
    service_page: list[float]
    health_page_s: float
    planning_idle_s: float
    planning_busy_s: float
    resident: int
    resident_after: int


def measure(size: Size, repeats: int) -> Measured:
    """Measure one size."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="nfproxy-bench-") as scratch:
        namespace, directory = lab.namespace("node"), Path(scratch)
        namespace.run(["ip", "link", "set", "lo", "up"])
        with serve(namespace, size) as api, daemon(namespace, api, directory, 50.0) as process:
            process.wait_until_ready()
            time.sleep(3.0)
            resident = process.memory("VmRSS")
            name = f"{objects.NAMESPACE}/{objects.service_name(size.services // 2)}"
            from_api = ["--kubeconfig", str(directory / "kubeconfig"), "--hostname-override", NODE]
            run = _Runs(namespace, directory, repeats)
            here, there = run.explain(name), run.explain(name, *from_api)
            idle = _slowest(namespace, lambda: time.sleep(1.0))
            listed: list[float] = []
            busy = _slowest(namespace, lambda: listed.extend(run.services()))
            page: list[float] = []
            behind = _slowest(namespace, lambda: page.extend(run.page("/")))
            of_service = run.page(f"/service?name={name}")
            status = run.status()
            time.sleep(_KEPT_S + 1.0)
            after = process.memory("VmRSS")
            changes = EndpointChanges(api, size)
            planned = _slowest_change(namespace, changes, lambda: time.sleep(3.0))
            planned_busy = _slowest_change(
                namespace, changes, lambda: (run.page("/"), run.services(), run.status())
            )
    return Measured(
        size=str(size),
        explain_node=here,
        explain_api=there,
        services=listed,
        health_idle_s=idle,
        health_busy_s=busy,
        status=status,
        page=page,
        service_page=of_service,
        health_page_s=behind,
        planning_idle_s=planned,
        planning_busy_s=planned_busy,
        resident=resident,
        resident_after=after,
    )


class _Runs:
    """Runs commands, and times them."""

    def __init__(self, namespace: Namespace, directory: Path, repeats: int) -> None:
        self._namespace = namespace
        self._environment = compiled(directory)
        self._repeats = repeats

    def explain(self, name: str, *more: str) -> list[float]:
        return self._timed(["explain", name, *more])

    def services(self) -> list[float]:
        return self._timed(["services"], pause_s=_KEPT_S)

    def status(self) -> list[float]:
        return self._timed(["status"])

    def page(self, path: str) -> list[float]:
        taken = []
        for _ in range(self._repeats):
            time.sleep(_KEPT_S)
            taken.append(_get(self._namespace, _PAGE_PORT, path)[0])
        return taken

    def _timed(self, words: list[str], pause_s: float = 0.0) -> list[float]:
        taken = []
        for number in range(self._repeats + 1):
            time.sleep(pause_s)
            began = time.monotonic()
            process = self._namespace.start(
                [sys.executable, "-m", "nfproxy", *words],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self._environment,
            )
            _, errors = process.communicate()
            if process.returncode not in (0, 1):
                raise RuntimeError(errors.decode())
            if number:  # the first compiles modules
                taken.append(time.monotonic() - began)
        return taken


def _slowest(namespace: Namespace, work: Callable[[], object]) -> float:
    """Return the slowest answer of the daemon's health page while something works."""
    worst, done = 0.0, threading.Event()

    def ask() -> None:
        nonlocal worst
        while not done.is_set():
            worst = max(worst, _get(namespace, _HEALTH_PORT, "/livez")[0])
            time.sleep(0.002)

    asking = threading.Thread(target=ask)
    asking.start()
    work()
    done.set()
    asking.join()
    return worst


def _slowest_change(
    namespace: Namespace, changes: EndpointChanges, work: Callable[[], object]
) -> float:
    """Return how long the slowest change of an endpoint took the daemon while something works."""
    first = _changes(namespace)["records"][-1]["number"]
    done = threading.Event()

    def change() -> None:
        while not done.wait(_CHANGE_S):
            changes.make()

    changing = threading.Thread(target=change)
    changing.start()
    work()
    done.set()
    changing.join()
    time.sleep(1.0)
    records = _changes(namespace, first)["records"]
    return max((record.get("afterMs", 0.0) for record in records), default=0.0) / 1e3


def _changes(namespace: Namespace, after: int = 0) -> Any:
    _, body = _get(namespace, _PAGE_PORT, f"/changes?after={after}")
    return msgspec.json.decode(body)


def _get(namespace: Namespace, port: int, path: str) -> tuple[float, bytes]:
    """Ask for a page, and return how long its answer took, and what it was."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.sock = namespace.socket(AF_INET, SOCK_STREAM)
    began = time.monotonic()
    connection.sock.connect(("127.0.0.1", port))
    connection.request("GET", path)
    reply = connection.getresponse()
    body = reply.read()
    if reply.status != http.client.OK:
        raise RuntimeError(f"{path}: {reply.status}")
    took = time.monotonic() - began
    connection.close()
    return took, body


def targets(results: Sequence[Measured]) -> Iterator[Target]:
    """Yield what a machine with two cores should reach, for the sizes that were measured."""
    for one in results:
        if one.size != str(LARGE):
            continue
        node, api, listed = map(
            statistics.median, (one.explain_node, one.explain_api, one.services)
        )
        yield at_most(f"explain on the node, {LARGE}", 300, node * 1e3, "ms")
        yield at_most(f"explain from the API server, {LARGE}", 2, api, "s")
        yield at_most(f"services on the node, {LARGE}", 1, listed, "s")
        yield at_most(
            f"list of the web page, {LARGE}", 200, statistics.median(one.page) * 1e3, "ms"
        )
        yield at_most(
            f"status on the node, {LARGE}", 200, statistics.median(one.status) * 1e3, "ms"
        )
        slowest = max(one.health_busy_s, one.health_page_s)
        delay = max(0.0, slowest - one.health_idle_s)
        yield at_most(f"the event loop is delayed by, {LARGE}", 20, delay * 1e3, "ms")
        delay = max(0.0, one.planning_busy_s - one.planning_idle_s)
        yield at_most(f"the planning thread is delayed by, {LARGE}", 20, delay * 1e3, "ms")
        grown = (one.resident_after - one.resident) / 1e6
        yield at_most(f"memory of the daemon grows by, {LARGE}", 3, grown, "MB")


def show(results: Sequence[Measured], console: Console) -> None:
    """Print tables."""
    table = Table(title="What explain, services and the web page cost", title_justify="left")
    for head in ("Services x endpoints", *(one.size for one in results)):
        table.add_column(head, justify="left" if head.startswith("S") else "right")
    rows = (
        ("explain on the node", "explain_node"),
        ("explain from the API server", "explain_api"),
        ("services on the node", "services"),
        ("status on the node", "status"),
        ("list of the web page", "page"),
        ("a Service's page", "service_page"),
    )
    for title, field in rows:
        medians = (statistics.median(getattr(one, field)) * 1e3 for one in results)
        table.add_row(f"{title}, median", *(f"{median:.0f} ms" for median in medians))
    for title, field in (
        ("at rest", "health_idle_s"),
        ("meanwhile", "health_busy_s"),
        ("while the web page is asked for", "health_page_s"),
    ):
        slowest = (getattr(one, field) * 1e3 for one in results)
        table.add_row(f"slowest answer of /livez {title}", *(f"{ms:.1f} ms" for ms in slowest))
    for title, field in (
        ("at rest", "planning_idle_s"),
        ("while commands and pages look", "planning_busy_s"),
    ):
        slowest = (getattr(one, field) * 1e3 for one in results)
        table.add_row(f"slowest change {title}", *(f"{ms:.1f} ms" for ms in slowest))
    for title, field in (("before", "resident"), ("after", "resident_after")):
        table.add_row(
            f"memory of the daemon {title}",
            *(f"{getattr(one, field) / 1e6:.1f} MB" for one in results),
        )
    console.print(table)
    for target in targets(results):
        console.print(f"{target.what}: {target.wanted}, {target.measured}: {target.verdict}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A tiny size and few repetitions: a test of the bench.")
@click.option("--size", "sizes", multiple=True, help="E.g. 10000x10; repeatable.")
@click.option("--repeats", type=click.IntRange(1), help="How often each command runs.")
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(quick: bool, sizes: Sequence[str], repeats: int | None, output: str) -> None:
    """Measure explain and services beside a daemon."""
    plan = [Size.parse(text) for text in sizes] or [Size(20, 2) if quick else LARGE]
    enter_private_namespace()
    results = []
    for size in plan:
        print(f"measuring: {size}; {machine.facts()}", file=sys.stderr, flush=True)
        results.append(measure(size, repeats or (1 if quick else 5)))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        show(results, Console(width=None if sys.stdout.isatty() else 120))


if __name__ == "__main__":
    main(prog_name="bench commands")
