"""
What one Service with many ports, addresses and endpoints costs: elements, memory and time.

Its cost is in the order of ports x (addresses + endpoints), and another Service's changes go on.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table
from support.objects.model import changes, endpoint_slice, gone, service

from bench import machine
from nfproxy.dataplane.kernel import Kernel
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice, SlicePort
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.nft import schema
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.reconciler import Reconciler

DEFAULT, QUICK = (100, 100, 100), (5, 10, 20)
_OTHER_CHANGES = 20


class Wide(msgspec.Struct, frozen=True):
    """What one Service took; seconds, and `other_s` for one endpoint more of another Service."""

    ports: int
    addresses: int
    endpoints: int
    elements: int
    resident_mb: float
    child_mb: float
    load_s: float
    replace_s: float
    other_s: float
    remove_s: float


def measure(ports: int, addresses: int, endpoints: int) -> Wide:
    """Load one Service into this network namespace, change and remove it."""
    config = NodeConfig(node_name="bench")
    kernel, planner = Kernel(), Planner(config)
    reconciler = Reconciler(kernel, planner.desired, config, [Family.IPV4], time.monotonic)

    def took(objects: Changes) -> float:
        began = time.perf_counter()
        report = reconciler.sync(planner.apply(objects))
        while report.left:
            report = reconciler.sync()
        return time.perf_counter() - began

    numbers = range(1, ports + 1)
    wide = service(
        "wide",
        ports=[ServicePort(f"p{n}", Protocol.TCP, n, 0) for n in numbers],
        external_ips=[f"198.51.{n // 250}.{n % 250 + 1}" for n in range(addresses)],
    )

    def listed(first: int) -> EndpointSlice:
        return endpoint_slice(
            "wide",
            *(f"10.244.{n // 250}.{n % 250 + 1}" for n in range(first, first + endpoints)),
            ports=[SlicePort(f"p{n}", Protocol.TCP, 8080) for n in numbers],
        )

    other = service("other", cluster_ips=("10.97.0.1",))
    counts = [endpoint_slice("other", *(f"10.245.0.{n}" for n in range(1, m))) for m in (2, 3)]
    for piece in counts:
        took(changes(other, piece))
    before_mb = _resident_mb()
    try:
        load_s = took(changes(wide, listed(0)))
        return Wide(
            ports,
            addresses,
            endpoints,
            sum(_count(kernel, name) for name in schema.SCHEMAS),
            _resident_mb() - before_mb,
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
            load_s,
            took(changes(listed(1))),
            _median(lambda n: took(changes(counts[n % 2]))),
            took(gone(wide)),
        )
    finally:
        kernel.close()


def _count(kernel: Kernel, name: str) -> int:
    return sum(1 for _ in kernel.elements(Family.IPV4, name))


def _median(one: Callable[[int], float]) -> float:
    return statistics.median(one(number) for number in range(_OTHER_CHANGES))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def show(found: Wide, console: Console) -> None:
    """Print a table."""
    size = f"{found.ports} ports, {found.addresses} external IPs, {found.endpoints} endpoints"
    table = Table("what", "figure", title=f"One Service: {size}", title_justify="left")
    product = found.ports * (found.addresses + 1) * (found.endpoints + 1)
    table.add_row("elements", f"{found.elements:,} (each frontend its own slots: {product:,})")
    table.add_row("memory", f"{found.resident_mb:.0f} MB more, child {found.child_mb:.0f} MB")
    table.add_row("loaded", f"{found.load_s:.2f} s")
    table.add_row("one endpoint of each port replaced", f"{found.replace_s * 1e3:.0f} ms")
    table.add_row("another Service's number of endpoints changed", f"{found.other_s * 1e3:.1f} ms")
    table.add_row("removed", f"{found.remove_s:.2f} s")
    console.print(table)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A small Service: a test of the bench.")
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(quick: bool, output: str) -> None:
    """Measure what one Service with many ports, addresses and endpoints costs."""
    enter_private_namespace()
    print(machine.facts(), file=sys.stderr, flush=True)
    found = measure(*(QUICK if quick else DEFAULT))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        show(found, Console(width=None if sys.stdout.isatty() else 120))


if __name__ == "__main__":
    main(prog_name="bench wide")
