"""
While everything changes, is listed again or taken over, little more is in memory than afterwards.

Python counts the bytes of all objects here, without the interpreter, which would hide the rest.
`tests/bench/peaks.py` measures the daemon and the kernel.
"""

from __future__ import annotations

import functools
import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import objects
from support.kernel.fake import FakeKernel
from support.objects.watchlines import SERVICES, SLICES, TIMES, bookmark

from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.listwatch import ListWatch
from nfproxy.kube.protocol import BeginList, EndList
from nfproxy.kube.resources import Resource
from nfproxy.kube.watch import Put
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.nft.schema import Value
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.transition import Operation

ROOT = Path(__file__).parents[2]
SIZES, ENDPOINTS = (60, 180), 50  # Services, and endpoints of each
CHUNK, TAKEN = 1 << 16, 20  # bytes of a stream, and changes that are planned at a time


class Silent(FakeKernel):
    """A kernel that takes everything and holds nothing; it shows the given elements."""

    def __init__(self) -> None:
        super().__init__()
        self.transaction_limit = 1 << 17
        self.shown: Callable[[Family, str], Iterator[tuple[bytes, Value]]] = lambda *_: iter(())

    def commit(self, operations: Sequence[Operation]) -> None:
        """Take them."""

    def elements(self, family: Family, name: str) -> Iterator[tuple[bytes, Value]]:  # type: ignore[override]
        """Show some."""
        return self.shown(family, name)


class Node:
    """What the daemon holds."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.kernel = Silent()
        self.cache, self.planner = ObjectCache("node-0"), Planner(NodeConfig(node_name="node-0"))
        self.start()

    def start(self) -> None:
        """Take over the tables, as a new process does, at the next `commit`."""
        config, desired = self.planner.config, self.planner.desired
        self.reconciler = Reconciler(self.kernel, desired, config, FAMILIES, lambda: 0.0)

    def list(self, version: int = 0) -> None:
        """List everything in streams; another version has other endpoints."""
        services, slices = bodies(self._size, version)
        self._stream(SERVICES, services)
        self._stream(SLICES, slices)
        self.plan()

    def _stream(self, resource: Resource, bodies: Sequence[bytes]) -> None:
        protocol = ListWatch(resource, TIMES, lambda: 0.0)
        protocol.next_request(0.0)
        protocol.opened(0.0)
        self.cache.begin_list(resource.kind)
        sent = (b'{"type":"ADDED","object":%b}\n' % body for body in bodies)
        for chunk in chunks(sent, bookmark(10, is_complete=True)):
            for output in protocol.received(chunk, 0.0):
                match output:
                    case Put():
                        self.cache.put(resource.kind, output.object)
                        if self.cache.untaken >= TAKEN:
                            self.plan()
                    case EndList():
                        self.cache.end_list(resource.kind)
                    case BeginList():
                        raise AssertionError

    def plan(self) -> None:
        """Plan what changed, long before the kernel has it."""
        self.reconciler.touch(self.planner.apply(self.cache.take()))

    def list_and_commit(self, version: int) -> None:
        """List everything, and then commit it."""
        self.list(version)
        self.commit()

    def commit(self) -> None:
        """Commit everything."""
        while self.reconciler.sync().left:
            pass


@functools.cache
def bodies(size: int, version: int) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Return Services and their slices, with other endpoints in each version."""
    return [objects.service_json(number) for number in range(size)], [
        objects.slice_json(number, objects.endpoints_of(number + version * size, ENDPOINTS))
        for number in range(size)
    ]


def chunks(lines: Iterator[bytes], last: bytes) -> Iterator[bytes]:
    """Yield a stream in pieces."""
    data = b""
    for line in lines:
        data += line
        while len(data) >= CHUNK:
            yield data[:CHUNK]
            data = data[CHUNK:]
    yield data + last


class Memory(NamedTuple):
    """Bytes: the most there were during some work, and those that were left."""

    peak: float
    left: float


def memory_of(work: Callable[[], None]) -> Memory:
    """Do some work, and count."""
    gc.collect()
    tracemalloc.reset_peak()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    gc.collect()
    return Memory(peak, tracemalloc.get_traced_memory()[0])


def of_one(work: Callable[[int], list[Memory]]) -> list[Memory]:
    """
    Return what one Service adds to both.

    What does not depend on the size of the cluster, such as a transaction, is left out.
    """
    more = SIZES[1] - SIZES[0]
    return [
        Memory((large.peak - small.peak) / more, (large.left - small.left) / more)
        for small, large in zip(*map(work, SIZES), strict=True)
    ]


def changes_of_everything(size: int) -> list[Memory]:
    """Start, list the same objects, and then some of which all endpoints differ."""
    node = Node(size)
    return [memory_of(partial(node.list_and_commit, version)) for version in (0, 0, 1)]


def a_take_over(size: int) -> list[Memory]:
    """Take over tables with other endpoints; the kernel shows the slots of all in no order."""
    node = Node(size)
    node.list_and_commit(1)
    node.kernel.shown = stale_elements(node)
    node.list(2)
    node.start()
    return [memory_of(node.commit)]


def stale_elements(node: Node) -> Callable[[Family, str], Iterator[tuple[bytes, Value]]]:
    """Return what shows the elements of the first version: first slots of all, then second ones."""
    frontends = [(key, f.verdict) for key, f in node.planner.desired.frontends.items()]

    def shown(family: Family, name: str) -> Iterator[tuple[bytes, Value]]:
        if family is not Family.IPV4:
            return
        if name == schema.FRONTENDS:
            yield from ((key.element_key, verdict) for key, verdict in frontends)
        if name == schema.ENDPOINTS[Protocol.TCP]:
            for slot in range(ENDPOINTS):
                for key, _ in frontends:
                    prefix = key.address + schema.port_bytes(key.port)
                    yield (
                        prefix + schema.number_bytes(slot),
                        bytes([9, *key.address[1:], 0, 80, 0, slot]),
                    )

    return shown


def print_memory_of_one(work: str) -> None:
    """Print what one Service adds to the memory of some work."""
    for size in SIZES:
        node = Node(size)
        for version in range(3):  # what is made once
            node.list_and_commit(version)
    tracemalloc.start()
    works = {one.__name__: one for one in (changes_of_everything, a_take_over)}
    print(json.dumps(of_one(works[work])))


def in_a_process_of_its_own(work: Callable[[int], list[Memory]]) -> list[Memory]:
    """
    Return what `print_memory_of_one` prints there.

    Here, what other tests have left would count, and what measures their coverage.
    """
    done = subprocess.run(
        [sys.executable, "-P", __file__, work.__name__],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [Memory(*values) for values in json.loads(done.stdout)]


def test_changes_of_everything() -> None:
    start, again, changed = in_a_process_of_its_own(changes_of_everything)

    assert start.peak < 1.1 * start.left
    assert again.peak < 1.1 * start.left
    # What the kernel has and what it should have: both in one piece for each Service.
    assert changed.peak < start.left + ENDPOINTS * 44
    assert max(again.left, changed.left) < 1.03 * start.left


def test_a_take_over_of_tables_with_other_endpoints() -> None:
    (taken,) = in_a_process_of_its_own(a_take_over)

    assert taken.peak < taken.left + ENDPOINTS * 70


if __name__ == "__main__":
    print_memory_of_one(sys.argv[1])
