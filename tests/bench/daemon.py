"""
The whole daemon on an API server: start, memory, idle, latency, and how much it keeps up with.

The stand-in of ``tests/support/apiserver`` plays the API server, in this process; the daemon is a
process of its own, in a network namespace. A change is timed from the moment at which the stand-in
wakes its watches, before anything is sent, to the kernel's announcement of the commit.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table
from support.apiserver import StandIn

from bench import machine, objects
from bench.commits import Commits
from bench.objects import Size
from bench.running import Process, daemon, serve
from bench.targets import Target, at_most
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.lab import Lab

SMALL, LARGE, MANY = Size(50, 4), Size(10_000, 10), Size(45_000, 1)
_LAG_S = 2.0  # behind by more is not keeping up


class Storm(msgspec.Struct, frozen=True):
    """Many changes: `pause_ms` is minSyncPeriod, `lag_s` from the last change to its commit."""

    pause_ms: float
    asked_per_s: float
    made_per_s: float
    commits_per_s: float
    processor: float
    lag_s: float


class Measured(msgspec.Struct, frozen=True):
    """What one size showed. Times in seconds, memory in bytes, `idle` as a share of one core."""

    size: str
    started: float
    resident: int
    peak: int
    idle: float
    latency: list[float]
    storms: list[Storm]
    start_processor: float = 0.0  # of the daemon and its children, until all was programmed


def measure(
    size: Size, repeats: int, idle_s: float, storm_s: float, rate: float, pauses: Sequence[float]
) -> Measured:
    """Measure one size."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="nfproxy-bench-") as scratch:
        namespace = lab.namespace("node")
        namespace.run(["ip", "link", "set", "lo", "up"])
        directory = Path(scratch)
        with serve(namespace, size) as api, Commits(namespace) as commits:
            changes = EndpointChanges(api, size)
            began = time.monotonic()
            with daemon(namespace, api, directory, pauses[0]) as process:
                process.wait_until_ready()
                started, starting_s = time.monotonic() - began, process.processor_s()
                time.sleep(3.0)  # what lingers is removed, unused memory given back
                used = process.processor_s()
                time.sleep(idle_s)
                idle = (process.processor_s() - used) / idle_s
                latency = []
                for _ in range(repeats):
                    commits.forget()
                    changes.make()
                    latency.append(commits.wait() - api.changed_s)
                    time.sleep(2 * pauses[0] / 1000 + 0.01)
                resident, peak = process.memory("VmRSS"), process.memory("VmHWM")
            storms = []
            for pause_ms in pauses:
                with daemon(namespace, api, directory, pause_ms) as process:
                    process.wait_until_ready()
                    storms.append(_storm(process, commits, changes, pause_ms, storm_s, rate))
    return Measured(str(size), started, resident, peak, idle, latency, storms, starting_s)


class EndpointChanges:
    """Replaces one endpoint of one Service after the other."""

    def __init__(self, api: StandIn, size: Size) -> None:
        self._api = api
        self._size = size
        self._count = 0
        self.made_at = 0.0

    def make(self) -> None:
        number = self._count * 7 % self._size.services
        addresses = objects.endpoints_of(number, self._size.endpoints)
        addresses[0] = objects.spare_endpoint(self._count)
        self._count += 1
        self._apply(number, addresses)

    def set_more(self, count: int) -> None:
        """Give the first Service so many endpoints more than it had at first."""
        addresses = objects.endpoints_of(0, self._size.endpoints)
        addresses += [objects.spare_endpoint(60_000 + index) for index in range(count)]
        self._apply(0, addresses)

    def _apply(self, number: int, addresses: Sequence[str]) -> None:
        body = msgspec.json.decode(objects.slice_json(number, addresses))
        del body["metadata"]["resourceVersion"]
        body["kind"] = "EndpointSlice"
        self.made_at = time.monotonic()
        self._api.apply(body)


def _storm(
    process: Process,
    commits: Commits,
    changes: EndpointChanges,
    pause_ms: float,
    seconds: float,
    rate: float,
) -> Storm:
    commits.forget()
    used, began, made = process.processor_s(), time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        if made < (now - began) * rate:
            changes.make()
            made += 1
        else:
            time.sleep(0.0005)
    took = time.monotonic() - began
    used = process.processor_s() - used
    time.sleep(2.0)  # a daemon that lags behind would still be committing
    return Storm(
        pause_ms,
        rate,
        made / took,
        commits.count / took,
        used / took,
        max(0.0, commits.last - changes.made_at),
    )


