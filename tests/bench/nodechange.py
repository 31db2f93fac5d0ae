"""
What a change of the Node costs a running daemon: its zone, its addresses, its pods' range.

Run by ``tests/bench/run.sh nodechange``. The daemon's planner and reconciler program a namespace
where every endpoint has a topology hint, half of them for another zone. While the change of the
Node is planned and programmed, a Service of another namespace changes again and again.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import machine, objects
from bench.measure import CONFIG, changed, value_of
from bench.objects import Size
from nfproxy.daemon.proxier import Hooks, Outcome, Proxier
from nfproxy.dataplane.kernel import Kernel
from nfproxy.errors import NfproxyError
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import FAMILIES, Family, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.nodeconfig import KeptAddresses, LocalPods, NodeConfig
from nfproxy.model.service import ObjectName, Service
from nfproxy.tools.lab import Lab

HEADS = (
    *("change of the Node", "element changes", "seconds", "another Service ms"),
    *("memory MB", "peak MB", "ratio"),
)
METHOD = """\
"seconds": until all of it is in force. "another Service": the longest time from its change to its
commit meanwhile. "memory" is resident before, "peak" the most meanwhile."""

_OTHER = ObjectName("other", "other")
_ZONES = ("zone-a", "zone-b")
_ADDRESS = parse_address("192.168.77.12")


def _replaced(config: NodeConfig, **fields: Any) -> NodeConfig:
    return msgspec.structs.replace(config, **fields)


def configs() -> dict[str, NodeConfig]:
    """Return the configuration after each change; each has those before."""
    zone = _replaced(CONFIG, zone="zone-b")
    kept = KeptAddresses(node_addresses=frozenset({_ADDRESS}), own_addresses=frozenset({_ADDRESS}))
    address = _replaced(zone, kept=kept, node_ips={Family.IPV4: _ADDRESS})
    prefixes = {Family.IPV4: parse_prefix("10.64.2.0/24")}
    pods = _replaced(address, local_pods=LocalPods(prefixes=prefixes))
    return {"zone": zone, "address": address, "range of its pods": pods}


class Row(msgspec.Struct, frozen=True):
    """What one change showed; times in seconds, memory in bytes."""

    what: str
    operations: int
    seconds: float
    service_s: float
    settled: int
    peak: int


class Node:
    """The half of the daemon that plans and commits."""

    def __init__(self, size: Size) -> None:
        self._kernel = Kernel()
        self._kernel.foreign_changes()  # as in the daemon, the kernel announces each element
        started_s = time.monotonic()
        self._proxier = Proxier(self._kernel, FAMILIES, CONFIG, Hooks(), lambda _: "", started_s)
        self._count = 0
        other = value_of(Kind.SERVICE, objects.service_json(size.services))
        assert isinstance(other, Service)
        first = changed(
            msgspec.structs.replace(other, name=_OTHER),
            *(value_of(Kind.SERVICE, objects.service_json(n)) for n in range(size.services)),
            *(_hinted(size, number) for number in range(size.services)),
        )
        outcome = self._proxier.sync(first)
        del first, other
        while _left(outcome):
            outcome = self._proxier.go_on()
        gc.collect()
        gc.freeze()

    def close(self) -> None:
        """Close the sockets."""
        self._kernel.close()

    def change(self, what: str, config: NodeConfig) -> Row:
        """Let the Node change, and another Service until that is in force."""
        gc.collect()
        settled = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        waits, operations, began, outcome = [0.0], 0, time.monotonic(), None
        new: NodeConfig | None = config
        while outcome is None or _left(outcome):
            asked_s = time.monotonic()
            outcome = self._proxier.sync(self._small_change(), new)
            waits.append(time.monotonic() - asked_s)
            new = None
            assert outcome is not None
            assert outcome.report is not None, outcome.error
            assert _OTHER in outcome.report.finished.services
            operations += outcome.report.operations
        seconds = time.monotonic() - began
        # A change comes in while the worker thread is busy: it waits for that, and then its turn.
        longest_s = max(map(sum, itertools.pairwise(waits)))
        row = Row(what, operations, seconds, longest_s, settled, _status("VmHWM"))
        time.sleep(0.3)
        self._proxier.go_on()
        return row

    def _small_change(self) -> Changes:
        self._count += 1
        address = objects.spare_endpoint(self._count % 100)
        piece = value_of(Kind.ENDPOINT_SLICE, objects.slice_json(0, [address]))
        assert isinstance(piece, EndpointSlice)
        return changed(msgspec.structs.replace(piece, name=_OTHER, service=_OTHER))


def _left(outcome: Outcome | None) -> bool:
    assert outcome is not None
    if outcome.error is not None:
        raise outcome.error
    return outcome.report is not None and outcome.report.left > 0


def _hinted(size: Size, number: int) -> EndpointSlice:
    """Return a Service's slice; its endpoints are for one zone and the other in turns."""
    addresses = objects.endpoints_of(number, size.endpoints)
    body = msgspec.json.decode(objects.slice_json(number, addresses))
    for index, endpoint in enumerate(body["endpoints"]):
        endpoint["hints"] = {"forZones": [{"name": _ZONES[index % len(_ZONES)]}]}
    value = value_of(Kind.ENDPOINT_SLICE, msgspec.json.encode(body))
    assert isinstance(value, EndpointSlice)
    return value


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(size: Size) -> list[Row]:
    """Change each. Runs in a namespace of its own."""
    node = Node(size)
    try:
        return [node.change(what, config) for what, config in configs().items()]
    finally:
        node.close()


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table."""
    return (
        *(row.what, f"{row.operations:,}", f"{row.seconds:.2f}", f"{row.service_s * 1e3:.0f}"),
        *(f"{row.settled / 1e6:.0f}", f"{row.peak / 1e6:.0f}", f"{row.peak / row.settled:.2f}"),
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A tiny size: a test of the bench.")
@click.option("--size", default="10000x10", show_default=True, help="Services x endpoints.")
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(quick: bool, size: str, output: str) -> None:
    """Measure what a change of the Node costs."""
    try:
        enter_private_namespace()
        with Lab() as lab:
            namespace = lab.namespace("nodechange")
            rows = namespace.call(measure, Size(20, 4) if quick else Size.parse(size))
    except (NfproxyError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(msgspec.json.encode([cells(row) for row in rows]).decode())
        return
    print(f"measured: {size}; {machine.facts()}", file=sys.stderr)
    table = Table(title=f"Changes of the Node, {size}", title_justify="left")
    for head in HEADS:
        table.add_column(head, justify="left" if head == HEADS[0] else "right")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=None if sys.stdout.isatty() else 140).print(table, METHOD)


if __name__ == "__main__":
    main(prog_name="bench nodechange")
