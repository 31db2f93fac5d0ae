"""Removes stale flows from connection tracking, after the commits that made them stale."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from nfproxy.backoff import Backoff
from nfproxy.daemon.proxier import Commit
from nfproxy.dataplane.conntrack_cleaner import ConntrackCleaner
from nfproxy.errors import DataplaneError
from nfproxy.host.addresses import Addresses
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import Family, Prefix
from nfproxy.netlink.conntrack import Flow
from nfproxy.nft.schema import port_of
from nfproxy.plan.flows import CleaningScope, Flows, ServiceAddresses, expected_flows
from nfproxy.plan.frontendnames import comment_of
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner
from nfproxy.text import plural
from nfproxy.views.elementwords import format_destination

log = logging.getLogger(__name__)

#: A line for each Service, and endpoint that left: as for changes.
commits = logging.getLogger("nfproxy.commits")

_FIRST_WAIT_S, _LAST_WAIT_S = 1.0, 60.0


class StaleFlowCleaning:
    """
    Collects the frontends whose flows may have become stale, and removes those flows.

    The worker thread calls `committed`; `run` belongs to the event loop and cleans in a thread of
    its own, so that no commit waits for it. What fails is kept, and retried together with what
    was committed since.
    """

    def __init__(
        self,
        cleaner: ConntrackCleaner,
        local: Callable[[], Addresses],
        families: Sequence[Family],
        metrics: Metrics,
    ) -> None:
        """Use a cleaner; `local` returns the node's own addresses. Needs the event loop."""
        self._cleaner = cleaner
        self._local = local
        self._families = frozenset(families)
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[FrontendKey, frozenset[bytes]] = {}
        self._scope = CleaningScope()
        self._wake = asyncio.Event()
        self._planner: Planner | None = None

    def committed(self, planner: Planner, commit: Commit) -> None:
        """
        Note the flows that a commit, or what happened before it, may have made stale.

        What changed in the kernel counts, whichever Service changed: a frontend may pass from one
        Service to another. All Services that were planned again count, too, even where no element
        changed: a flow may be older than the rules. After a reading of the tables it is all
        frontends, as flows may have begun while the rules were missing.
        """
        self._planner = planner
        report, touched = commit.report, commit.touched
        frontends = planner.desired.frontends
        keys = report.frontends | touched.frontends.keys()
        if report.resynced:
            keys |= frontends.keys()
        flows = expected_flows(planner, keys, touched.services)
        flows = {key: kept for key, kept in flows.items() if key.family in self._families}
        if flows or report.resynced:
            addresses = ServiceAddresses(planner.desired) if report.resynced else None
            prefixes = planner.config.node_port_prefixes
            self._loop.call_soon_threadsafe(self._collect, flows, prefixes, addresses)

    def _collect(
        self,
        flows: Flows,
        prefixes: Mapping[Family, tuple[Prefix, ...] | None],
        addresses: ServiceAddresses | None,
    ) -> None:
        self._waiting.update(flows)
        self._scope = self._scope._replace(
            node_port_prefixes=prefixes,
            service_addresses=addresses or self._scope.service_addresses,
        )
        self._metrics.conntrack_queue(len(self._waiting))
        self._wake.set()

    async def run(self) -> None:
        """Clean whenever there is something to clean."""
        backoff = Backoff(_FIRST_WAIT_S, _LAST_WAIT_S)
        while True:
            await self._wake.wait()
            self._wake.clear()
            flows, self._waiting = self._waiting, {}
            scope = self._scope
            self._scope = scope._replace(service_addresses=None)
            cleaning = asyncio.ensure_future(asyncio.to_thread(self._clean, flows, scope))
            try:
                is_done = await asyncio.shield(cleaning)
            except asyncio.CancelledError:
                await cleaning  # the cleaner's sockets are closed next
                raise
            if is_done:
                backoff.reset()
                self._metrics.conntrack_queue(len(self._waiting))
                continue
            # What was committed meanwhile is newer, and wins.
            self._waiting = {**flows, **self._waiting}
            if self._scope.service_addresses is None:
                self._scope = self._scope._replace(service_addresses=scope.service_addresses)
            await asyncio.sleep(backoff.next_s())
            self._wake.set()

    def _clean(self, flows: Flows, scope: CleaningScope) -> bool:
        """Remove stale entries; return whether that succeeded. In a thread."""
        try:
            report = self._cleaner.clean(flows, scope._replace(local=self._local()))
        except (DataplaneError, OSError) as error:
            log.warning("stale flows stay until the next try: %s", error)
            return False
        whole = scope.service_addresses is not None
        for family in self._families if whole else {key.family for key in flows}:
            deleted, seconds = report.deleted[family], report.seconds[family]
            self._metrics.conntrack_cleaned(family, seconds, deleted)
        if total := sum(report.deleted.values()):
            took_ms = sum(report.seconds.values()) * 1000
            log.info("removed %s in %.1f ms", plural(total, "stale flow"), took_ms)
        if commits.isEnabledFor(logging.INFO):
            for (family, flow), count in report.flows.items():
                commits.info("%s", self._line(family, flow, count))
        return True

    def _line(self, family: Family, flow: Flow, count: int) -> str:
        """Return what was cut: ``cut 1 UDP flow of shop/dns:dns that led to 10.244.2.11:53 …``."""
        size, port = family.size, port_of(flow.destination, family.size)
        frontends = self._planner.desired.frontends if self._planner is not None else {}
        address = flow.destination[:size]
        keys = (FrontendKey(family, one, flow.protocol, port) for one in (address, b""))
        owner = next((frontends[key] for key in keys if key in frontends), None)
        whose = comment_of(owner.claim) if owner is not None else ""
        whose = whose or format_destination(family, flow.destination)
        flows = plural(count, f"{flow.protocol.name} flow")
        if flow.source == flow.destination:
            return f"cut {flows} of {whose} that no rule had translated"
        end = format_destination(family, flow.source)
        return f"cut {flows} of {whose} that led to {end}, no endpoint of it any more"
