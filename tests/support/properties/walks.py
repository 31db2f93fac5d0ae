"""A walk: nfproxy's planner and reconciler through a sequence of steps, with a clock of its own."""

import contextlib
from typing import Generic, TypeVar

from support.kernel.fake import FakeKernel, FlakyKernel
from support.kernel.real import RealKernel
from support.properties.clusters import (
    Connect,
    Fail,
    Population,
    Reconfigure,
    Restart,
    Step,
    Sync,
    Tidy,
    Wait,
)
from support.properties.packetmodel import PacketModel

from nfproxy.errors import NfproxyError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.desired import Touched
from nfproxy.plan.frontends import AffinityListKey
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.chainuses import IDLE_S
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.script import script
from nfproxy.reconcile.syncreport import Report
from nfproxy.reconcile.tracker import LINGER_S

K = TypeVar("K", bound=FakeKernel | RealKernel)


class Walk(Generic[K]):
    """
    A process (several, one after another, with Restart) that programs one kernel.

    `commit_s` is how long a transaction takes. With `eager` the daemon tidies between
    planning a change and synchronising it, too.
    """

    def __init__(
        self, kernel: K, config: NodeConfig, *, commit_s: float = 0.0, eager: bool = False
    ) -> None:
        """Begin with no objects; nothing is read or written yet."""
        self.kernel = kernel
        self.config = config
        self.population = Population()
        self.now = 1000.0
        self.commit_s = commit_s
        self.eager = eager
        self._start()

    def _start(self) -> None:
        self.planner = Planner(self.config)
        self.reconciler = Reconciler(
            self.kernel, self.planner.desired, self.config, FAMILIES, lambda: self.now
        )

    def take(self, step: Step) -> None:
        """Take one step."""
        match step:
            case Wait(seconds):
                self.now += seconds
            case Tidy():
                self.tidy()
            case Sync():
                self.sync(Touched())
            case Restart():
                self._start()
                self.plan(self.planner.apply(self.population.since(Population())))
            case Reconfigure(config):
                self.config = config
                self.reconciler.reconfigure(config)
                self.plan(self.planner.reconfigure(config))
            case Fail() | Connect():
                raise ValueError(f"{step} needs a kernel in memory")
            case _:
                old, self.population = self.population, self.population.after(step)
                self.plan(self.planner.apply(self.population.since(old)))

    def plan(self, touched: Touched) -> None:
        """Bring a changed desired state into force."""
        if self.eager:
            self.tidy()
        self.sync(touched)

    def sync(self, touched: Touched) -> Report | None:
        """Synchronise, a portion only; None where that failed and a later step makes it right."""
        return self.reconciler.sync(touched)

    def tidy(self) -> None:
        """Remove what is due."""
        self.reconciler.tidy()

    def finish(self) -> None:
        """Come to rest: everything in force, nothing lingers, no chain is idle."""
        while (report := self.sync(Touched())) is None or report.left:
            assert report is not None
        for pause in (LINGER_S, IDLE_S, IDLE_S):
            self.now += pause + 1.0
            while (due := self.reconciler.next_due()) is not None and due <= self.now:
                self.reconciler.tidy()
        assert self.reconciler.next_due() is None

    def settle(self, population: Population) -> None:
        """Begin with these objects, all at once, and come to rest."""
        self.population = population
        self.plan(self.planner.apply(population.since(Population())))
        self.finish()

    def script(self) -> str:
        """Return what `render` prints for the objects."""
        return script(self.planner.desired, self.config.program, FAMILIES)


class WatchedWalk(Walk[FlakyKernel]):
    """A walk over a kernel in memory that fails at times, with a model of its packets."""

    def __init__(self, config: NodeConfig, *, commit_s: float = 0.0, eager: bool = False) -> None:
        """Begin with an empty kernel."""
        kernel = FlakyKernel()
        super().__init__(kernel, config, commit_s=commit_s, eager=eager)
        self.packets = PacketModel(kernel, lambda: self.now)
        self._kept: dict[tuple[Family, bytes], bytes] = {}
        kernel.watch = self._committed

    def _committed(self) -> None:
        self.now += self.commit_s
        self.packets.committed()

    def take(self, step: Step) -> None:
        """Take one step, faults and clients included."""
        match step:
            case Fail(faults):
                self.kernel.faults = list(faults)
            case Connect(pick):
                self._connect(pick)
            case _:
                super().take(step)

    def plan(self, touched: Touched) -> None:
        """Inform the model first."""
        self.packets.want(self.planner.desired)
        self._kept = {at: value for at, value in self._kept.items() if self._allowed(at, value)}
        super().plan(touched)

    def sync(self, touched: Touched) -> Report | None:
        """Inform the model afterwards."""
        try:
            report = super().sync(touched)
        except NfproxyError:
            return None
        if not report.left:
            self.packets.synced()
        return report

    def tidy(self) -> None:
        """Remove what is due, or fail."""
        with contextlib.suppress(NfproxyError):
            super().tidy()

    def finish(self) -> None:
        """Come to rest without faults, and look at the affinity entries."""
        self.kernel.faults = []
        super().finish()
        held = {
            (family, key): address
            for family in FAMILIES
            for key, address in self.kernel.affinity_entries(family, [b""])
        }
        for at, address in held.items():
            assert self._allowed(at, address), f"the endpoint of an entry left: {at} {address!r}"
        assert held == {**held, **self._kept}, "an affinity entry is lost"

    def _connect(self, pick: int) -> None:
        """Let a packet that is on its way record its client."""
        recordings = self.packets.recordings()
        if not recordings:
            return
        family, number, address = recordings[pick % len(recordings)]
        client = bytes([pick % 7]) * (4 if family is Family.IPV4 else 8)
        at = family, client + number
        self.kernel.record(*at, address)
        self._kept.pop(at, None)
        if self._allowed(at, address):
            self._kept[at] = address

    def _allowed(self, at: tuple[Family, bytes], address: bytes) -> bool:
        key = AffinityListKey(at[0], at[1][-8:])
        return address in self.planner.desired.affinity_lists.get(key, ())
