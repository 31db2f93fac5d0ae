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
from nfproxy.nft.chains import RecordChain
from nfproxy.plan.desired import Touched
from nfproxy.plan.frontends import AffinityListKey
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.chainuses import IDLE_S
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.script import script
from nfproxy.reconcile.syncreport import Report
from nfproxy.reconcile.tracker import LINGER_S

#: Family, map of clients, client.
Remembered = tuple[Family, str, bytes]

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
                self.plan(self.planner.apply(self.planner.reconfigure(config)))
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
        self._kept: dict[Remembered, bytes] = {}
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
        wanted = self._lists()
        self._kept = {
            one: number for one, number in self._kept.items() if number in wanted.get(one[:2], ())
        }
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
        """Come to rest without faults, and look at the remembered clients."""
        self.kernel.faults = []
        super().finish()
        held = {
            (family, *where): number
            for family in FAMILIES
            for where, number in self.kernel.clients(family).items()
        }
        assert held == {**held, **self._kept}, "a client is forgotten"
        maps = {(family, name) for family, name, _ in held}
        assert maps <= self._lists().keys(), "the clients of a list that is gone are still there"

    def _connect(self, pick: int) -> None:
        """Let a packet that is on its way record its client."""
        recordings = self.packets.recordings()
        if not recordings:
            return
        family, clients = recordings[pick % len(recordings)]
        numbers = sorted(self._lists().get((family, clients), ()))
        number = numbers[pick % len(numbers)] if numbers else b"\0\0\0\x40"
        client = bytes([pick % 7]) * family.size
        if clients in self.kernel.set_names(family):
            self.kernel.record(family, clients, client, number)
            if numbers and self.kernel.clients(family)[clients, client] == number:
                self._kept[family, clients, client] = number

    def _lists(self) -> dict[tuple[Family, str], set[bytes]]:
        """Return the numbers of the endpoints on each list, by the map of its clients."""
        desired = self.planner.desired
        return {
            (key.family, one.name): {
                element.key[-4:]
                for element in desired.affinity_lists.get(
                    AffinityListKey(key.family, one.number), ()
                )
            }
            for key, frontend in desired.frontends.items()
            for chain in frontend.chains
            if isinstance(chain, RecordChain)
            for one in chain.lists
        }
