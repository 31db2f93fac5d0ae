"""
How long foreign changes of the tables stay: each kind, from its commit to the end of the repair.

Both times are taken from outside: the kernel announces the change and each commit of the repair,
and the tables' contents show which commit was the last one that mattered. nfproxy's own time is
printed beside, which its metric has.
"""

from __future__ import annotations

import http.client
import re
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
from support.kernel.foreignchanges import KINDS, script

from bench import machine, running
from bench.commits import Commits
from bench.objects import Size
from bench.targets import Target, at_most
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.elements import listed_elements, raw_elements
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import COUNTED, SCHEMAS, TABLE
from nfproxy.tools.lab import Lab, Namespace

DEFAULT, QUICK = Size(2_000, 10), Size(20, 10)
QUICK_KINDS = [*KINDS][::6]
TARGET_S = 0.1
_LIMIT_S = 20.0
_QUIET_S = 0.08  # without a commit for so long, a repair may have ended
_REST_S = 0.35  # what lingers is removed, and chains of neighbouring counts are made
_NO_REST_S = 0.02  # enough to see that the bench works
_METRIC = re.compile(r"^nfproxy_repair_duration_seconds_(sum|count) (\S+)$", re.MULTILINE)


class Repair(msgspec.Struct):
    """The seconds that the repairs of one kind of change took, by nfproxy and from outside."""

    kind: str
    said: list[float] = msgspec.field(default_factory=list)
    seen: list[float] = msgspec.field(default_factory=list)


def measure(size: Size, kinds: Sequence[str], repeats: int, seconds: float) -> list[Repair]:
    """Measure the kinds once, and then again up to `repeats` times while `seconds` last."""
    results = {name: Repair(name) for name in kinds}
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="nfproxy-bench-") as scratch:
        namespace = lab.namespace("node")
        namespace.run(["ip", "link", "set", "lo", "up"])
        with (
            running.serve(namespace, size) as api,
            Commits(namespace) as commits,
            running.daemon(namespace, api, Path(scratch), 0.0) as process,
        ):
            process.wait_until_ready()
            commits.wait_until_quiet(1.0)
            wanted, deadline = namespace.call(_tables), time.monotonic() + seconds
            rest_s = _NO_REST_S if size == QUICK else _REST_S
            for name in _rounds([*results], repeats, deadline):
                time.sleep(rest_s)
                _repair(namespace, commits, wanted, results[name])
    return list(results.values())


def _rounds(kinds: Sequence[str], repeats: int, deadline: float) -> Iterator[str]:
    for number in range(repeats):
        for name in kinds:
            if number and time.monotonic() > deadline:
                return
            yield name
        print(f"round {number + 1} of {repeats} is done", file=sys.stderr, flush=True)


def _repair(namespace: Namespace, commits: Commits, wanted: object, result: Repair) -> None:
    """Make one change, wait until the tables are as they were, and add how long that took."""
    before = namespace.call(_repairs)
    commits.forget()
    namespace.run(["nft", "-f", "-"], input=script(result.kind))
    deadline = time.monotonic() + _LIMIT_S
    # Nothing but the kernel is asked meanwhile: a page of metrics would take nfproxy's time.
    while True:
        commits.wait_until_quiet(_QUIET_S, _LIMIT_S)
        count = commits.count
        if count > 1 and namespace.call(_tables) == wanted and commits.count == count:
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"not repaired: {result.kind}")
    result.seen.append(commits.last - commits.first)
    while (after := namespace.call(_repairs))[0] == before[0]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nfproxy does not say that it is repaired: {result.kind}")
        time.sleep(0.05)
    result.said.append((after[1] - before[1]) / (after[0] - before[0]))


def _repairs() -> tuple[int, float]:
    """Return how many repairs there were, and how many seconds all of them took."""
    asked = http.client.HTTPConnection("127.0.0.1", 10249, timeout=_LIMIT_S)
    asked.request("GET", "/metrics")
    found = dict(_METRIC.findall(asked.getresponse().read().decode()))
    asked.close()
    return int(float(found["count"])), float(found["sum"])


def _tables() -> list[object]:
    """Return what the tables hold: chains, rules and elements, without what they count."""
    with NftSocket() as netlink:
        # A table that another process made has no comment of ours, and cannot get one.
        held: list[object] = []
        for family in FAMILIES:
            held.append([row._replace(comment="") for row in netlink.tables(family)])
            held.append({(row.name, row.hook, row.policy) for row in netlink.chains(family, TABLE)})
            rules = [(row.chain, row.expressions) for row in netlink.rules(family, TABLE)]
            held.append(sorted(rules, key=lambda rule: rule[0]))
            held.append(sorted(row.name for row in netlink.sets(family, TABLE)))
            held.append(sorted(row.name for row in netlink.objects(family, TABLE)))
            held += [_elements(netlink, family, name) for name in SCHEMAS]
        return held


def _elements(netlink: NftSocket, family: Family, name: str) -> set[object]:
    found = netlink.elements(family, TABLE, name)
    if name in COUNTED:
        return {one._replace(packets=0) for data in found for one in listed_elements(data)}
    return {one for data in found for one in raw_elements(data)}


def targets(results: Sequence[Repair]) -> Iterator[Target]:
    """Yield what a calm machine with two cores should reach."""
    slowest = max(results, key=lambda one: statistics.median(one.seen))
    seconds = statistics.median(slowest.seen)
    what = f"repair of the slowest of {len(results)} kinds ({slowest.kind})"
    yield at_most(what, TARGET_S * 1e3, seconds * 1e3, "ms")


def show(results: Sequence[Repair], console: Console) -> None:
    """Print a table, slowest first."""
    table = Table(title="Repairs of foreign changes, ms", title_justify="left")
    for head in ("kind of change", "from outside, median", "worst", "by the metric, median"):
        table.add_column(head, justify="left" if head.startswith("kind") else "right")
    for one in sorted(results, key=lambda one: -statistics.median(one.seen)):
        figures = (statistics.median(one.seen), max(one.seen), statistics.median(one.said))
        table.add_row(one.kind, *(f"{seconds * 1e3:.1f}" for seconds in figures))
    console.print(table)
    slow = [one.kind for one in results if statistics.median(one.seen) > TARGET_S]
    console.print(
        f"{len(results)} kinds; above {TARGET_S * 1e3:.0f} ms: {', '.join(slow) or 'none'}"
    )
    for target in targets(results):
        console.print(f"{target.what}: {target.measured} ({target.wanted}) {target.verdict}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A tiny size, once: a test of the bench.")
@click.option("--size", default=str(DEFAULT), help="E.g. 2000x10; endpoints are always 10.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([*KINDS]),
    help="Only this kind; repeatable.",
)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=120.0,
    show_default=True,
    help="Begin no further round after that.",
)
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(
    quick: bool, size: str, kinds: Sequence[str], repeats: int, seconds: float, output: str
) -> None:
    """Measure how long every kind of foreign change takes to be repaired."""
    enter_private_namespace()
    print(machine.facts(), file=sys.stderr, flush=True)
    if quick:
        results = measure(QUICK, kinds or QUICK_KINDS, 1, seconds)
    else:
        results = measure(Size.parse(size), kinds or [*KINDS], repeats, seconds)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        show(results, Console(width=None if sys.stdout.isatty() else 120))


if __name__ == "__main__":
    main(prog_name="bench repairs")