def _ms(values: Sequence[float]) -> str:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{statistics.median(ordered) * 1e3:.2f} / {p99 * 1e3:.2f}"


def show(results: Sequence[Measured], console: Console) -> None:
    """Print tables."""
    table = Table(title="The daemon on an API server", title_justify="left")
    for head in ("Services x endpoints", *(r.size for r in results)):
        table.add_column(head, justify="left" if head.startswith("S") else "right")
    table.add_row("process start to all programmed", *(f"{r.started:.2f} s" for r in results))
    table.add_row("its processor time", *(f"{r.start_processor:.2f} s" for r in results))
    table.add_row("watch event to commit, median / p99 ms", *(_ms(r.latency) for r in results))
    table.add_row("memory settled", *(f"{r.resident / 1e6:.0f} MB" for r in results))
    table.add_row("memory at its peak", *(f"{r.peak / 1e6:.0f} MB" for r in results))
    table.add_row("processor, idle", *(f"{r.idle:.2%}" for r in results))
    console.print(table)
    storms = Table(title="Many changes of EndpointSlices", title_justify="left")
    for head in ("size", "minSyncPeriod", "changes/s", "commits/s", "processor", "lag"):
        storms.add_column(head, justify="right")
    for result in results:
        for storm in result.storms:
            storms.add_row(
                result.size,
                f"{storm.pause_ms:g} ms",
                f"{storm.made_per_s:.0f} of {storm.asked_per_s:.0f}",
                f"{storm.commits_per_s:.1f}",
                f"{storm.processor:.0%}",
                f"{storm.lag_s * 1e3:.0f} ms",
            )
    console.print(storms)
    goals = Table(title="Targets for two cores", title_justify="left")
    for head in ("target", "wanted", "measured", ""):
        goals.add_column(head)
    for target in targets(results):
        goals.add_row(target.what, target.wanted, target.measured, target.verdict)
    console.print(goals)


def targets(results: Sequence[Measured]) -> Iterator[Target]:
    """Yield what a machine with two cores should reach, for the sizes that were measured."""
    for result in results:
        large = result.size == str(LARGE)
        if large or result.size == str(MANY):
            most_s = 1.8 if large else 6.0
            yield at_most(f"start to all programmed, {result.size}", most_s, result.started, "s")
        if large:
            ordered = sorted(result.latency)
            median, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
            yield at_most(f"watch event to commit, median, {LARGE}", 2, median * 1e3, "ms")
            yield at_most(f"watch event to commit, p99, {LARGE}", 10, p99 * 1e3, "ms")
            storms = [storm for storm in result.storms if storm.lag_s < _LAG_S]
            kept = min((storm.made_per_s for storm in storms), default=0.0)
            yield Target("changes kept up with", "500 a second", f"{kept:.0f}", kept > 490)
        if large or result.size == str(SMALL):
            limit = 140 if large else 80
            yield at_most(f"memory, {result.size}", limit, result.resident / 1e6, "MB")
            yield at_most(f"idle, {result.size}", 0.5, result.idle * 100, "% of a core")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Tiny sizes and few repetitions: a test of the bench.")
@click.option("--size", "sizes", multiple=True, help="E.g. 10000x10; repeatable.")
@click.option("--repeats", type=click.IntRange(1), help="How often one endpoint is replaced.")
@click.option("--rate", type=click.FloatRange(1), default=500.0, help="Changes a second.")
@click.option(
    "--pause", "pauses", multiple=True, type=float, help="minSyncPeriod in ms; repeatable."
)
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(
    quick: bool,
    sizes: Sequence[str],
    repeats: int | None,
    rate: float,
    pauses: Sequence[float],
    output: str,
) -> None:
    """Measure the whole daemon on an API server."""
    given = [Size.parse(text) for text in sizes]
    plan = given or ([Size(20, 2)] if quick else [SMALL, LARGE])
    enter_private_namespace()
    results = []
    for size in plan:
        print(f"measuring: {size}; {machine.facts()}", file=sys.stderr, flush=True)
        results.append(
            measure(
                size,
                repeats or (5 if quick else 300),
                idle_s=0.5 if quick else 20.0,
                storm_s=0.5 if quick else 10.0,
                rate=rate,
                pauses=tuple(pauses) or ((50.0,) if quick else (50.0, 0.0, 10.0, 100.0, 1000.0)),
            )
        )
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        show(results, Console(width=None if sys.stdout.isatty() else 120))


if __name__ == "__main__":
    main(prog_name="bench daemon")
