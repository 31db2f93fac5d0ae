"""nfproxy over a kernel in memory: objects in, elements out, and a clock that stands still."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

from support.kernel.fake import FlakyKernel
from support.objects.model import changes, gone

from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol, Service
from nfproxy.nft import schema
from nfproxy.plan.desired import Touched
from nfproxy.plan.planner import Planner
from nfproxy.reconcile import committing, tracker
from nfproxy.reconcile.chainuses import IDLE_S
from nfproxy.reconcile.costs import Costs
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.syncreport import Report
from nfproxy.reconcile.tracker import LINGER_S

CONFIG = NodeConfig(node_name="node-1")


class MemoryProxy:
    """Planner and reconciler; `now` is the time in seconds."""

    def __init__(self, kernel: FlakyKernel, config: NodeConfig = CONFIG) -> None:
        """Start a process over a kernel that may hold something already."""
        self.kernel = kernel
        self.now = 100.0
        self.planner = Planner(config)
        self.reconciler = Reconciler(
            kernel, self.planner.desired, config, FAMILIES, lambda: self.now
        )

    def put(self, *objects: Service | EndpointSlice) -> Report:
        """Apply objects that appeared or changed."""
        return self.reconciler.sync(self.planner.apply(changes(*objects)))

    def remove(self, *objects: Service | EndpointSlice) -> Report:
        """Apply the deletion of objects."""
        return self.reconciler.sync(self.planner.apply(gone(*objects)))

    def resync(self) -> Report:
        """Synchronise though nothing changed."""
        return self.reconciler.sync(Touched())

    def reconfigure(self, config: NodeConfig) -> Report:
        """Go over to another node configuration."""
        self.reconciler.reconfigure(config)
        return self.reconciler.sync(self.planner.apply(self.planner.reconfigure(config)))

    def linger(self) -> int:
        """Let pass what packets on their way need, and tidy."""
        self.now += LINGER_S
        return self.reconciler.tidy()

    def idle(self) -> int:
        """Let pass what unused chains are kept for, and tidy."""
        self.now += IDLE_S
        return self.reconciler.tidy()

    def successor(self) -> "MemoryProxy":
        """Return a new process with the same objects, which has not synchronised yet."""
        new = MemoryProxy(self.kernel, self.planner.config)
        new.now = self.now
        for name, service in self.planner.services.items():
            new.planner.apply(changes(service, *self.planner.slices_of(name)))
        return new

    def verdict(self, address: str, port: int = 80, protocol: Protocol = Protocol.TCP) -> str:
        """Return the verdict on an address, "" where there is none."""
        packed = parse_address(address)
        family = Family.IPV4 if len(packed) == 4 else Family.IPV6
        key = packed + schema.protocol_bytes(protocol) + schema.port_bytes(port)
        return str(dict(self.kernel.elements(family, schema.FRONTENDS)).get(key, ""))

    def slots(self, address: str, port: int = 80) -> dict[int, str]:
        """Return what the TCP slots of an IPv4 frontend hold, as ``10.244.0.1 . 8080``."""
        prefix = parse_address(address) + schema.port_bytes(port)
        held = self.kernel.elements(Family.IPV4, schema.ENDPOINTS[Protocol.TCP])
        value = schema.SCHEMAS[schema.ENDPOINTS[Protocol.TCP]].value or ()
        return {
            schema.number_of(key, 8): schema.format_fields(value, data, Family.IPV4)
            for key, data in sorted(held)
            if key.startswith(prefix) and isinstance(data, bytes)
        }

    def chains(self, family: Family = Family.IPV4) -> set[str]:
        """Return the names of all chains."""
        return {chain.name for chain in self.kernel.chains(family)}


@contextmanager
def transactions_of(operations: int, *, several: bool = False) -> Iterator[None]:
    """Let so many operations be what a transaction should have; `several` at a start in one."""
    with (
        mock.patch.object(tracker, "TRANSACTION_S", operations * Costs().operation_s),
        mock.patch.object(Costs, "learn"),
        nullcontext() if several else one_at_a_time(),
    ):
        yield


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let a sync be one portion, at a start, too."""
    with mock.patch.object(committing, "_AHEAD_S", 0.0):
        yield
