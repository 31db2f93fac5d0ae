"""
Plans and commits: the half of the daemon that runs in a worker thread.

The loop (:mod:`nfproxy.daemon.loop`) decides when; the proxier does it, and reports how it went.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence

import msgspec

from nfproxy.clock import monotonic_s, thread_s
from nfproxy.daemon.unplanned import Unplanned
from nfproxy.dataplane.notifications import ForeignChange
from nfproxy.dataplane.probes import first_missing_feature
from nfproxy.errors import ConfigError, MissingFeatureError, NfproxyError, TransactionError
from nfproxy.host.freememory import give_back, without_collector
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes, Trigger
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName
from nfproxy.plan import serviceranges
from nfproxy.plan.claims import BegunFinding, ClaimReason
from nfproxy.plan.desired import Touched
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.extent import Extent
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.refusals import Refused
from nfproxy.reconcile.syncreport import Dataplane, Report, ResyncReason
from nfproxy.text import plural
from nfproxy.views.amounts import amounts_text

log = logging.getLogger(__name__)

#: A line for each commit; too many for a node of a large cluster, so they are switched apart.
commits = logging.getLogger("nfproxy.commits")

_MAX_CLAIM_LINES = 20  # logged after one planning
_MUCH_WORK = 20_000  # element operations, after which it pays to give back memory
_PLANNED_AT_ONCE = 500  # Services; to plan one takes some 50 microseconds
_MOST_TRIGGERS = 1000  # kept for one Service while its changes wait
_READ = ("the tables", "what another process had changed")  # the second one in a partial repair


class Commit(msgspec.Struct, frozen=True):
    """
    A sync that succeeded, for the hooks after a commit.

    `touched` is everything that changed before and that the kernel has since this sync. `triggers`
    holds, by family, when the control plane began those changes (Unix seconds). `seconds` is how
    long reading and committing took, `claims` the number of frontends with a claim that lost, is
    refused, or shadows another's.
    """

    report: Report
    touched: Touched
    triggers: Mapping[Family, tuple[float, ...]]
    seconds: float
    claims: Mapping[ClaimReason, int] = {}


class Hooks:
    """
    What else happens when the daemon programs a node; each hook does nothing here.

    `on_committed` runs in the worker thread, between a commit and everything after it: the planner
    it gets stands still meanwhile. `on_planning` and `on_claims` run there before and after
    planning. All other hooks run in the event loop; of these, `on_foreign_change` alone may run at
    the same time as `on_committed`.

    A hook must not block, nor raise.
    """

    def on_received(self, changes: Changes) -> None:
        """Objects changed, and are planned next."""

    def on_planning(self, planner: Planner, changes: Changes, before: NodeConfig) -> None:
        """Changes are planned next (worker thread); `before` is the configuration until now."""

    def on_committed(self, planner: Planner, commit: Commit) -> None:
        """The kernel's tables hold more of what was received; all of it if nothing is left."""

    def on_claims(self, found: Sequence[BegunFinding]) -> None:
        """Something is wrong with claims that was not before (worker thread)."""

    def on_refused(self, found: Sequence[Refused]) -> None:
        """The kernel refuses parts of Services, and did not before (worker thread)."""

    def on_failed(self, error: Exception, seconds: float) -> None:
        """A sync failed after so many seconds; installed rules stay."""

    def on_cleanup_failed(self) -> None:
        """Unused chains could not be removed, and stay for now."""

    def on_foreign_change(self, change: ForeignChange) -> None:
        """Another process changed the tables; their repair is scheduled."""

    def on_in_step(self) -> None:
        """The tables hold what they should: for the first time, after a repair or a failure."""


class Outcome(msgspec.Struct, frozen=True):
    """
    How a sync or tidying went, in seconds of the monotonic clock.

    `report` is that of a sync that succeeded. `tidy_at`: when there is something to tidy next, None
    if never. `cost_s` is the processor time that a sync that succeeded took.
    """

    began_s: float
    ended_s: float
    report: Report | None = None
    tidy_at: float | None = None
    error: Exception | None = None
    cleanup_failed: bool = False
    cost_s: float = 0.0


