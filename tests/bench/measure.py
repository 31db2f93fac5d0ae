"""
One size, in a fresh process that does what the daemon does: objects, plan, kernel.

``python -m bench.measure DIRECTORY SIZE REPEATS``: reads the pages of both LISTs from the
directory, programs the network namespace it runs in, prints a `Measured` as JSON. Not counted
are reading the files, and making the JSON of changed objects.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

import nfproxy.daemon  # here and below: the daemon's memory includes its modules
import nfproxy.manifests.source  # noqa: F401
from bench import objects
from bench.objects import Size
from bench.results import Change, FirstLoad, Measured, Memory, Spread
from nfproxy.dataplane.kernel import Kernel
from nfproxy.host.freememory import bulk_load
from nfproxy.kube.decode import decode
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import FAMILIES, Family, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.model.service import ObjectName, Service
from nfproxy.netlink.nftables import Request
from nfproxy.netlink.sockets import NftSocket
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.tracker import LINGER_S
from nfproxy.reconcile.transition import Operation

CONFIG = NodeConfig(
    node_name="node-1",
    zone="zone-a",
    local_pods=LocalPods(prefixes={Family.IPV4: parse_prefix(objects.LOCAL_PODS)}),
)

#: Each makes a chain of a new shape, by a child process: some tens of milliseconds.
NEW_SHAPES = 20


class Stopwatch:
    """Adds up how long calls take, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, function: Callable[[], None]) -> None:
        """Call a function."""
        began = time.perf_counter()
        try:
            function()
        finally:
            passed = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + passed

    def take(self, name: str) -> float:
        """Return the seconds of a name, and start it at 0 again."""
        return self.seconds.pop(name, 0.0)


class TimedNetlink(NftSocket):
    """A netlink socket that notes how long the kernel works on transactions."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self._watch = watch

    def commit(self, requests: Sequence[Request]) -> None:
        """Commit."""
        self._watch.time("commit", lambda: super(TimedNetlink, self).commit(requests))


class TimedKernel(Kernel):
    """The kernel, noting how long each way into it takes."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__(TimedNetlink(watch))
        self._watch = watch

    def load(self, text: str) -> None:
        """Load text."""
        self._watch.time("program", lambda: super(TimedKernel, self).load(text))

    def commit(self, operations: Sequence[Operation]) -> None:
        """Encode and commit."""
        self._watch.time("encode and commit", lambda: super(TimedKernel, self).commit(operations))

    def commit_all(self, transactions: Iterable[Sequence[Operation]]) -> None:
        """Commit one after the other, so that each part can be measured."""
        for operations in transactions:
            self.commit(operations)


class Clock:
    """A clock that can be moved on, so that nothing has to wait for what lingers."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._ahead += seconds


class Node:
    """The daemon's parts, put together as it does, with a stopwatch inside."""

    def __init__(self) -> None:
        self.watch = Stopwatch()
        self.clock = Clock()
        self.planner = Planner(CONFIG)
        self.reconciler = Reconciler(
            TimedKernel(self.watch), self.planner.desired, CONFIG, FAMILIES, self.clock
        )

    def first_load(self, first: Changes) -> tuple[float, FirstLoad]:
        """Plan and load everything; return the time of planning, and that of the rest."""
        with bulk_load():
            began = time.perf_counter()
            touched = self.planner.apply(first)
            planned, cpu = time.perf_counter(), _cpu_seconds()
            report = self.reconciler.sync(touched)
            operations = report.operations
            while report.left:
                report = self.reconciler.sync()
                operations += report.operations
            total, cpu = time.perf_counter() - planned, _cpu_seconds() - cpu
        program, commit = self.watch.take("program"), self.watch.take("commit")
        both = self.watch.take("encode and commit")
        load = FirstLoad(
            total=total,
            program=program,
            difference=total - program - both,
            encoding=both - commit,
            commit=commit,
            cpu=cpu,
            operations=operations,
        )
        return planned - began, load

    def change(self, changes: Changes) -> Change:
        """Apply a change; let nothing linger afterwards."""
        self.watch.take("commit")
        interruptions = _interruptions()
        began = time.perf_counter()
        self.reconciler.sync(self.planner.apply(changes))
        seconds = time.perf_counter() - began
        interrupted = _interruptions() != interruptions
        kernel = self.watch.take("commit")
        self.clock.advance(1.1 * LINGER_S)
        self.reconciler.tidy()
        return Change(seconds, kernel, interrupted)

    def repeat(self, changes: Iterator[Changes]) -> Spread:
        """Apply many changes."""
        return Spread.of_changes([self.change(one) for one in changes])


