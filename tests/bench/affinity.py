"""
What session affinity costs: remembered clients, and many Services that have it.

Run by ``tests/bench/run.sh affinity``, or ``python -m bench.affinity``. Planner and reconciler
program a namespace of their own. Sticky Services share the clients; a port of one holds 65,535.
The second table says what a Service costs beside few others, and beside many: the ratio should
stay near 1.
"""

from __future__ import annotations

import ipaddress
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import click
import msgspec
from rich.console import Console
from rich.table import Table
from support.objects.model import changes, endpoint_slice, service

from bench.measure import CONFIG
from nfproxy.dataplane.kernel import Kernel
from nfproxy.errors import NfproxyError
from nfproxy.host.privatenamespace import in_new_network_namespace
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Service
from nfproxy.nft.chains import AffinityList
from nfproxy.nft.schema import MOST_CLIENTS
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.reconciler import Reconciler

PORT_HEADS = ("sticky Services", "switched on s", "ms each", "replaced ms", "start s", "ms each")
HEADS = ("clients", "plain change ms", "endpoint leaves ms", "start ms")
_FIRST_CLIENT = ipaddress.IPv4Address("100.64.0.0")
_AT_ONCE = 10_000
ENDPOINTS = 10


class Row(msgspec.Struct, frozen=True):
    """What so many clients cost, in seconds: medians, but for the start."""

    clients: int
    plain_s: float
    leave_s: float
    start_s: float


class Node:
    """The daemon's parts, with sticky Services of four endpoints and one Service without."""

    def __init__(self, kernel: Kernel, sticky: int) -> None:
        self._kernel = kernel
        self._planner = Planner(CONFIG)
        self.names = [f"sticky-{number}" for number in range(sticky)]
        services = [
            service(name, cluster_ips=[f"10.96.1.{number}"], affinity_timeout_s=10800)
            for number, name in enumerate(self.names)
        ]
        self._planner.apply(changes(service("plain", cluster_ips=["10.96.2.1"]), *services))
        self._reconciler = self._new()
        for number in range(2):
            self.replace_plain(number)
            self.change_sticky(number)

    def _new(self) -> Reconciler:
        return Reconciler(self._kernel, self._planner.desired, CONFIG, FAMILIES, time.monotonic)

    def replace_plain(self, number: int) -> None:
        """Replace the endpoint of the Service without affinity."""
        piece = endpoint_slice("plain", f"10.244.9.{number % 2 + 1}")
        self._reconciler.sync(self._planner.apply(changes(piece)))

    def change_sticky(self, number: int) -> None:
        """Let a sticky Service lose an endpoint, and get it back the next time."""
        pods = [f"10.244.1.{pod}" for pod in range(1, 5 - number % 2)]
        pieces = [endpoint_slice(name, *pods) for name in self.names]
        self._reconciler.sync(self._planner.apply(changes(*pieces)))

    def restart(self) -> None:
        """Let a new process take over the tables."""
        self._reconciler = self._new()
        self._reconciler.sync()

    def fill(self, count: int) -> None:
        """Record so many clients, as if their packets had come."""
        for name in self.names:
            clients = AffinityList(f"default/{name}/tcp/", "cluster").name
            for elements in _entries(count // len(self.names)):
                self._kernel.load(f"add element ip nfproxy {clients} {{ {elements} }}\n")


def _entries(count: int) -> Iterator[str]:
    for at in range(0, count, _AT_ONCE):
        numbers = range(at, min(count, at + _AT_ONCE))
        yield ", ".join(f"{_FIRST_CLIENT + number} : 4000:1" for number in numbers)


def _median_s(function: Callable[[int], object], rounds: int = 20) -> float:
    took = []
    for number in range(rounds):
        began = time.perf_counter()
        function(number)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def measure(clients: int) -> Row:
    """Measure with so many clients, in a network namespace of its own."""

    def inside() -> Row:
        with closing(Kernel()) as kernel:
            node = Node(kernel, max(1, -(-clients // MOST_CLIENTS)))
            node.fill(clients)
            plain, leave = _median_s(node.replace_plain), _median_s(node.change_sticky)
            began = time.perf_counter()
            node.restart()
            return Row(clients, plain, leave / len(node.names), time.perf_counter() - began)

    return in_new_network_namespace(inside)


class PortsRow(msgspec.Struct, frozen=True):
    """What so many sticky Services cost, in seconds: all at once, and one change of one of them."""

    services: int
    switched_on_s: float
    replaced_s: float
    start_s: float


def measure_ports(count: int) -> PortsRow:
    """Measure with so many Services of `ENDPOINTS` endpoints, in a namespace of its own."""

    def address(number: int) -> str:
        return f"10.96.{number // 250}.{number % 250 + 1}"

    def pieces(numbers: Iterable[int], first: int = 1) -> list[EndpointSlice]:
        pods = range(first, first + ENDPOINTS)
        return [
            endpoint_slice(f"web-{n}", *(f"10.{100 + n // 250}.{n % 250}.{pod}" for pod in pods))
            for n in numbers
        ]

    def services(timeout_s: int | None) -> list[Service]:
        return [
            service(f"web-{n}", cluster_ips=[address(n)], affinity_timeout_s=timeout_s)
            for n in range(count)
        ]

    def inside() -> PortsRow:
        with closing(Kernel()) as kernel:
            planner = Planner(CONFIG)
            reconciler = Reconciler(kernel, planner.desired, CONFIG, FAMILIES, time.monotonic)

            def take_s(*objects: Service | EndpointSlice) -> float:
                began = time.perf_counter()
                report = reconciler.sync(planner.apply(changes(*objects)))
                while report.left:
                    report = reconciler.sync()
                return time.perf_counter() - began

            take_s(*services(None), *pieces(range(count)))
            switched_on_s = take_s(*services(10800))
            replaced_s = _median_s(lambda n: take_s(*pieces([count - 1], 1 + n % 2)))
            reconciler = Reconciler(kernel, planner.desired, CONFIG, FAMILIES, time.monotonic)
            return PortsRow(count, switched_on_s, replaced_s, take_s())

    return in_new_network_namespace(inside)


def port_cells(row: PortsRow) -> tuple[str, ...]:
    """Return a row of the table."""
    return (
        f"{row.services:,}",
        f"{row.switched_on_s:.2f}",
        f"{row.switched_on_s / row.services * 1e3:.2f}",
        f"{row.replaced_s * 1e3:.2f}",
        f"{row.start_s:.2f}",
        f"{row.start_s / row.services * 1e3:.2f}",
    )


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table."""
    times = (row.plain_s, row.leave_s, row.start_s)
    return (f"{row.clients:,}", *(f"{seconds * 1e3:.2f}" for seconds in times))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--clients", multiple=True, type=int, default=(0, 100_000, 500_000))
@click.option("--services", multiple=True, type=int, default=(700, 2800))
def main(clients: tuple[int, ...], services: tuple[int, ...]) -> None:
    """Measure what remembered clients, and sticky Services, cost, with each number of them."""
    try:
        rows = [cells(measure(count)) for count in clients]
        measured = [measure_ports(count) for count in services]
    except NfproxyError as error:
        raise click.ClickException(str(error)) from error
    table = Table(*HEADS)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    ports = Table(*PORT_HEADS)
    for each in measured:
        ports.add_row(*port_cells(each))
    Console().print(ports)


if __name__ == "__main__":
    main()
