"""
What others wait for while everything changes, and how much memory that takes.

Run by ``tests/bench/run.sh mass``, or ``python -m bench.mass``. The daemon's planner and reconciler
program a namespace: a first load, all endpoints replaced, a start over tables of which half is
stale, and everything removed. Between two transactions a Service of another namespace changes, as
the daemon takes in changes there. A process beside it commits an empty transaction again and again.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import machine, objects
from bench.measure import CONFIG, Stopwatch, TimedKernel, changed, value_of
from bench.objects import Size
from nfproxy.errors import NfproxyError
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import ObjectName
from nfproxy.netlink.messages import NLM_F_CREATE, string
from nfproxy.netlink.nftables import DELETE_TABLE, NEW_TABLE, TABLE_NAME, Request
from nfproxy.netlink.sockets import NftSocket
from nfproxy.plan.desired import NOTHING, Touched
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.tools.lab import Lab, Namespace

HEADS = (
    *("what", "changes", "seconds", "transactions", "longest ms"),
    *("another Service ms", "another process ms", "memory MB", "peak MB"),
)
METHOD = """\
"transactions" and "longest": of one sync, which at a start makes several while the kernel works on
those before. "another Service": the longest time from its change to its commit, which
goes with the next transaction. "another process": the longest time its commit took. "memory" is
settled afterwards, "peak" the most meanwhile; both are this process's resident memory."""

_OTHER = ObjectName("other", "other")


class Row(msgspec.Struct, frozen=True):
    """What one change of everything showed; times in seconds, memory in bytes."""

    what: str
    operations: int
    seconds: float
    transactions: int
    longest_s: float
    service_s: float
    began_s: float
    ended_s: float
    settled: int
    peak: int


class Node:
    """The daemon's parts."""

    def __init__(self) -> None:
        self.watch = Stopwatch()
        self.kernel = TimedKernel(self.watch)
        self.kernel.foreign_changes()  # as in the daemon, the kernel announces each element
        self.planner = Planner(CONFIG)
        self._count = 0
        self._start()

    def _start(self) -> None:
        self._reconciler = Reconciler(
            self.kernel, self.planner.desired, CONFIG, FAMILIES, time.monotonic
        )

    def restart(self) -> None:
        """Let a new process take over the tables."""
        self._start()

    def all_at_once(self, what: str, touched: Touched, *, idle: bool = False) -> Row:
        """Commit what is touched, with a small change before each transaction but the first."""
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        waits, longest, operations, transactions = [0.0], 0.0, 0, 0
        self.watch.take("commit")
        began = time.monotonic()
        left = True
        while left:
            changed_s = time.monotonic()
            report = self._reconciler.sync(touched)
            waits.append(time.monotonic() - changed_s)
            operations += report.operations
            transactions += bool(report.operations)
            longest = max(longest, self.watch.take("commit"))
            touched = self.planner.apply(self._small_change()) if not idle else NOTHING
            if (due_s := self._reconciler.next_due()) is not None and due_s <= time.monotonic():
                operations += self._reconciler.tidy()
                transactions += 1
                longest = max(longest, self.watch.take("commit"))
            left = bool(report.left)
        self._reconciler.sync(touched)
        while (due_s := self._reconciler.next_due()) is not None and due_s < time.monotonic() + 1:
            time.sleep(max(0.0, due_s - time.monotonic()))
            self.watch.take("commit")
            operations += self._reconciler.tidy()
            transactions += 1
            longest = max(longest, self.watch.take("commit"))
        ended = time.monotonic()
        # The first reading of the tables, and of a program, is not what a running daemon does.
        service_s = max(waits[2:], default=0.0)
        peak = _status("VmHWM")
        gc.collect()
        return Row(
            *(what, operations, ended - began, transactions, longest, service_s, began, ended),
            *(_status("VmRSS"), peak),
        )

    def _small_change(self) -> Changes:
        self._count += 1
        piece = value_of(Kind.ENDPOINT_SLICE, objects.slice_json(0, [_address(self._count)]))
        assert isinstance(piece, EndpointSlice)
        return changed(msgspec.structs.replace(piece, name=_OTHER, service=_OTHER))