class Proxier:
    """
    The planner and the reconciler of a node.

    One call at a time, in any thread: the loop awaits each call before the next.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        families: Sequence[Family],
        config: NodeConfig,
        hooks: Hooks,
        source_file: Callable[[ObjectName], str],
        started_s: float,
    ) -> None:
        """
        Plan nothing yet; the first sync programs everything planned until then.

        `source_file` gives the file that a Service comes from, "" for an API server. `started_s` is
        when the process began, for the log.
        """
        self._dataplane = dataplane
        self._families = families
        self._hooks = hooks
        self._source_file = source_file
        self._started_s = started_s
        self._planner = Planner(config)
        self._reconciler = Reconciler(
            dataplane,
            self._planner.desired,
            config,
            families,
            monotonic_s,
            makes_chains_ahead=True,
        )
        self._unplanned = Unplanned(self._planner.owner_of)
        self._range_problems: tuple[str, ...] = ()
        self._refused: set[Refused] = set()  # since the tables were read
        self._refused_before: set[Refused] = set()
        self._triggers: dict[ObjectName, tuple[Trigger, ...]] = {}
        self._ready = False
        self._operations = 0  # since memory was given back

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be planned that no more should be taken from the source."""
        return self._unplanned.changed > _PLANNED_AT_ONCE

    def sync(
        self,
        changes: Changes | None = None,
        config: NodeConfig | None = None,
        *,
        commit: bool = True,
        repair: tuple[Extent, float] | None = None,
    ) -> Outcome | None:
        """
        Plan changes, if any, and commit what is planned: as much as one transaction should have.

        `config` replaces the node's configuration. Without `commit` the changes wait for the next
        call, and None is returned. `repair` is what foreign changes touched, and when all of them
        were known: these are undone first. Raises ConfigError or MissingFeatureError where the
        first sync cannot succeed on this node.
        """
        # The configuration first: the changes are then planned once, and for the right Node.
        before = self._planner.config
        if config is not None:
            self._unplanned.plan_again(self._planner.reconfigure(config))
            self._reconciler.reconfigure(config)
        # A first sync must know everything: what is not planned, it removes.
        most = _PLANNED_AT_ONCE if self._ready else sys.maxsize
        changes = self._unplanned.take(changes or Changes(), most)
        self._hooks.on_planning(self._planner, changes, before)
        if changes or config is not None:
            self._reconciler.touch(self._planner.apply(changes))
            for name, times in changes.triggers.items():
                self._triggers[name] = (self._triggers.get(name, ()) + times)[-_MOST_TRIGGERS:]
        self._report_claims()
        self._report_service_ranges()
        if not commit:
            return None
        began_s, used_s = monotonic_s() if repair is None else repair[1], thread_s()
        try:
            work = self._reconciler
            if repair is None:
                report = work.sync()
            else:
                with without_collector():
                    report = work.put_back(repair[0])
            report = msgspec.structs.replace(report, left=report.left + len(self._unplanned))
        except (NfproxyError, OSError) as error:
            # Later there are rules to keep, and the daemon retries whatever the error.
            if not self._ready:
                self._raise_if_unrecoverable(error)
            return self._outcome(began_s, error=error)
        return self._committed(report, began_s, thread_s() - used_s)

    def compare_and_sync(self, reason: ResyncReason) -> Outcome | None:
        """Read the whole tables, and commit what differs; `reason` is for the metrics."""
        self._reconciler.distrust(reason)
        return self.sync()

    def go_on(self) -> Outcome | None:
        """Remove what lingers and is due, and commit more of what waits."""
        due_s = self._reconciler.next_due()
        if due_s is not None and due_s <= monotonic_s():
            outcome = self.tidy()
            if outcome.error is not None:
                return outcome
        return self.sync()

    def tidy(self) -> Outcome:
        """Remove what is not needed any more: of elements, as much as a transaction should have."""
        began, failures = monotonic_s(), self._reconciler.cleanup_failures
        error: Exception | None = None
        try:
            self._reconciler.tidy()
            self._reconciler.make_chains_ahead()
            self._dataplane.rest()
        except (NfproxyError, OSError) as failure:
            error = failure
        failed = self._reconciler.cleanup_failures != failures
        return self._outcome(began, error=error, cleanup_failed=failed)

    def _report_claims(self) -> None:
        """Report what has begun to be wrong with claims; the log gets a bounded number of lines."""
        found = self._planner.desired.findings.take_begun()
        if not found:
            return
        for begun in found[:_MAX_CLAIM_LINES]:
            log.warning("%s", begun.problem(self._source_file))
        if len(found) > _MAX_CLAIM_LINES:
            more = len(found) - _MAX_CLAIM_LINES
            log.warning("and %s like these; `nfproxy diff` names all", plural(more, "claim"))
        self._hooks.on_claims(found)

    def _report_refused(self, report: Report) -> None:
        """Report what the kernel refuses: again if another thing is refused, or comes back."""
        if report.reason is not None and not report.is_partial:
            self._refused, self._refused_before = set(), self._refused
        found = [one for one in report.refused if one not in self._refused_before]
        self._refused.update(report.refused)
        for one in found:
            log.warning("Service %s: the kernel refuses %s", one.service, one.text)
        if found:
            self._hooks.on_refused(found)

    def _report_service_ranges(self) -> None:
        """Log each problem once, and again if it comes back; say when the last one is gone."""
        found, before = self._planner.service_range_problems, self._range_problems
        for text in found:
            if text not in before:
                log.warning("%s; %s", text, serviceranges.REMEDY)
        if before and not found:
            log.info("no ServiceCIDR holds a node or pods any more")
        self._range_problems = found

    def _committed(self, report: Report, began_s: float, cost_s: float) -> Outcome:
        """Log a sync that succeeded, and call the hook after it."""
        outcome = msgspec.structs.replace(self._outcome(began_s, report=report), cost_s=cost_s)
        seconds = outcome.ended_s - began_s
        self._operations += report.operations + report.elements_read
        claims = dict(self._planner.desired.findings.counts)
        triggers: dict[Family, tuple[float, ...]] = {}
        for name in report.finished.services:
            for family, unix_s in self._triggers.pop(name, ()):
                triggers[family] = (*triggers.get(family, ()), unix_s)
        commit = Commit(report, report.finished, triggers, seconds, claims)
        if commits.isEnabledFor(logging.INFO):
            self._log(commit)
        self._report_refused(report)
        if not self._ready and not report.left:
            self._ready = True
        self._hooks.on_committed(self._planner, commit)
        if self._operations >= _MUCH_WORK:
            self._operations = 0
            give_back()
        return outcome

    def _outcome(
        self,
        began_s: float,
        *,
        report: Report | None = None,
        error: Exception | None = None,
        cleanup_failed: bool = False,
    ) -> Outcome:
        reconciler = self._reconciler
        times = (reconciler.next_due(), reconciler.next_ahead(), self._dataplane.rest_at)
        tidy_at = min((at for at in times if at is not None), default=None)
        return Outcome(began_s, monotonic_s(), report, tidy_at, error, cleanup_failed)

    def _raise_if_unrecoverable(self, error: Exception) -> None:
        """Raise an error that no retry can mend, with what to do about it."""
        if isinstance(error, (ConfigError, MissingFeatureError)):
            raise error
        if isinstance(error, TransactionError):
            missing = first_missing_feature(self._families)
            if missing is not None:
                raise missing from error

    # --- the log -------------------------------------------------------------------------

    def _log(self, commit: Commit) -> None:
        report = commit.report
        took = _duration(commit.seconds)
        if report.operations or (report.chains_made and not report.reason):
            commits.info(
                "synced %s: %s in %s%s",
                self._subject(commit),
                _amount(report),
                took,
                f", after reading {_READ[report.is_partial]}" if report.reason else "",
            )
        elif report.reason and not (report.left or report.is_partial):
            commits.info(
                "kernel tables already match (read %s in %s)",
                plural(report.elements_read, "element"),
                took,
            )

    def log_ready(self) -> None:
        """Log how long the start took, and what is in force; only while nothing is committed."""
        log.info(
            "ready after %.2f s: %s, %s",
            monotonic_s() - self._started_s,
            plural(len(self._planner.services), "Service"),
            amounts_text(self._planner.desired, with_idle=True),
        )

    def _subject(self, commit: Commit) -> str:
        """Return what a commit was about: a service port, a Service, or how many Services."""
        if commit.report.reason and not commit.report.is_partial:
            return plural(len(self._planner.services) - commit.report.left, "Service")
        frontends, touched = self._planner.desired.frontends, commit.touched
        claims = {frontends[key].claim for key in touched.frontends if key in frontends}
        services = {claim.service for claim in claims}
        if not claims or not touched.frontends.keys() <= frontends.keys():
            # Set elements have no owner here, and a frontend that went away has none any more.
            claims, services = set(), touched.services
        if len(services) != 1:
            return plural(len(services), "Service") if services else "this node"
        (service,) = services
        port_names = {claim.port_name for claim in claims}
        return f"{service}:{port_names.pop()}".rstrip(":") if len(port_names) == 1 else str(service)


def _amount(report: Report) -> str:
    parts = []
    if report.operations:
        parts.append(plural(report.operations, "change"))
    if report.chains_made and not report.reason:
        parts.append(plural(report.chains_made, "new chain"))
    return " and ".join(parts)


def _duration(seconds: float) -> str:
    """Return a duration in the unit a person would take."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
