"""
What explanations cost on a node with large tables and many connections.

Run by ``tests/bench/run.sh insight``, or ``python -m bench.insight``. Programs a namespace, fills
its conntrack table, runs the commands there and prints a table.
"""

from __future__ import annotations

import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table as RichTable
from support.kernel.nodeproxy import NodeProxy

from bench import machine, objects
from bench.connections import objects_of
from bench.conntrack import Flows, fill
from bench.measure import CONFIG
from bench.objects import Size
from nfproxy.dataplane.connectionreader import read_connections
from nfproxy.dataplane.heldreader import read_held
from nfproxy.errors import NfproxyError
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.netlink.sockets import NftSocket
from nfproxy.plan.desired import Desired
from nfproxy.plan.frontends import FrontendKey
from nfproxy.tools.lab import Host, Lab

HEADS = ("what", "ms", "processor ms", "to reach, ms")
METHOD = """\
The commands read the objects of one Service, as an API server sends them for such a question, and
take the node's tables as they are: the median of {repeats} runs, starting the process included. The
connections are UDP flows, spread evenly over {frontends} frontends with ten endpoints each."""


class Row(msgspec.Struct, frozen=True):
    """A measured duration; `wanted_ms` is what it should not exceed, 0 where nothing says."""

    what: str
    ms: float
    processor_ms: float | None = None
    wanted_ms: float = 0.0


def measure(size: Size, entries: int, frontends: int, repeats: int) -> Iterator[Row]:
    """Yield the rows of the table."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="nfproxy-bench-") as directory:
        node = Host(lab.namespace("node"))
        with NodeProxy(node, CONFIG, objects_of(size)) as proxy:
            number = size.services // 2
            file = _write_service(Path(directory), size, number)
            # As installed: with the byte code of all modules, which this machine may not keep.
            cache = f"PYTHONPYCACHEPREFIX={directory}/pyc"
            program = [
                "env",
                "-u",
                "PYTHONDONTWRITEBYTECODE",
                cache,
                sys.executable,
                "-m",
                "nfproxy",
            ]
            name = f"{objects.NAMESPACE}/{objects.service_name(number)}"
            flags = ["--hostname-override", CONFIG.node_name, "--cluster-cidr", objects.LOCAL_PODS]
            explain = [*program, "explain", name, "-f", str(file), "-o", "json", *flags]
            call = node.namespace.call
            key = next(k for k in proxy.planner.desired.frontends if k.address)
            start = "start of a process: nfproxy --version"
            yield _run(start, node, [*program, "--version"], repeats)
            asked = f"explain of one Service, {size}"
            yield _run(asked, node, explain, repeats, 300)
            desired = proxy.planner.desired
            yield call(_timed, "elements of one frontend", _held(desired, key))
            flows = Flows(frontends)
            held = call(fill, entries, flows)
            every = [flows.frontend(n) for n in range(frontends)]
            full = f"{held:,} connections"
            one = functools.partial(read_connections, every[:1])
            yield call(_timed, f"{full}: those of one frontend", one, 100)
            all_ = functools.partial(read_connections, every, with_clients=False)
            yield call(_timed, f"{full}: all of {frontends} frontends", all_, 1500)
            yield _run(f"{asked}, {full}", node, explain, repeats, 300)


def _write_service(directory: Path, size: Size, number: int) -> Path:
    slices = objects.slice_json(number, objects.endpoints_of(number, size.endpoints))
    kinds = {
        "v1 Service": objects.service_json(number),
        "discovery.k8s.io/v1 EndpointSlice": slices,
    }
    items = [
        dict(zip(("apiVersion", "kind"), words.split(), strict=True)) | msgspec.json.decode(data)
        for words, data in kinds.items()
    ]
    path = directory / "service.json"
    path.write_bytes(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": items}))
    return path


def _run(what: str, node: Host, command: list[str], repeats: int, wanted_ms: float = 0.0) -> Row:
    """Return the row of the median of some runs; the first one, which warms up, left out."""
    took = []
    for _ in range(repeats + 1):
        began, before = time.monotonic(), os.times()
        done = node.namespace.run(command, check=False)
        after = os.times()
        used = sum(after[2:4]) - sum(before[2:4])  # of children, user and system
        took.append(((time.monotonic() - began) * 1e3, used * 1e3))
        if done.returncode not in (0, 1):
            raise click.ClickException(done.stderr)
    walls, useds = zip(*took[1:], strict=True)
    return Row(what, statistics.median(walls), statistics.median(useds), wanted_ms)


def _held(desired: Desired, key: FrontendKey) -> Callable[[], object]:
    def read() -> object:
        with NftSocket() as netlink:
            return read_held(netlink, desired, [key])

    return read


def _timed(what: str, function: Callable[[], object], wanted_ms: float = 0.0) -> Row:
    """Call a function three times and return the row of the fastest."""
    best: tuple[float, float] | None = None
    for _ in range(3):
        began, used = time.monotonic(), time.process_time()
        function()
        row = (time.monotonic() - began) * 1e3, (time.process_time() - used) * 1e3
        best = min(best or row, row)
    assert best is not None
    return Row(what, best[0], best[1], wanted_ms)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--size", default="10000x10", show_default=True, metavar="SERVICESxENDPOINTS")
@click.option("--entries", type=click.IntRange(1), default=200_000, show_default=True)
@click.option("--frontends", type=click.IntRange(1, 65_000), default=200, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
def main(size: str, entries: int, frontends: int, repeats: int) -> None:
    """Measure explanations and their looks at the node."""
    try:
        enter_private_namespace()
        rows = list(measure(Size.parse(size), entries, frontends, repeats))
    except (NfproxyError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    shown = RichTable(title="Explanations", title_justify="left", title_style="bold")
    for index, head in enumerate(HEADS):
        shown.add_column(head, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        used = "" if row.processor_ms is None else f"{row.processor_ms:,.1f}"
        wanted = f"{row.wanted_ms:,.0f}" if row.wanted_ms else ""
        shown.add_row(row.what, f"{row.ms:,.1f}", used, wanted)
    console = Console(width=None if sys.stdout.isatty() else 140)
    facts = "; ".join(f"{name}: {value}" for name, value in machine.facts().items())
    for part in (facts, shown, METHOD.format(repeats=repeats, frontends=frontends)):
        console.print(part, soft_wrap=True, highlight=False)
        console.print()


if __name__ == "__main__":
    main(prog_name="bench.insight")
