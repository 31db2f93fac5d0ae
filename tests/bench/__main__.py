"""The command: runs everything, prints tables."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console

from bench import baseline, connections, machine, objects, report
from bench.objects import Size
from bench.results import Measured, Results
from nfproxy.errors import NfproxyError
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.kube.identity import Kind
from nfproxy.tools.lab import Lab

MEASURE_TIMEOUT_S = 1200.0


class Plan(msgspec.Struct, frozen=True):
    """What to measure and how often."""

    sizes: tuple[Size, ...]
    baseline_sizes: tuple[Size, ...]
    connections_size: Size
    repeats: int
    baseline_repeats: int
    rounds: int
    connections_per_round: int


DEFAULT = Plan(
    sizes=(Size(1_000, 10), Size(10_000, 10), Size(5_000, 50), Size(44_000, 1)),
    baseline_sizes=(Size(1_000, 10), Size(10_000, 10)),
    connections_size=Size(10_000, 10),
    repeats=500,
    baseline_repeats=30,
    rounds=30,
    connections_per_round=1000,
)
QUICK = Plan(
    sizes=(Size(50, 2), Size(200, 1)),
    baseline_sizes=(Size(50, 2),),
    connections_size=Size(50, 2),
    repeats=20,
    baseline_repeats=3,
    rounds=3,
    connections_per_round=50,
)


def run(plan: Plan) -> Results:
    """Measure everything, one thing after the other."""
    began = time.monotonic()
    facts = machine.facts()
    with tempfile.TemporaryDirectory(prefix="nfproxy-bench-") as directory:
        ours, theirs = [], []
        for size in plan.sizes:
            _say(f"nfproxy, {size}")
            ours.append(measure(size, Path(directory), plan.repeats))
        for size in plan.baseline_sizes:
            _say(f"baseline, {size}")
            with Lab() as lab:
                namespace = lab.namespace("baseline")
                theirs.append(
                    baseline.measure(namespace, size, Path(directory), plan.baseline_repeats)
                )
        _say(f"connections, {plan.connections_size}")
        connected = connections.measure(
            plan.connections_size, Path(directory), plan.rounds, plan.connections_per_round
        )
    return Results(
        facts, ours, theirs, connected, str(plan.connections_size), time.monotonic() - began
    )


def measure(size: Size, directory: Path, repeats: int) -> Measured:
    """Measure nfproxy at one size, in a process and a namespace of its own."""
    with (
        tempfile.TemporaryDirectory(dir=directory) as pages,
        Lab() as lab,
    ):
        _write_lists(size, Path(pages))
        arguments = [pages, f"{size.services}x{size.endpoints}", str(repeats)]
        done = lab.namespace("measure").run(
            [sys.executable, "-m", "bench.measure", *arguments], timeout_s=MEASURE_TIMEOUT_S
        )
    return msgspec.json.decode(done.stdout, type=Measured)


def _write_lists(size: Size, directory: Path) -> None:
    numbers = range(size.services)
    services = (objects.service_json(n) for n in numbers)
    slices = (objects.slice_json(n, objects.endpoints_of(n, size.endpoints)) for n in numbers)
    for kind, items in ((Kind.SERVICE, services), (Kind.ENDPOINT_SLICE, slices)):
        for index, page in enumerate(objects.list_pages(items, f"{kind.word}List")):
            (directory / f"{kind.word}-{index:04d}.json").write_bytes(page)


def _say(text: str) -> None:
    print(f"measuring: {text}", file=sys.stderr, flush=True)


def _sizes(_: click.Context, __: click.Parameter, values: Iterable[str]) -> tuple[Size, ...]:
    try:
        return tuple(Size.parse(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Tiny sizes and few repetitions: a test of the bench.")
@click.option("--size", "sizes", multiple=True, callback=_sizes, help="E.g. 10000x10; repeatable.")
@click.option(
    "--baseline",
    "baseline_sizes",
    multiple=True,
    callback=_sizes,
    help="Sizes of the baseline; 44000x1 and 5000x50 take minutes.",
)
@click.option(
    "--connections",
    "connections_sizes",
    multiple=True,
    callback=_sizes,
    help="Size of the tables that connections are made through.",
)
@click.option("--repeats", type=click.IntRange(1), help="How often each kind of change is made.")
@click.option("--output", "-o", type=click.Choice(["text", "json", "markdown"]), default="text")
def main(
    quick: bool,
    sizes: Sequence[Size],
    baseline_sizes: Sequence[Size],
    connections_sizes: Sequence[Size],
    repeats: int | None,
    output: str,
) -> None:
    """Measure nfproxy beside a ruleset of one chain per service port, loaded by nft."""
    plan = QUICK if quick else DEFAULT
    plan = msgspec.structs.replace(
        plan,
        sizes=tuple(sizes) or plan.sizes,
        baseline_sizes=tuple(baseline_sizes) or plan.baseline_sizes,
        connections_size=next(iter(connections_sizes), plan.connections_size),
        repeats=repeats or plan.repeats,
    )
    try:
        enter_private_namespace()
        results = run(plan)
    except NfproxyError as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    elif output == "markdown":
        click.echo(report.markdown(results), nl=False)
    else:
        console = Console(width=None if sys.stdout.isatty() else 140)
        report.print_text(results, console)


if __name__ == "__main__":
    main(prog_name="bench")