def _address(number: int) -> str:
    return objects.spare_endpoint(number % 100)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _slices(size: Size, shift: int, step: int = 1) -> Iterator[EndpointSlice]:
    """Yield the slices of every `step`-th Service; another `shift` gives other endpoints."""
    for number in range(0, size.services, step):
        other = size.services - 1 - number if shift else number
        data = objects.slice_json(number, objects.endpoints_of(other, size.endpoints))
        value = value_of(Kind.ENDPOINT_SLICE, data)
        assert isinstance(value, EndpointSlice)
        yield value


def measure(size: Size) -> list[Row]:
    """Change everything, in each way. Runs inside the namespace, in a process of its own."""
    node = Node()
    other = value_of(Kind.SERVICE, objects.service_json(size.services))
    services = [value_of(Kind.SERVICE, objects.service_json(n)) for n in range(size.services)]
    assert not isinstance(other, EndpointSlice)
    planner = node.planner
    planner.apply(changed(msgspec.structs.replace(other, name=_OTHER)))
    touched = planner.apply(changed(*services, *_slices(size, 0)))
    names = [service.name for service in services]
    del services
    gc.freeze()
    rows = [node.all_at_once("first load", touched)]
    touched = planner.apply(changed(*_slices(size, 1)))
    rows.append(node.all_at_once("all endpoints replaced", touched))
    node.restart()
    planner.apply(changed(*_slices(size, 0, step=2)))
    rows.append(node.all_at_once("start, half is stale", NOTHING))
    touched = planner.apply(Changes(services=dict.fromkeys(names)))
    rows.append(node.all_at_once("all Services removed", touched))
    return rows


def commit_for_ever() -> None:
    """Commit next to nothing again and again; print when each commit ended, and what it took."""
    socket, name = NftSocket(), string(TABLE_NAME, "bench-mass")
    requests = [
        Request(NEW_TABLE, Family.IPV4, name, NLM_F_CREATE),
        Request(DELETE_TABLE, Family.IPV4, name, 0),
    ]
    while True:
        began = time.monotonic()
        socket.commit(requests)
        now = time.monotonic()
        print(f"{now:.4f} {now - began:.5f}", flush=True)
        time.sleep(0.002)


def run(size: Size, namespace: Namespace) -> list[tuple[str, ...]]:
    """Return the rows of the table."""
    module = (sys.executable, "-m", "bench.mass")
    with tempfile.TemporaryFile() as log:
        beside = namespace.start([*module, "--beside"], stdout=log)
        inside = f"{size.services}x{size.endpoints}"
        made = namespace.run([*module, "--inside", inside], timeout_s=600.0)
        namespace.stop(beside)
        log.seek(0)
        waits = [tuple(map(float, line.split())) for line in log]
    rows = msgspec.json.decode(made.stdout, type=list[Row])
    return [_cells(row, waits) for row in rows]


def _cells(row: Row, waits: list[tuple[float, ...]]) -> tuple[str, ...]:
    process_s = max((took for at, took in waits if row.began_s <= at <= row.ended_s), default=0.0)
    return (
        *(row.what, f"{row.operations:,}", f"{row.seconds:.2f}", f"{row.transactions}"),
        *(f"{seconds * 1e3:.0f}" for seconds in (row.longest_s, row.service_s, process_s)),
        *(f"{size / 1e6:.0f}" for size in (row.settled, row.peak)),
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A tiny size: a test of the bench.")
@click.option("--size", default="5000x50", show_default=True, help="Services x endpoints.")
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
@click.option("--inside", hidden=True, default="")
@click.option("--beside", hidden=True, is_flag=True)
def main(quick: bool, size: str, output: str, inside: str, beside: bool) -> None:
    """Measure changes of everything."""
    if beside:
        commit_for_ever()
    if inside:
        print(msgspec.json.encode(measure(Size.parse(inside))).decode())
        return
    try:
        enter_private_namespace()
        with Lab() as lab:
            rows = run(Size(20, 5) if quick else Size.parse(size), lab.namespace("mass"))
    except (NfproxyError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(msgspec.json.encode(rows).decode())
        return
    print(f"measured: {size}; {machine.facts()}", file=sys.stderr)
    table = Table(title=f"Changes of everything, {size}", title_justify="left")
    for head in HEADS:
        table.add_column(head, justify="left" if head == "what" else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(table, METHOD)


if __name__ == "__main__":
    main(prog_name="bench mass")
