"""
The most memory that the daemon takes while everything changes, beside what it settles at.

Run by ``tests/bench/run.sh peaks``. The stand-in plays the API server, as in :mod:`bench.running`.
Where a cgroup can be made, the daemon runs in one, and its children and the kernel's memory count,
as for a container's limit.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from support.apiserver import StandIn

from bench import machine, objects
from bench.cgroup import Cgroup, cgroup
from bench.objects import Size
from bench.running import Process, daemon, serve
from bench.targets import at_most
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.lab import Lab, Namespace

MOST = 1.3  # times what is settled
IDLE_S = 2.0  # without work; with less, a test does not wait for children either
_SIZES = (Size(5_000, 50), Size(20_000, 10))
_PAUSE_MS = 50.0
_BUSY = 0.05  # of a core
_LIMIT_S = 120.0

METHOD = """\
"process" is the daemon's own resident memory, "container" what a cgroup counts: children and the
kernel's memory, too. Ratios are to the least that was settled at this size. "kernel" is the
kernel's part of what was settled."""
HEADS = (
    *("what", "process MB", "peak MB", "ratio"),
    *("container MB", "kernel MB", "peak MB", "ratio", "seconds"),
)


class Amount(msgspec.Struct, frozen=True):
    """Memory in bytes: at the most, and settled afterwards."""

    settled: int
    peak: int


class Stage(msgspec.Struct, frozen=True):
    """What one change of everything took; `container` and `kernel` are None without a cgroup."""

    what: str
    seconds: float
    process: Amount
    container: Amount | None
    kernel: int | None


class Measured(msgspec.Struct, frozen=True):
    """The stages at one size."""

    size: str
    stages: list[Stage]

    def ratio(self, amount: Amount) -> float:
        """Return a peak in terms of the least that was settled."""
        inside = amount in [stage.container for stage in self.stages]
        amounts = [stage.container if inside else stage.process for stage in self.stages]
        return amount.peak / min(each.settled for each in amounts if each is not None)


class _Node:
    """One daemon after the other over the same tables, and what each takes."""

    def __init__(self, namespace: Namespace, api: StandIn, directory: Path, idle_s: float) -> None:
        self._namespace = namespace
        self._idle_s = idle_s
        self._api = api
        self._directory = directory
        self.stages: list[Stage] = []

    @contextmanager
    def running(self, what: str) -> Iterator[Callable[[str, Callable[[], object]], None]]:
        """Start a daemon: the first stage. Yield what measures another one: a name, a change."""
        with ExitStack() as stack:
            group = stack.enter_context(cgroup("peaks"))
            started: list[Process] = []

            def start() -> None:
                process = stack.enter_context(
                    daemon(self._namespace, self._api, self._directory, _PAUSE_MS, group)
                )
                started.append(process)
                process.wait_until_ready()

            def stage(what: str, change: Callable[[], object]) -> None:
                self.stages.append(_stage(what, change, started, group, self._idle_s))

            stage(what, start)
            yield stage


def _stage(
    what: str,
    change: Callable[[], object],
    processes: list[Process],
    group: Cgroup | None,
    idle_s: float,
) -> Stage:
    """Make a change and wait until the daemon is idle."""
    for process in processes:
        process.forget_peak()
    with ExitStack() as stack:
        most = stack.enter_context(group.watched()) if group is not None else []
        began = time.monotonic()
        change()
        (process,) = processes
        seconds = _wait_until_idle(process, idle_s) - began
        own = Amount(process.own_memory("VmRSS"), process.own_memory("VmHWM"))
    if group is None:
        return Stage(what, seconds, own, None, None)
    return Stage(what, seconds, own, Amount(group.used(), most[0]), group.kernel())


def _wait_until_idle(process: Process, idle_s: float = IDLE_S) -> float:
    """Return when the daemon's last work ended, once it is idle and its children are gone."""
    began = busy = last = time.monotonic()
    used = process.processor_s()
    while time.monotonic() - busy < idle_s or (process.has_children and idle_s == IDLE_S):
        time.sleep(idle_s / 8)
        now, now_used = time.monotonic(), process.processor_s()
        if now_used - used > _BUSY * (now - last) + 0.01:
            busy = now
        used, last = now_used, now
        if now - began > _LIMIT_S:
            raise RuntimeError("the daemon is never idle")
    return busy


