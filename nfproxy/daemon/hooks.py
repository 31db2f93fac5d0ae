"""What else happens when a node is programmed: health, metrics, health check ports, stale flows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from nfproxy.clock import now, unix_s
from nfproxy.daemon.changelog import ChangeLog
from nfproxy.daemon.events import NodeEvents
from nfproxy.daemon.proxier import Commit, Hooks
from nfproxy.daemon.serviceprogress import ServiceProgress
from nfproxy.daemon.staleflows import StaleFlowCleaning
from nfproxy.dataplane.notifications import Damage, ForeignChange
from nfproxy.errors import NfproxyError
from nfproxy.health import Health
from nfproxy.insight.nodestatus import ServiceStates
from nfproxy.insight.overview import LastVersion
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import Family, Prefix
from nfproxy.model.changes import Changes
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.plan.claims import BegunFinding, ClaimReason
from nfproxy.plan.desired import Touched
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.localnodeports import ListenerChanges, listener_changes
from nfproxy.plan.planner import Planner
from nfproxy.plan.servicehealth import HealthCheck, health_checks
from nfproxy.plan.sizes import FamilySize
from nfproxy.reconcile.refusals import Refused
from nfproxy.views.portstates import PortState, PortStates
from nfproxy.views.tally import Tally

log = logging.getLogger(__name__)


_MOST_LINES = 20  # about ports without endpoints, after one commit


class NodeHooks(Hooks):
    """
    The hooks of ``nfproxy run``.

    The work after a commit grows with the Services that changed, not with all Services. Work that
    takes long, or needs the event loop, is handed over: stale flows to `flows`, health check ports
    to :func:`~nfproxy.daemon.background.serve_health_checks`. That task calls `take_health_checks`
    and reads `node_port_prefixes` after `health_checks_changed` was set. `on_listeners` is called
    in the event loop with what each commit changes for node ports on loopback addresses.
    `remove_strangers` is called in the worker thread when the tables have been read and are right.

    `planner` is that of the last commit, None before the first. `in_step_since_s` is the Unix time
    since which the tables hold what they should, None while they do not; `tables_read_s` is the
    monotonic time of their last reading. The threads are those of
    :class:`~nfproxy.daemon.proxier.Hooks`; the public attributes may be read in the event loop.
    """

    def __init__(
        self,
        metrics: Metrics,
        health: Health,
        families: Sequence[Family],
        flows: StaleFlowCleaning,
        events: NodeEvents | None = None,
        on_listeners: Callable[[ListenerChanges], None] | None = None,
        remove_strangers: Callable[[Sequence[Family]], None] = lambda _: None,
        change_log: ChangeLog | None = None,
    ) -> None:
        """Start the daemon's health and its first request for a sync; needs the event loop."""
        self._metrics = metrics
        self._health = health
        self._families = tuple(families)
        self._flows = flows
        self._events = events
        self._on_listeners = on_listeners
        self._remove_strangers = remove_strangers
        self._change_log = change_log or ChangeLog()
        self._progress = ServiceProgress()
        self._tally = Tally()
        self._port_states = PortStates()
        self._changed_services: set[ObjectName] = set()
        self._loop = asyncio.get_running_loop()
        self._change: tuple[str, float] | None = None  # what another process did first, and when
        self.planner: Planner | None = None
        self.in_step_since_s: float | None = None
        self.tables_read_s: float | None = None
        self.sizes: Mapping[Family, FamilySize] = {}
        self.states = ServiceStates()
        self.health_checks: dict[tuple[ObjectName, Family], HealthCheck] = {}  # worker thread
        self._changed_checks: dict[tuple[ObjectName, Family], HealthCheck | None] = {}
        self._checks_at: dict[tuple[Family, int], set[ObjectName]] = {}  # names by port
        self.node_port_prefixes: Mapping[Family, tuple[Prefix, ...] | None] | None = None
        self.loopback_node_ports: frozenset[Family] = frozenset()
        self.health_checks_changed = asyncio.Event()
        for family in self._families:
            health.started(family, now())
            metrics.in_step(family, False)
        metrics.read_repair_pending(self._repair_pending_s)
        self._request_sync()

    # --- in the event loop ---------------------------------------------------------------

    def on_received(self, changes: Changes) -> None:
        """Count changes as pending, and follow the Node's part of health."""
        if changes.node is not None:
            self._health.node_seen(changes.node)
        elif changes.node_gone:
            self._health.node_gone()
            log.warning("this node's Node object is gone; its last addresses and zone stay in use")
        self._changed_services.update(changes.services)
        self._metrics.changes_pending(len(self._changed_services))
        self._request_sync()

    def on_foreign_change(self, change: ForeignChange) -> None:
        """
        Count a foreign change; its repair is a requested sync, and until then health fails.

        Dropped announcements are no foreign change: the tables are read to learn more.
        """
        if change.damage is not Damage.UNKNOWN:
            self._metrics.foreign_change(change.program)
            self._change = self._change or (change.text, now().monotonic_s)
            families = [family for family in self._families if family in change.families]
            for family in families:
                self._metrics.in_step(family, False)
            if families:
                self.in_step_since_s = None
            self._health.out_of_step(families, change.text)
            self._change_log.foreign_change(change)
        self._request_sync()

    def on_in_step(self) -> None:
        """Let health and metrics say that the tables hold what they should."""
        if self.in_step_since_s is None:
            self.in_step_since_s = unix_s()
        for family in self._families:
            self._metrics.in_step(family, True)
        if self._change is not None:
            what, since_s = self._change
            self._change = None
            took_s = now().monotonic_s - since_s
            self._metrics.repaired(took_s)
            if self._events is not None:
                self._events.tables_repaired(what, took_s)
        self._health.repaired()
        self._change_log.repaired()

    def in_force(self, service: ObjectName) -> LastVersion:
        """
        Return whether the kernel has a Service's last version. May be called in any thread.

        That is unknown while another process's change is not repaired.
        """
        if self._change is not None:
            return LastVersion()
        return self._progress.of(service, waits=self._change_log.waits(service))

    def _repair_pending_s(self) -> float:
        change = self._change
        return now().monotonic_s - change[1] if change is not None else 0.0

    def on_failed(self, error: Exception, seconds: float) -> None:
        """Count a failure; its retry is a requested sync."""
        self._progress.failed(error)
        self.in_step_since_s = None
        for family in self._families:
            self._metrics.in_step(family, False)
            self._metrics.sync_failed(family, seconds, full=True)
        self._request_sync()

    def on_cleanup_failed(self) -> None:
        """Count a failure to remove unused chains."""
        for family in self._families:
            self._metrics.cleanup_failed(family)

    def take_health_checks(self) -> Mapping[tuple[ObjectName, Family], HealthCheck | None]:
        """Return the health checks that changed since the last call; None for one that is gone."""
        changed, self._changed_checks = self._changed_checks, {}
        return changed

    def _on_health_checks(
        self, changed: Mapping[tuple[ObjectName, Family], HealthCheck | None]
    ) -> None:
        self._changed_checks.update(changed)
        self.health_checks_changed.set()

    def _request_sync(self) -> None:
        """A sync is needed: without one the daemon becomes unhealthy after a while."""
        moment = now()
        for family in self._families:
            self._health.queued(family, moment)
            self._metrics.sync_requested(family, moment.unix_ns / 1e9)

    # --- in the worker thread ------------------------------------------------------------

    def on_planning(self, planner: Planner, changes: Changes, before: NodeConfig) -> None:
        """Have the change log keep what is about to be replaced."""
        self._change_log.planning(planner, changes, before)

    def on_claims(self, found: Sequence[BegunFinding]) -> None:
        """Have Events posted to the authors of the Services."""
        if self._events is not None:
            self._loop.call_soon_threadsafe(self._events.claims, found)

    def on_refused(self, found: Sequence[Refused]) -> None:
        """Have Events posted about the Services."""
        if self._events is not None:
            self._loop.call_soon_threadsafe(self._events.refused, found)

    def on_committed(self, planner: Planner, commit: Commit) -> None:
        """Count what is programmed, and hand over what follows."""
        self._changed_services -= commit.touched.services
        self.planner = planner
        if commit.report.resynced:
            self._tidy_up()
        self._count(planner, commit)
        self._health.parts_refused(len(commit.report.left_out))
        moment, left = now(), commit.report.left
        self._health.programming(len(planner.services) - left, len(planner.services))
        for family in self._families if not left else ():
            self._health.succeeded(family, moment)
        self._change_log.committed(planner, commit.touched.services, left)
        self._progress.committed(planner, commit.report)
        self._update_health_checks(planner, commit.touched)
        self._flows.committed(planner, commit)
        if self._on_listeners is not None and planner.config.loopback_node_ports:
            changes = listener_changes(
                commit.touched.frontends, planner.desired.frontends, planner.config
            )
            self._loop.call_soon_threadsafe(self._on_listeners, changes)

    def _tidy_up(self) -> None:
        """Remove what other processes have put into the tables; a failure only postpones that."""
        try:
            self._remove_strangers(self._families)
        except NfproxyError as error:
            log.warning("cannot look for what other processes put into the tables: %s", error)

    def _count(self, planner: Planner, commit: Commit) -> None:
        metrics, report = self._metrics, commit.report
        metrics.sync_started(len(self._changed_services))
        if report.reason is not None:
            metrics.resynced(report.reason)
            self.tables_read_s = now().monotonic_s
        if report.operations or report.chains_made:
            metrics.transaction(commit.seconds, report.operations)
            metrics.chains_made(report.chains_made)
        ended_s = now().unix_ns / 1e9
        self._tally.update(planner, commit.touched.services)
        totals = {family: self._tally.total(family) for family in self._families}
        sizes = {family: planner.desired.sizes[family] for family in self._families}
        for family, total in totals.items():
            metrics.sync_finished(
                family,
                commit.seconds,
                full=report.reason is not None,
                unix_s=ended_s,
                triggers=commit.triggers.get(family, ()),
            )
            metrics.no_local_endpoints(family, internal=total.internal, external=total.external)
            metrics.table_size(family, **sizes[family]._asdict())
        _log_mismatches(self._port_states.update(planner, commit.touched.services))
        ports = self._port_states.counts
        metrics.service_ports({str(state): count for state, count in ports.items()})
        # Parts of the node itself belong to no Service.
        incomplete = {service for service, _ in report.left_out} & planner.services.keys()
        states = ServiceStates(
            total=len(planner.services),
            waiting=report.left + len(incomplete),
            refused=ports[PortState.NO_ENDPOINTS] + ports[PortState.PORT_MISMATCH],
            dropped=ports[PortState.NO_LOCAL],
            outside=self._tally.drops_outside(self._families),
            conflicts=commit.claims.get(ClaimReason.CONFLICT, 0),
            claims_refused=commit.claims.get(ClaimReason.REFUSED, 0),
            limited=commit.claims.get(ClaimReason.LIMITED, 0),
        )
        # Other threads read them: each is replaced, never changed.
        self.states = states
        self.sizes = sizes
        metrics.services(states.total, waiting=states.waiting)
        metrics.parts_refused(len(report.left_out))
        metrics.claims(
            lost=states.conflicts,
            refused=states.claims_refused,
            shadowing=commit.claims.get(ClaimReason.SHADOWS, 0),
            limited=states.limited,
        )
        metrics.local_pods_mismatch(bool(planner.config.local_pods_mismatch))

    def _update_health_checks(self, planner: Planner, touched: Touched) -> None:
        """Take over health checks of Services that changed, or whose port another one uses."""
        current = self.health_checks
        services = set(touched.services)
        for frontend in touched.frontends:
            if not frontend.address and frontend.protocol is Protocol.TCP:
                services |= self._checks_at.get((frontend.family, frontend.port), set())
        config = planner.config
        prefixes_changed = (self.node_port_prefixes, self.loopback_node_ports) != (
            config.node_port_prefixes,
            config.loopback_node_ports,
        )
        changed: dict[tuple[ObjectName, Family], HealthCheck | None] = {}
        for name in services:
            service = planner.services.get(name)
            wanted: Mapping[Family, HealthCheck] = {}
            if service is not None and service.health_check_node_port:
                slices = planner.planned_slices_of(name)
                wanted = health_checks(service, slices, config.node_name)
            for family in self._families:
                key, check = (name, family), wanted.get(family)
                if check is not None:
                    where = FrontendKey(family, b"", Protocol.TCP, check.port)
                    taken = planner.desired.frontends.get(where)
                    check = check._replace(node_port_of=taken.claim.service if taken else None)
                if current.get(key) == check:
                    continue
                changed[key] = check
                if key in current:
                    self._checks_at[family, current.pop(key).port].discard(name)
                if check is not None:
                    current[key] = check
                    self._checks_at.setdefault((family, check.port), set()).add(name)
        self.loopback_node_ports = config.loopback_node_ports
        self.node_port_prefixes = config.node_port_prefixes
        if prefixes_changed or changed:
            self._loop.call_soon_threadsafe(self._on_health_checks, changed)


def _log_mismatches(begun: Sequence[tuple[ObjectName, str]]) -> None:
    """Log the service ports that no ready endpoint has, and had before; a bounded number."""
    for service, port in begun[:_MOST_LINES]:
        log.info(
            "Service %s: its endpoints are ready, and none has port %r: refused; `nfproxy explain "
            "%s` says why",
            service,
            port,
            service,
        )
    if len(begun) > _MOST_LINES:
        log.info("and %d ports like these; `nfproxy services` names all", len(begun) - _MOST_LINES)
