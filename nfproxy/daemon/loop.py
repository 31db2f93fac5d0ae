"""
The loop: a source of objects, a planner, a reconciler.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from nfproxy.daemon.inbox import Inbox, unless
from nfproxy.daemon.interface import Alarm, Commit, Configure, Duties, NoDuties, Pace
from nfproxy.daemon.repairs import Repairs
from nfproxy.dataplane.diagnose import diagnose
from nfproxy.errors import (
    ConfigError,
    MissingFeatureError,
    NfproxyError,
    TransactionError,
)
from nfproxy.kube.source import Source
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.desired import Conflict, Touched
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.bulk import bulk_load
from nfproxy.reconcile.interface import Dataplane
from nfproxy.reconcile.reconciler import Reconciler, Report

log = logging.getLogger(__name__)

#: A line for each commit; too many for a node of a large cluster, so it can be silenced apart.
commits = logging.getLogger("nfproxy.commits")

_FIRST_RETRY_S, _LAST_RETRY_S = 0.25, 30.0


class Daemon:
    """
    Keeps one node in step with a source until told to stop.

    Nothing is programmed before the source has told everything once, and nothing is
    removed at the end: what is programmed goes on working without us.

    Planner and reconciler are used by one worker thread at a time: everything that calls them
    is awaited before the next call. What the kernel refuses is tried again, with back-off and
    from a fresh reading; changes that come in meanwhile are planned and wait for that.
    """

    def __init__(
        self,
        source: Source,
        dataplane: Dataplane,
        configure: Configure,
        families: Sequence[Family],
        duties: Duties | None = None,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        alarm: Alarm | None = None,
    ) -> None:
        """Put the parts together; `configure` gives the node's configuration for its Node."""
        self._source = source
        self._dataplane = dataplane
        self._configure = configure
        self._families = families
        self._duties: Duties = duties or NoDuties()
        self._pace = pace
        self._alarm = alarm
        self._began = time.monotonic()
        self._ready = False
        self._pending = Touched()
        self._triggers: dict[Family, tuple[float, ...]] = {}
        self._conflicts: set[Conflict] = set()
        self._delay_s = 0.0
        self._retry_at: float | None = None
        self._resume_at = 0.0
        self._audit_at = self._began + pace.audit_s
        self._node: Node | None = None
        self._hope_until: float | None = None
        if pace.addresses_wait_s:
            self._hope_until = self._began + pace.addresses_wait_s
        self._bell = asyncio.Event()
        self._repairs = Repairs()
        self._disturbances = 0  # counted by the event loop, for the worker thread

    async def run(self, stop: asyncio.Event) -> None:
        """
        Serve until `stop` is set.

        Raises InputError if the source cannot tell anything, ConfigError if the configuration
        does not fit the Node, MissingFeatureError if the kernel cannot do what is needed.
        """
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        try:
            first = await unless(stopped, self._source.load())
            if first is not None:
                async with aclosing(Inbox(self._changes(), self._bell)) as inbox:
                    await self._start(first, inbox, stopped)
                    with self._listening():
                        await self._follow(inbox, stopped)
        finally:
            stopped.cancel()
        log.info("stopping; everything programmed stays in force")

    async def _start(self, first: Changes, inbox: Inbox, stopped: asyncio.Future[Any]) -> None:
        """Plan and program everything, for the first time."""
        batches = [first]
        config = await self._first_config(batches, inbox, stopped)
        if config is None:
            return
        self._planner = Planner(config)
        self._reconciler = Reconciler(
            self._dataplane, self._planner.desired, config, self._families, time.monotonic
        )
        self._pending.update(self._planner.desired.everything())
        with bulk_load():
            for early in batches[:-1]:
                self._duties.received(early)
                await asyncio.to_thread(self._plan, early)
            await self._apply(batches[-1])

    async def _first_config(
        self, batches: list[Changes], inbox: Inbox, stopped: asyncio.Future[Any]
    ) -> NodeConfig | None:
        """
        Return the configuration for the Node; None when told to stop before there is one.

        A new Node gets its podCIDRs only some moments after it has registered, so what
        changes meanwhile is added to `batches`.
        """
        deadline = time.monotonic() + self._pace.node_wait_s
        while not stopped.done():
            node = next((batch.node for batch in reversed(batches) if batch.node), None)
            left = deadline - time.monotonic()
            try:
                return self._configured(node)
            except ConfigError as error:
                if left <= 0:
                    raise
                log.warning("%s; waiting for that, %.0f s at most", error, left)
            changes = await inbox.next(stopped, left)
            if changes is not None:
                batches.append(changes)
        return None

    async def _follow(self, inbox: Inbox, stopped: asyncio.Future[Any]) -> None:
        """Act upon what changes and what is due. In a pause nothing is taken from the source."""
        while not stopped.done():
            pause_s = self._resume_at - time.monotonic()
            if pause_s > 0:
                await asyncio.wait((stopped,), timeout=min(pause_s, self._idle_s()))
            else:
                changes = await inbox.next(stopped, self._idle_s())
                if changes is not None and not stopped.done():
                    await self._apply(changes)
            if self._idle_s() == 0 and not stopped.done():
                await asyncio.to_thread(self._do_what_is_due)

    async def _changes(self) -> AsyncGenerator[Changes, None]:
        """Yield what the source tells; one that breaks is listened to anew, with back-off."""
        delay_s = _FIRST_RETRY_S
        while True:
            try:
                async for changes in self._source.changes():
                    delay_s = _FIRST_RETRY_S
                    yield changes
                log.error("the source of objects ended, next try in %.2g s", delay_s)
            except Exception:
                # A fault of ours: what is in force stays, and whoever reads this can report it.
                log.exception("the source of objects failed, next try in %.2g s", delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LAST_RETRY_S)

    def _idle_s(self) -> float:
        """Return how long nothing is due."""
        due = self._retry_at
        if due is None:
            tidy_at = self._reconciler.next_due()
            dues = (self._audit_at, tidy_at, self._hope_until)
            due = min(when for when in dues if when is not None)
        return max(0.0, due - time.monotonic())

    async def _apply(self, changes: Changes) -> None:
        """Plan changes, and commit them unless something earlier waits for another try."""
        self._duties.received(changes)
        await asyncio.to_thread(self._plan_and_sync, changes)

    # --- what others do to our tables ----------------------------------------------------

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Be told of others' changes to our tables meanwhile."""
        if self._alarm is None:
            yield
            return
        loop, number = asyncio.get_running_loop(), self._alarm.fileno()
        loop.add_reader(number, self._disturbed, self._alarm)
        try:
            yield
        finally:
            loop.remove_reader(number)

    def _disturbed(self, alarm: Alarm) -> None:
        """
        Bring the next reading of the tables forward; later and later while somebody persists.
        """
        culprit = alarm.read()
        if not culprit:
            return
        now = time.monotonic()
        delay_s = self._repairs.changed(now)
        self._disturbances += 1  # before the time is brought forward: see `_sync`
        # Also where a repair was to come already: another reading may have come before it.
        self._audit_at = min(self._audit_at, self._repairs.due_s)
        if delay_s is not None:
            when = f"in {delay_s:.2g} s, as it happens again and again" if delay_s else "at once"
            log.warning("%s changed our tables; they are repaired %s", culprit, when)
        self._duties.disturbed(culprit)
        self._bell.set()

    # --- in the worker thread -----------------------------------------------------------

    def _plan_and_sync(self, changes: Changes) -> None:
        self._plan(changes)
        if self._retry_at is None:
            self._sync()

    def _plan(self, changes: Changes) -> None:
        if changes.node is not None:
            self._take_node(changes.node)
        self._pending.update(self._planner.apply(changes))
        for family, times in changes.triggers.items():
            self._triggers[family] = self._triggers.get(family, ()) + times
        conflicts = set(self._planner.desired.conflicts())
        for conflict in sorted(conflicts - self._conflicts):
            log.warning("%s", conflict.problem(self._source.source_file))
        self._conflicts = conflicts

    def _take_node(self, node: Node | None) -> None:
        try:
            config = self._configured(node)
        except ConfigError as error:
            log.error("%s; the configuration so far stays in force", error)
            return
        self._pending.update(self._planner.reconfigure(config))
        self._reconciler.reconfigure(config)

    def _configured(self, node: Node | None) -> NodeConfig:
        """Return the configuration for a Node, patient for as long as it has no addresses."""
        self._node = node
        if node is not None and node.addresses:
            self._hope_until = None
        return self._configure(node, self._hope_until is not None)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._retry_at is not None:
            self._sync()
        elif self._hope_until is not None and self._hope_until <= now:
            self._hope_until = None
            self._take_node(self._node)
            self._sync()
        elif self._audit_at <= now:
            self._reconciler.distrust()
            self._sync()
        else:
            self._tidy(now)

    def _tidy(self, now: float) -> None:
        failures = self._reconciler.cleanup_failures
        try:
            self._reconciler.tidy()
        except (NfproxyError, OSError) as error:
            self._back_off(error, now)
        if self._reconciler.cleanup_failures != failures:
            self._duties.cleanup_failed()

    def _sync(self) -> None:
        began, disturbances = time.monotonic(), self._disturbances
        try:
            report = self._reconciler.sync(self._pending)
        except (NfproxyError, OSError) as error:
            if not self._ready:
                self._give_up_if_hopeless(error)
            self._back_off(error, began)
            return
        now = time.monotonic()
        contested = len(self._conflicts)
        commit = Commit(report, self._pending, self._triggers, now - began, contested)
        self._pending = Touched()
        self._triggers = {}
        self._delay_s = 0.0
        self._retry_at = None
        self._resume_at = now + self._pace.pause_s
        if report.resynced:
            self._audit_at = now + self._pace.audit_s
            if disturbances != self._disturbances:  # perhaps after it had been read
                self._audit_at = min(self._audit_at, self._repairs.due_s)
        self._log(report, commit.seconds)
        self._duties.committed(self._planner, commit)

    def _give_up_if_hopeless(self, error: Exception) -> None:
        """Raise what no further try can mend; before the first success only."""
        if isinstance(error, (ConfigError, MissingFeatureError)):
            raise error
        if isinstance(error, TransactionError):
            missing = diagnose(self._families)
            if missing is not None:
                raise missing from error

    def _back_off(self, error: Exception, began: float) -> None:
        now = time.monotonic()
        self._delay_s = min(max(2 * self._delay_s, _FIRST_RETRY_S), self._pace.retry_s)
        self._retry_at = now + self._delay_s
        log.error("%s; what was programmed stays, next try in %.2g s", error, self._delay_s)
        self._duties.failed(error, now - began)

    def _log(self, report: Report, seconds: float) -> None:
        milliseconds = seconds * 1000
        if report.operations or (report.chains_made and not report.resynced):
            commits.info(
                "committed %d element operations, %d chains in %.1f ms%s",
                report.operations,
                report.chains_made,
                milliseconds,
                ", after reading the tables" if report.resynced else "",
            )
        elif report.resynced:
            commits.info("in place already: every element, read in %.1f ms", milliseconds)
        if not self._ready:
            self._ready = True
            log.info(
                "ready after %.2f s: %d services, %d frontends",
                time.monotonic() - self._began,
                len(self._planner.services),
                len(self._planner.desired.frontends),
            )
