"""
Changes of many kinds, one after the other: what they cost, and what stays in memory.

The stand-in plays the API server, as in :mod:`bench.running`. Each kind of change comes back to
where it began, so what the daemon holds at the end is what it held at the beginning.
"""

from __future__ import annotations

import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from support.apiserver import StandIn

from bench import machine, objects
from bench.commits import Commits
from bench.objects import Size
from bench.running import NODE, Process, daemon, serve
from bench.targets import Target, at_most
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.lab import Lab

LARGE = Size(10_000, 10)
HEADS = ("kind", "size", "changes/s", "commits/s", "processor", "of it children", "lag", "longest")
_COUNTS = 12  # endpoints that a Service has at most, where their number changes
_CHANGED = 64  # Services that changes are about
_PARTS = 6  # intervals of which each prints the memory


class Churned(msgspec.Struct, frozen=True):
    """
    What one kind of change showed.

    `lag_s` is from the last change to the last commit, `longest_s` the longest time that a change
    had to wait for a commit. `memory` is in bytes, after each interval.
    """

    kind: str
    size: str
    made_per_s: float
    commits_per_s: float
    processor: float
    children: float
    lag_s: float
    longest_s: float
    memory: list[int]


class Churn:
    """Makes changes of an API server's objects; each method makes the change with a number."""

    def __init__(self, api: StandIn, size: Size) -> None:
        """Change the first Services of a cluster of a size."""
        self._api = api
        self._size = size
        self._services = min(size.services, _CHANGED)

    def endpoint(self, count: int) -> None:
        """Replace an endpoint."""
        number = count * 7 % self._services
        addresses = objects.endpoints_of(number, self._size.endpoints)
        addresses[0] = objects.spare_endpoint(count % 50_000)
        self._apply_slice(number, addresses)

    def scale(self, count: int) -> None:
        """Give a Service another number of endpoints."""
        number = count * 7 % self._services
        first = number * _COUNTS
        spare = [objects.spare_endpoint(first + index) for index in range(1 + count % _COUNTS)]
        self._apply_slice(number, spare)

    def service(self, count: int) -> None:
        """Make a Service and its slice, and remove them, in turn."""
        number = self._size.services + count // 4 % 20_000
        self._come_and_go(count, number, msgspec.json.decode(objects.service_json(number)))

    def new(self, count: int) -> None:
        """Make a Service, and then its slice; both stay."""
        number = self._size.services + count // 2
        if count % 2 == 0:
            self._apply("Service", msgspec.json.decode(objects.service_json(number)))
        else:
            first = 100_000 + 10 * (count // 2)
            self._apply_slice(number, [objects.spare_endpoint(first + n) for n in range(10)])

    def sticky(self, count: int) -> None:
        """Do the same with a Service that has session affinity."""
        number = self._size.services + 20_000 + count // 4 % 20_000
        service = msgspec.json.decode(objects.service_json(number))
        self._come_and_go(count, number, _with_affinity(service))

    def guarded(self, count: int) -> None:
        """Do the same with a Service that has a load-balancer IP with source ranges."""
        number = self._size.services + 40_000 + count // 4 % 20_000
        service = msgspec.json.decode(objects.service_json(number))
        service["spec"] |= {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}
        address = f"198.18.{number % 65_536 // 256}.{number % 256}"
        service["status"] = {"loadBalancer": {"ingress": [{"ip": address}]}}
        self._come_and_go(count, number, service)

    def affinity(self, count: int) -> None:
        """Switch a Service's session affinity on, or off."""
        number = count * 7 % self._services
        service = msgspec.json.decode(objects.service_json(number))
        if count // self._services % 2 == 0:
            service = _with_affinity(service)
        self._apply("Service", service)

    def node(self, count: int) -> None:
        """Give the node another zone."""
        self._api.apply(node(f"zone-{count % 5}"))

    def mixed(self, count: int) -> None:
        """Make the others' changes by turns, the node's rarely."""
        if count % 500 == 499:
            self.node(count // 500)
        kinds = (self.endpoint, self.scale, self.service, self.sticky, self.guarded, self.affinity)
        kinds[count % len(kinds)](count // len(kinds))

    def _come_and_go(self, count: int, number: int, service: dict[str, Any]) -> None:
        name = objects.service_name(number)
        if count % 4 == 0:
            self._apply("Service", service)
        elif count % 4 == 1:
            spare = [objects.spare_endpoint(60_000 + index) for index in range(1 + number % 4)]
            self._apply_slice(number, spare)
        elif count % 4 == 2:
            self._api.delete("services", objects.NAMESPACE, name)
        else:
            self._api.delete("endpointslices", objects.NAMESPACE, f"{name}-abcde")

    def _apply_slice(self, number: int, addresses: Sequence[str]) -> None:
        self._apply("EndpointSlice", msgspec.json.decode(objects.slice_json(number, addresses)))

    def _apply(self, kind: str, body: dict[str, Any]) -> None:
        body["metadata"].pop("resourceVersion")
        self._api.apply(body | {"kind": kind})


def _with_affinity(service: dict[str, Any]) -> dict[str, Any]:
    config = {"clientIP": {"timeoutSeconds": 10800}}
    service["spec"] |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}
    return service


KINDS = ("mixed", "endpoint", "scale", "service", "new", "sticky", "guarded", "affinity", "node")


def node(zone: str) -> dict[str, Any]:
    """Return the daemon's node in a zone."""
    return {
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.77.11"}]},
    }


def measure(kind: str, size: Size, seconds: float, rate: float, pause_ms: float) -> Churned:
    """Make changes of a kind for so many seconds, `rate` a second."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="nfproxy-bench-") as scratch:
        namespace = lab.namespace("node")
        namespace.run(["ip", "link", "set", "lo", "up"])
        with serve(namespace, size) as api, Commits(namespace) as commits:
            change: Callable[[int], None] = getattr(Churn(api, size), kind)
            with daemon(namespace, api, Path(scratch), pause_ms) as process:
                process.wait_until_ready()
                time.sleep(2.0)
                return _churn(kind, size, process, commits, change, seconds, rate)


def _churn(
    kind: str,
    size: Size,
    process: Process,
    commits: Commits,
    change: Callable[[int], None],
    seconds: float,
    rate: float,
) -> Churned:
    commits.forget()
    memory = [process.memory("VmRSS")]
    used, children, began, made = process.processor_s(), process.children_s(), time.monotonic(), 0
    changed_at = [began]
    while (now := time.monotonic()) < began + seconds:
        if now - began > seconds * len(memory) / _PARTS:
            memory.append(process.memory("VmRSS"))
        if made < (now - began) * rate:
            changed_at.append(now)
            change(made)
            made += 1
        else:
            time.sleep(0.0005)
    took = time.monotonic() - began
    used, children = process.processor_s() - used, process.children_s() - children
    time.sleep(2.0)  # a daemon that lags behind would still be committing
    memory.append(process.memory("VmRSS"))
    return Churned(
        *(kind, str(size), made / took, commits.count / took, used / took, children / took),
        *(max(0.0, commits.last - changed_at[-1]), _longest(changed_at[1:], commits.times), memory),
    )


def _longest(changes: Sequence[float], commits: Sequence[float]) -> float:
    """Return the longest time from a change to the commit that followed it."""
    indexes = ((at, bisect_left(commits, at)) for at in changes)
    return max((commits[i] - at for at, i in indexes if i < len(commits)), default=0.0)


def show(results: Sequence[Churned], console: Console) -> None:
    """Print a table."""
    table = Table(title="Changes of many kinds", title_justify="left")
    for head in (*HEADS, "memory meanwhile, MB"):
        table.add_column(head, justify="left" if head == "kind" else "right")
    for result in results:
        table.add_row(
            *(result.kind, result.size, f"{result.made_per_s:.0f}"),
            *(f"{result.commits_per_s:.1f}", f"{result.processor:.0%}", f"{result.children:.0%}"),
            *(f"{result.lag_s * 1e3:.0f} ms", f"{result.longest_s * 1e3:.0f} ms"),
            " ".join(f"{size / 1e6:.1f}" for size in result.memory),
        )
    console.print(table)
    for target in targets(results):
        console.print(f"{target.what}: {target.measured} ({target.wanted}) {target.verdict}")


def targets(results: Sequence[Churned]) -> Iterator[Target]:
    """Yield what two cores should reach with 100 new Services a second, each with its slice."""
    for result in results:
        if result.kind == "new" and result.size == str(LARGE):
            kept = f"{result.made_per_s / 2:.0f}"
            yield Target("new Services a second", "100", kept, result.made_per_s >= 2 * 99)
            yield at_most("processor", 30, result.processor * 100, "% of a core")
            yield at_most("longest wait of a change", 200, result.longest_s * 1e3, "ms")
            yield at_most("wait of the last change", 200, result.lag_s * 1e3, "ms")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Repeatable.")
@click.option("--size", default="2000x4", show_default=True, help="Services x endpoints.")
@click.option("--seconds", type=click.FloatRange(0.1), default=60.0, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(1), default=120.0, show_default=True, help="Changes a second."
)
@click.option("--pause", type=float, default=50.0, show_default=True, help="minSyncPeriod in ms.")
@click.option("--quick", is_flag=True, help="A tiny size: a test of the bench.")
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(
    kinds: Sequence[str],
    size: str,
    seconds: float,
    rate: float,
    pause: float,
    quick: bool,
    output: str,
) -> None:
    """Make changes of many kinds, and print what they cost and what stays in memory."""
    enter_private_namespace()
    print(f"measuring: {size}; {machine.facts()}", file=sys.stderr, flush=True)
    wanted = Size(20, 2) if quick else Size.parse(size)
    results = [
        measure(kind, wanted, 1.0 if quick else seconds, rate, pause)
        for kind in kinds or ("mixed",)
    ]
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        show(results, Console(width=None if sys.stdout.isatty() else 140))


if __name__ == "__main__":
    main(prog_name="bench churn")