def _interruptions() -> int:
    """Return how often the scheduler took the processor from this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class _List(msgspec.Struct):
    """A page of a LIST."""

    items: list[msgspec.Raw]


def read_list(directory: Path, kind: Kind) -> tuple[list[Service | EndpointSlice], float, int]:
    """Decode all pages of a LIST; return its objects, the seconds it took, and the bytes."""
    pages = msgspec.json.Decoder(_List)
    found: list[Service | EndpointSlice] = []
    seconds, size = 0.0, 0
    for path in sorted(directory.glob(f"{kind.word}-*.json")):
        data = path.read_bytes()
        size += len(data)
        began = time.perf_counter()
        found += [value_of(kind, item) for item in pages.decode(data).items]
        seconds += time.perf_counter() - began
    return found, seconds, size


def value_of(kind: Kind, data: bytes | msgspec.Raw) -> Service | EndpointSlice:
    """Decode one object that is known to be good."""
    value = decode(kind, data).value
    if not isinstance(value, Service | EndpointSlice):
        raise TypeError(f"not a {kind.word}: {bytes(data)[:200]!r}")
    return value


def changed(*values: Service | EndpointSlice) -> Changes:
    """Return objects as the batch of changes a source would make of them."""
    return Changes(
        services={o.name: o for o in values if isinstance(o, Service)},
        slices={o.name: o for o in values if isinstance(o, EndpointSlice)},
    )


class Scenarios:
    """The kinds of change. Each `number` of a repetition concerns another Service."""

    def __init__(self, size: Size, repeats: int) -> None:
        self._size = size
        self._repeats = repeats
        self.decoding: list[float] = []

    def run(self, node: Node) -> dict[str, Spread]:
        """Measure all kinds, in an order in which each leaves what the next one needs."""
        # The shape of one endpoint more exists from here on: others have it, too, in a cluster.
        keeper = self._size.services
        node.change(self._new_service(keeper, self._size.endpoints + 1))
        return {
            "one endpoint replaced": node.repeat(self._replaced()),
            "one endpoint added": node.repeat(self._added()),
            "one endpoint removed": node.repeat(self._removed()),
            "one Service added": node.repeat(self._services_added()),
            "one Service removed": node.repeat(self._services_removed()),
            "one endpoint added, new shape": node.repeat(self._new_shapes()),
        }

    def _services(self) -> Iterator[tuple[int, int]]:
        """Yield (repetition, Service), the Services spread over all."""
        for number in range(self._repeats):
            yield number, number * 7919 % self._size.services

    def _slice(self, service: int, addresses: Sequence[str]) -> EndpointSlice:
        data = objects.slice_json(service, addresses)
        began = time.perf_counter()
        value = value_of(Kind.ENDPOINT_SLICE, data)
        self.decoding.append(time.perf_counter() - began)
        assert isinstance(value, EndpointSlice)
        return value

    def _replaced(self) -> Iterator[Changes]:
        for number, service in self._services():
            addresses = objects.endpoints_of(service, self._size.endpoints)
            addresses[number % len(addresses)] = objects.spare_endpoint(number)
            yield changed(self._slice(service, addresses))

    def _added(self) -> Iterator[Changes]:
        for number, service in self._services():
            addresses = objects.endpoints_of(service, self._size.endpoints)
            kept = number % len(addresses)  # what _replaced did stays
            addresses[kept] = objects.spare_endpoint(number)
            more = objects.spare_endpoint(self._repeats + number)
            yield changed(self._slice(service, [*addresses, more]))

    def _removed(self) -> Iterator[Changes]:
        for number, service in self._services():
            addresses = objects.endpoints_of(service, self._size.endpoints)
            addresses[number % len(addresses)] = objects.spare_endpoint(number)
            # The first one leaves, so that the last slot has to move, the common case.
            more = objects.spare_endpoint(self._repeats + number)
            yield changed(self._slice(service, [*addresses[1:], more]))

    def _new_service(self, service: int, endpoints: int) -> Changes:
        value = value_of(Kind.SERVICE, objects.service_json(service))
        first = 10 * (self._repeats + NEW_SHAPES) + service % 1000 * endpoints
        addresses = [objects.spare_endpoint(first + index) for index in range(endpoints)]
        return changed(value, self._slice(service, addresses))

    def _services_added(self) -> Iterator[Changes]:
        for number in range(self._repeats):
            yield self._new_service(self._size.services + 1 + number, self._size.endpoints)

    def _services_removed(self) -> Iterator[Changes]:
        for number in range(self._repeats):
            service = self._size.services + 1 + number
            name = ObjectName(objects.NAMESPACE, objects.service_name(service))
            piece = ObjectName(objects.NAMESPACE, f"{objects.service_name(service)}-abcde")
            yield Changes(services={name: None}, slices={piece: None})

    def _new_shapes(self) -> Iterator[Changes]:
        service = self._size.services  # the keeper has one endpoint more than the others
        for number in range(NEW_SHAPES):
            count = self._size.endpoints + 2 + number
            yield changed(self._slice(service, objects.endpoints_of(service, count)))


def memory(start: int) -> Memory:
    """Return this process's memory now; `start` is what it had before any object."""
    rollup = _fields(Path("/proc/self/smaps_rollup"))
    status = _fields(Path("/proc/self/status"))
    unique = rollup["Private_Clean"] + rollup["Private_Dirty"]
    return Memory(start, status["VmHWM"], status["VmRSS"], rollup["Pss"], unique)


def _fields(path: Path) -> dict[str, int]:
    """Return a file's ``name: number kB`` lines in bytes."""
    found = {}
    for line in path.read_text("ascii").splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            found[name] = int(rest.split()[0]) * 1024
    return found


def measure(directory: Path, size: Size, repeats: int) -> Measured:
    """Measure one size in this process and this network namespace."""
    start = _fields(Path("/proc/self/status"))["VmRSS"]
    node = Node()
    services, services_s, services_bytes = read_list(directory, Kind.SERVICE)
    slices, slices_s, slices_bytes = read_list(directory, Kind.ENDPOINT_SLICE)
    first = changed(*services, *slices)
    del services, slices
    planning, first_load = node.first_load(first)
    del first
    scenarios = Scenarios(size, min(repeats, size.services))
    spreads = scenarios.run(node)
    return Measured(
        size.services,
        size.endpoints,
        services_s + slices_s,
        services_bytes + slices_bytes,
        planning,
        first_load,
        memory(start),
        Spread.of(scenarios.decoding),
        spreads,
    )


def main() -> None:
    """Measure what the arguments say."""
    directory, size, repeats = sys.argv[1:]
    result = measure(Path(directory), Size.parse(size), int(repeats))
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
