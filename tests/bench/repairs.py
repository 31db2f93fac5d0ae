"""
How long foreign changes of the tables stay: each kind, from its commit to the end of the repair.

Both times are printed: nfproxy's own, which its metric has, and that from outside, between the
kernel's announcements of the change and of the repair's last commit.
"""

from __future__ import annotations

import http.client
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table
from support.kernel.foreignchanges import KINDS, script

from bench import daemon, machine
from bench.commits import Commits
from bench.objects import Size
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.lab import Lab, Namespace

DEFAULT, QUICK = Size(2_000, 10), Size(20, 10)
TARGET_S = 0.1
_LIMIT_S = 20.0
_METRIC = re.compile(r"^nfproxy_repair_duration_seconds_(sum|count) (\S+)$", re.MULTILINE)


class Repair(msgspec.Struct, frozen=True):
    """The seconds that the repairs of one kind of change took, by nfproxy and from outside."""

    kind: str
    said: list[float]
    seen: list[float]


def measure(size: Size, repeats: int) -> list[Repair]:
    """Measure every kind, `repeats` times."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="nfproxy-bench-") as scratch:
        namespace = lab.namespace("node")
        namespace.run(["ip", "link", "set", "lo", "up"])
        with (
            daemon.serve(namespace, size) as api,
            Commits(namespace) as commits,
            daemon.daemon(namespace, api, Path(scratch), 0.0) as process,
        ):
            process.wait_until_ready()
            return [_kind(namespace, commits, name, repeats) for name in KINDS]


def _kind(namespace: Namespace, commits: Commits, name: str, repeats: int) -> Repair:
    said, seen = [], []
    for _ in range(repeats):
        time.sleep(0.5)  # what lingers is removed
        before = namespace.call(_repairs)
        commits.forget()
        namespace.run(["nft", "-f", "-"], input=script(name))
        deadline = time.monotonic() + _LIMIT_S
        while (after := namespace.call(_repairs))[0] == before[0]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not repaired: {name}")
            time.sleep(0.01)
        seen.append(commits.last - commits.first)
        said.append((after[1] - before[1]) / (after[0] - before[0]))
    return Repair(name, said, seen)


def _repairs() -> tuple[int, float]:
    """Return how many repairs there were, and how many seconds all of them took."""
    asked = http.client.HTTPConnection("127.0.0.1", 10249, timeout=_LIMIT_S)
    asked.request("GET", "/metrics")
    found = dict(_METRIC.findall(asked.getresponse().read().decode()))
    asked.close()
    return int(float(found["count"])), float(found["sum"])


def show(results: Sequence[Repair], console: Console) -> None:
    """Print a table, slowest first."""
    table = Table(title="Repairs of foreign changes, median ms", title_justify="left")
    for head in ("kind of change", "by the metric", "from outside", "worst"):
        table.add_column(head, justify="left" if head.startswith("kind") else "right")
    for one in sorted(results, key=lambda one: -statistics.median(one.seen)):
        figures = (statistics.median(one.said), statistics.median(one.seen), max(one.seen))
        table.add_row(one.kind, *(f"{seconds * 1e3:.0f}" for seconds in figures))
    console.print(table)
    slow = [one.kind for one in results if statistics.median(one.seen) > TARGET_S]
    console.print(
        f"{len(results)} kinds; above {TARGET_S * 1e3:.0f} ms: {', '.join(slow) or 'none'}"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A tiny size, once: a test of the bench.")
@click.option("--size", default=str(DEFAULT), help="E.g. 2000x10; endpoints are always 10.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(quick: bool, size: str, repeats: int, output: str) -> None:
    """Measure how long every kind of foreign change takes to be repaired."""
    enter_private_namespace()
    print(machine.facts(), file=sys.stderr, flush=True)
    results = measure(QUICK if quick else Size.parse(size), 1 if quick else repeats)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        show(results, Console(width=None if sys.stdout.isatty() else 120))


if __name__ == "__main__":
    main(prog_name="bench repairs")
