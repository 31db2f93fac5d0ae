"""
One endpoint more or one fewer, in a small cluster: from the event to the commit, one at a time.

A change is timed from the moment at which the stand-in API server wakes its watches, before
anything is sent, to the kernel's announcement of the first commit with elements. The slowest change
is printed with what it waited for.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.commits import Commits
from bench.daemon import EndpointChanges
from bench.objects import Size
from bench.running import Process, daemon, serve
from bench.targets import Target, at_most
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.lab import Lab

P99_S, WORST_S = 0.003, 0.05
_MOST_MORE = 20  # endpoints than at first; then their number falls again
_PAUSE_S = (0.15, 0.75)  # from and to; chains of neighbouring counts are made after 0.2 s
_SEED = 1
_SHOWN = 3  # slowest changes


class Change(msgspec.Struct, frozen=True):
    """
    One change: the Service's endpoints afterwards, and what happened meanwhile.

    `unscheduled` is how long nfproxy's threads and then this bench's waited for a processor.
    `before` are the commits before that with elements, in seconds after the event.
    """

    endpoints: int
    seconds: float
    unscheduled: tuple[float, float]
    before: list[float]
    log: list[str]

    @property
    def cause(self) -> str:
        """What it waited for, as far as that shows from outside."""
        ours, bench = (f"{seconds * 1e3:.1f} ms" for seconds in self.unscheduled)
        found = [f"for a processor: nfproxy {ours}, the bench {bench}"]
        found += [f"for a commit without elements after {s * 1e3:.1f} ms" for s in self.before]
        return "; ".join([*found, *self.log])


def measure(size: Size, count: int, pause_s: tuple[float, float]) -> list[Change]:
    """Make so many changes of one Service after the other."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="nfproxy-bench-") as scratch:
        namespace = lab.namespace("node")
        namespace.run(["ip", "link", "set", "lo", "up"])
        directory = Path(scratch)
        with (
            serve(namespace, size) as api,
            Commits(namespace) as commits,
            daemon(namespace, api, directory, 0.0, options=["-v=2"]) as process,
        ):
            changes = EndpointChanges(api, size)
            process.wait_until_ready()
            commits.wait_until_quiet(0.3)
            made, chance = [], random.Random(_SEED)
            for more in _steps(count):
                time.sleep(chance.uniform(*pause_s))
                log = len(process.log_text())
                waited = _unscheduled(process)
                commits.forget()
                changes.set_more(more)
                done_s = commits.wait()
                waited = [b - a for a, b in zip(waited, _unscheduled(process), strict=True)]
                made.append(
                    Change(
                        size.endpoints + more,
                        done_s - api.changed_s,
                        (waited[0], waited[1]),
                        [at - api.changed_s for at in commits.times if at < done_s],
                        process.log_text()[log:].splitlines(),
                    )
                )
            return made


def _steps(count: int) -> Iterator[int]:
    """Yield how many endpoints more than at first there are: up, down, and up again."""
    way = [*range(1, _MOST_MORE + 1), *range(_MOST_MORE - 1, -1, -1)]
    yield from (more for more, _ in zip(cycle(way), range(count), strict=False))


def _unscheduled(process: Process) -> list[float]:
    return [process.unscheduled_s(), Process.unscheduled_of("self")]


def percentiles(results: Sequence[Change]) -> tuple[float, float, float]:
    """Return median, 99th percentile and maximum, in seconds."""
    ordered = sorted(one.seconds for one in results)
    p99 = ordered[math.ceil(len(ordered) * 0.99) - 1]
    return statistics.median(ordered), p99, ordered[-1]


def targets(results: Sequence[Change]) -> Iterator[Target]:
    """Yield what a calm machine with two cores should reach."""
    _, p99, worst = percentiles(results)
    yield at_most("one endpoint more or fewer, p99", P99_S * 1e3, p99 * 1e3, "ms")
    yield at_most("the slowest", WORST_S * 1e3, worst * 1e3, "ms")


def show(results: Sequence[Change], console: Console) -> None:
    """Print the figures, and the slowest changes with their causes."""
    median, p99, worst = (f"{seconds * 1e3:.2f}" for seconds in percentiles(results))
    console.print(f"{len(results)} changes: median {median}, p99 {p99}, maximum {worst} ms")
    table = Table(title="The slowest", title_justify="left")
    for head in ("endpoints", "ms", "what it waited for"):
        table.add_column(head, justify="left" if head.startswith("w") else "right")
    for one in sorted(results, key=lambda one: -one.seconds)[:_SHOWN]:
        table.add_row(str(one.endpoints), f"{one.seconds * 1e3:.2f}", one.cause)
    console.print(table)
    for target in targets(results):
        console.print(f"{target.what}: {target.measured} ({target.wanted}) {target.verdict}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A tiny size and few changes: a test of the bench.")
@click.option("--size", default="50x4", show_default=True)
@click.option("--changes", type=click.IntRange(1), default=100, show_default=True)
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(quick: bool, size: str, changes: int, output: str) -> None:
    """Measure how long one endpoint more or fewer takes; with 100 changes some 45 s."""
    enter_private_namespace()
    print(machine.facts(), file=sys.stderr, flush=True)
    plan = (Size(5, 2), 4, (0.01, 0.02)) if quick else (Size.parse(size), changes, _PAUSE_S)
    results = measure(*plan)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        show(results, Console(width=None if sys.stdout.isatty() else 120))


if __name__ == "__main__":
    main(prog_name="bench scaling")
