"""
What goes along with programming a node: health, metrics, health-check node ports, stale flows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from nfproxy.clock import now
from nfproxy.daemon.flows import FlowCleaning
from nfproxy.daemon.interface import Commit
from nfproxy.health import Health
from nfproxy.host.addresses import LocalAddresses, within
from nfproxy.kube.source import Source
from nfproxy.metrics import Metrics, ResyncReason
from nfproxy.model.addresses import Family, Prefix
from nfproxy.model.changes import Changes
from nfproxy.model.service import ObjectName
from nfproxy.plan.planner import Planner
from nfproxy.plan.servicehealth import HealthCheck, health_checks
from nfproxy.servers.servicehealth import ServiceHealthServers
from nfproxy.views.tally import Tally

log = logging.getLogger(__name__)

_AGAIN_S = 30.0  # a health-check node port that could not be had is tried again

Wanted = dict[tuple[ObjectName, Family], HealthCheck]


class NodeDuties:
    """
    Implements :class:`~nfproxy.daemon.interface.Duties` for a node.

    The cost of a commit here is, as there, that of the Services it is about. What takes long or
    needs the event loop is handed over: to `flows`, and to :func:`serve_health_checks`, which
    looks at `health_checks` and `node_port_prefixes` when `health_checks_changed` is set.
    `planner` is the one of the last commit, None before the first.
    """

    def __init__(
        self,
        metrics: Metrics,
        health: Health,
        families: Sequence[Family],
        flows: FlowCleaning,
    ) -> None:
        """Note that the loop begins; the event loop is running."""
        self._metrics = metrics
        self._health = health
        self._families = tuple(families)
        self._flows = flows
        self._tally = Tally()
        self._dirty: set[ObjectName] = set()
        self._disturbed = self._failing = False
        self._loop = asyncio.get_running_loop()
        self.planner: Planner | None = None
        self.health_checks: Wanted = {}
        self.node_port_prefixes: Mapping[Family, tuple[Prefix, ...] | None] | None = None
        self.health_checks_changed = asyncio.Event()
        for family in self._families:
            health.started(family, now())
        self._request()

    def _request(self) -> None:
        """Note that a synchronisation is asked for."""
        moment = now()
        for family in self._families:
            self._health.queued(family, moment)
            self._metrics.sync_requested(family, moment.unix_ns / 1e9)

    def received(self, changes: Changes) -> None:
        """Note what waits to be programmed from now on."""
        if changes.node is not None:
            self._health.node_told(changes.node)
        elif changes.node_gone:
            self._health.node_gone()
            log.warning("this node's Node object is gone; its last addresses and zone stay in use")
        self._dirty.update(changes.services)
        self._metrics.changes_pending(len(self._dirty))
        self._request()

    def disturbed(self, culprit: str) -> None:
        """Count a change by others, and wait for the repair."""
        self._disturbed = True
        self._metrics.foreign_change()
        self._request()

    def failed(self, error: Exception, seconds: float) -> None:
        """Count a failure, and wait for the next try."""
        self._failing = True
        for family in self._families:
            self._metrics.sync_failed(family, seconds, full=True)
        self._request()

    def cleanup_failed(self) -> None:
        """Count it."""
        for family in self._families:
            self._metrics.cleanup_failed(family)

    def committed(self, planner: Planner, commit: Commit) -> None:
        """Tell everybody that everything received until now is in force."""
        self._dirty = set()
        self.planner = planner
        self._count(planner, commit)
        moment = now()
        for family in self._families:
            self._health.succeeded(family, moment)
        self._check_health_of(planner, commit.touched.services)
        self._flows.changed(planner, commit.touched)

    def _count(self, planner: Planner, commit: Commit) -> None:
        metrics, report = self._metrics, commit.report
        metrics.sync_started()
        if report.resynced:
            metrics.resynced(self._reason())
        self._disturbed = self._failing = False
        if report.operations or report.chains_made:
            metrics.transaction(commit.seconds, report.operations)
            metrics.chains_made(report.chains_made)
        unix_s = now().unix_ns / 1e9
        self._tally.update(planner, commit.touched.services)
        for family in self._families:
            metrics.sync_finished(
                family,
                commit.seconds,
                full=report.resynced,
                unix_s=unix_s,
                triggers=commit.triggers.get(family, ()),
            )
            total = self._tally.total(family)
            metrics.no_local_endpoints(family, internal=total.internal, external=total.external)
            metrics.table_size(
                family,
                frontends=total.frontends,
                endpoints=total.endpoints,
                elements=total.elements,
            )
        metrics.services(len(planner.services))
        metrics.conflicts(commit.contested)

    def _reason(self) -> ResyncReason:
        if not self._health.programmed:
            return ResyncReason.START
        if self._failing:
            return ResyncReason.FAILURE
        return ResyncReason.FOREIGN if self._disturbed else ResyncReason.AUDIT

    def _check_health_of(self, planner: Planner, services: Collection[ObjectName]) -> None:
        """Take over the health-check node ports of Services that were planned anew."""
        wanted = self.health_checks
        changed = self.node_port_prefixes != planner.config.node_port_prefixes
        copied = False
        for name in services:
            service = planner.services.get(name)
            checks: Mapping[Family, HealthCheck] = {}
            if service is not None and service.health_check_node_port:
                slices = planner.slices_of(name)
                checks = health_checks(service, slices, planner.config.node_name)
            for family in self._families:
                key, check = (name, family), checks.get(family)
                if wanted.get(key) == check:
                    continue
                if not copied:
                    wanted, copied = dict(wanted), True
                if check is None:
                    del wanted[key]
                else:
                    wanted[key] = check
        self.health_checks = wanted  # replaced as a whole: the event loop reads it
        self.node_port_prefixes = planner.config.node_port_prefixes
        if changed or copied:
            self._loop.call_soon_threadsafe(self.health_checks_changed.set)


async def serve_health_checks(
    servers: ServiceHealthServers,
    duties: NodeDuties,
    addresses: LocalAddresses,
    metrics: Metrics,
) -> None:
    """
    Keep the health-check node ports open that are wanted, at the addresses that accept node ports.

    Looks again when either changes, and now and then, for ports that could not be had.
    """
    following = asyncio.create_task(_follow(addresses, duties.health_checks_changed))
    try:
        while True:
            duties.health_checks_changed.clear()
            prefixes = duties.node_port_prefixes
            if prefixes is not None:
                accepted = within(addresses.current, prefixes)
                listen = {f: None if prefixes.get(f) is None else accepted[f] for f in accepted}
                await servers.update(duties.health_checks, listen)
                metrics.health_check_listeners(servers.listeners)
                for family, found in listen.items():
                    metrics.node_port_addresses(family, None if found is None else len(found))
            try:
                await asyncio.wait_for(duties.health_checks_changed.wait(), _AGAIN_S)
            except TimeoutError:
                continue
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await servers.close()


async def count_problems(source: Source, metrics: Metrics, every_s: float = 15.0) -> None:
    """Say now and then how many objects of each kind something is wrong with."""
    while True:
        subjects = {(problem.kind, problem.subject) for problem in source.problems}
        metrics.problems_in_force(Counter(kind for kind, _ in subjects))
        await asyncio.sleep(every_s)


async def _follow(addresses: LocalAddresses, changed: asyncio.Event) -> None:
    async for _ in addresses.changes():
        changed.set()