def _slices(size: Size, number: int, step: int = 1) -> list[dict[str, Any]]:
    """Return a slice of every `step`-th Service, with the endpoints of a version of all."""
    made = []
    for service in range(0, size.services, step):
        other = (service + number) % size.services
        slice_ = msgspec.json.decode(
            objects.slice_json(service, objects.endpoints_of(other, size.endpoints))
        )
        del slice_["metadata"]["resourceVersion"]
        made.append(slice_ | {"kind": "EndpointSlice"})
    return made


def measure(size: Size, idle_s: float = IDLE_S, *, only_start: bool = False) -> Measured:
    """Start, and change everything, in each way."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="nfproxy-bench-") as scratch:
        namespace = lab.namespace("node")
        namespace.run(["ip", "link", "set", "lo", "up"])
        with serve(namespace, size) as api:
            node = _Node(namespace, api, Path(scratch), idle_s)

            def list_again() -> None:
                for resource in ("services", "endpointslices"):
                    api.send_error(resource)

            def list_in_pages() -> None:
                api.configure(streaming_lists=False)
                list_again()

            def change_unseen() -> None:
                with api.withheld("endpointslices"):
                    api.apply(*_slices(size, 2))
                list_again()

            with node.running("start") as stage:
                if only_start:
                    return Measured(str(size), node.stages)
                stage("listed again", list_again)
                stage("all endpoints replaced", lambda: api.apply(*_slices(size, 1)))
                stage("listed again, all endpoints replaced", change_unseen)
                stage("listed again in pages", list_in_pages)
            api.apply(*_slices(size, 3, step=2))
            with node.running("start in pages, half is stale"):
                api.configure(streaming_lists=True)
            api.apply(*_slices(size, 4))
            with node.running("start, all is stale"):
                pass
    return Measured(str(size), node.stages)


def show(results: Sequence[Measured], console: Console) -> None:
    """Print tables."""
    for result in results:
        table = Table(title=f"Memory while everything changes, {result.size}", title_justify="left")
        for head in HEADS:
            table.add_column(head, justify="left" if head == "what" else "right")
        for stage in result.stages:
            own, all_ = stage.process, stage.container
            table.add_row(
                *(stage.what, _mb(own.settled), _mb(own.peak), f"{result.ratio(own):.2f}"),
                *(
                    (_mb(all_.settled), _mb(stage.kernel or 0), _mb(all_.peak))
                    if all_
                    else [""] * 3
                ),
                f"{result.ratio(all_):.2f}" if all_ else "",
                f"{stage.seconds:.1f}",
            )
        console.print(table)
    console.print(METHOD)
    goals = Table(title="Targets", title_justify="left")
    for head in ("target", "wanted", "measured", ""):
        goals.add_column(head)
    for result in results:
        for stage in result.stages:
            ratio = result.ratio(stage.container or stage.process)
            goal = at_most(f"{stage.what}, {result.size}", MOST, ratio, "times settled")
            goals.add_row(goal.what, goal.wanted, goal.measured, goal.verdict)
    console.print(goals)


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--size", "sizes", multiple=True, help="E.g. 5000x50; repeatable.")
@click.option("--quick", is_flag=True, help="A tiny size: a test of the bench.")
@click.option("--start", is_flag=True, help="Only a start with empty tables.")
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(sizes: Sequence[str], quick: bool, start: bool, output: str) -> None:
    """Measure the memory that the daemon takes at start, take-over, new lists and mass changes."""
    given = tuple(Size.parse(text) for text in sizes)
    results = []
    enter_private_namespace()
    for size in given or ((Size(20, 2),) if quick else _SIZES):
        print(f"measuring: {size}; {machine.facts()}", file=sys.stderr, flush=True)
        idle_s = 0.2 if quick else IDLE_S
        results.append(measure(size, idle_s, only_start=start))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        show(results, Console(width=None if sys.stdout.isatty() else 140))


if __name__ == "__main__":
    main(prog_name="bench peaks")
