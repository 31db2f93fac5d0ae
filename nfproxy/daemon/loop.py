"""
The daemon's loop: changes of objects and deadlines come in, work goes to a worker thread.

The loop awaits one thing at a time: changes, a deadline, a foreign change, the end. What it does
about them happens in :class:`~nfproxy.daemon.proxier.Proxier`, in a worker thread, so that health
checks and metrics are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from nfproxy.backoff import Backoff
from nfproxy.clock import monotonic_s, process_age_s
from nfproxy.daemon.proxier import Hooks, Outcome, Proxier
from nfproxy.daemon.repairlog import RepairLog
from nfproxy.daemon.schedule import Schedule, SyncTimings, Task
from nfproxy.dataplane.notifications import Damage, ForeignChanges
from nfproxy.errors import ConfigError
from nfproxy.host.freememory import bulk_load, rarely_collected
from nfproxy.kube.source import Source
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.reconcile.extent import Extent
from nfproxy.reconcile.syncreport import Dataplane, ResyncReason

log = logging.getLogger(__name__)

T = TypeVar("T")

#: From the Node object, and whether its addresses may still come, to the configuration.
Configure = Callable[[Node | None, bool], NodeConfig]

# The wait before a source that broke is followed again.
_FIRST_WAIT_S, _LAST_WAIT_S = 0.25, 30.0


class Daemon:
    """
    Keeps one node in step with a source of objects.

    It programs nothing before the source has given all objects once, and removes nothing at the
    end: installed rules go on working.

    A failed sync is retried with back-off and from a fresh reading of the tables; changes that come
    in meanwhile are planned, and wait for the retry.

    Belongs to the event loop; only the proxier's methods run in a worker thread, one at a time.
    """

    def __init__(
        self,
        source: Source,
        dataplane: Dataplane,
        configure: Configure,
        families: Sequence[Family],
        hooks: Hooks | None = None,
        timings: SyncTimings = SyncTimings(),  # noqa: B008 - frozen
        foreign_changes: ForeignChanges | None = None,
    ) -> None:
        """Put the parts together; `configure` gives the node's configuration for its Node."""
        self._source = source
        self._dataplane = dataplane
        self._configure = configure
        self._families = families
        self._hooks = hooks or Hooks()
        self._foreign_changes = foreign_changes
        self._schedule = Schedule(timings, monotonic_s())
        self._repair_log = RepairLog(families)
        self._extent = Extent()  # of foreign changes that are not repaired yet
        self._in_step = False
        self._said_ready = False
        self._repaired = 0  # operations since the tables were in step
        self._node: Node | None = None
        self._wake = asyncio.Event()  # set when a deadline came nearer
        self._has_changes = False  # the source has some, which were not taken yet
        self._is_config_stale = False

    def reconfigure(self) -> None:
        """Take it that `configure` may return something else now, and plan again."""
        self._is_config_stale = True
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """
        Serve until `stop` is set.

        Raises InputError if the source can give no objects, ConfigError if the configuration does
        not fit the Node, MissingFeatureError if the kernel lacks what the rules need.
        """
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        try:
            async with aclosing(_Waiting(self._source, self._wake)) as waiting:
                await self._start(waiting, stopped)
                with self._watching_foreign_changes():
                    while not stopped.done():
                        await self._turn(waiting, stopped)
        finally:
            stopped.cancel()
        log.info("stopping; installed rules stay")

    # --- the start -----------------------------------------------------------------------

    async def _start(self, waiting: _Waiting, stopped: asyncio.Future[Any]) -> None:
        """Plan and program everything, for the first time; nothing if the daemon is stopped."""
        # No other name for a batch: it would keep the first version of every object in memory.
        batches: list[Changes] = []
        with rarely_collected():
            if not await _unless(stopped, self._load_into(batches)):
                return
        config = await self._first_config(batches, waiting, stopped)
        if config is None:
            return
        self._proxier = Proxier(
            self._dataplane,
            self._families,
            config,
            self._hooks,
            self._source.source_file,
            monotonic_s() - process_age_s(),
        )
        with bulk_load():
            # One sync for all batches: an early one may lack what a later one has.
            while batches:
                await self._take_in(batches.pop(0), commit=not batches)
            while self._schedule.is_unfinished and not stopped.done():
                await self._turn(waiting, stopped)

    async def _load_into(self, batches: list[Changes]) -> bool:
        batches.append(await self._source.load())
        return True

    async def _first_config(
        self, batches: list[Changes], waiting: _Waiting, stopped: asyncio.Future[Any]
    ) -> NodeConfig | None:
        """
        Return the configuration for the Node; None if the daemon is stopped before there is one.

        A new Node gets its podCIDRs only some moments after it was registered. Changes that come
        in until then are appended to `batches`.
        """
        self._schedule.node_awaited(monotonic_s())
        while not stopped.done():
            node = next((batch.node for batch in reversed(batches) if batch.node), None)
            left_s = self._schedule.node_wait_left_s(monotonic_s())
            try:
                return self._configured(node)
            except ConfigError as error:
                if not left_s:
                    raise
                log.warning("%s; waiting for that, %.0f s at most", error, left_s)
            if await waiting.changed(stopped, left_s):
                batches.append(self._source.take())
        return None

    # --- afterwards ----------------------------------------------------------------------

    async def _turn(self, waiting: _Waiting, stopped: asyncio.Future[Any]) -> None:
        """Await changes or what is due next, and do that."""
        schedule = self._schedule
        moment = monotonic_s()
        pause_s, idle_s = schedule.pause_left_s(moment), schedule.idle_s(moment)
        if pause_s:
            # Changes that come in during the pause are one batch afterwards.
            await waiting.woken(stopped, min(pause_s, idle_s))
        elif self._has_changes and self._proxier.is_behind:
            # More go on waiting, perhaps for a retry: what is planned next is due then.
            await waiting.woken(stopped, idle_s)
        else:
            idle_s = 0.0 if self._has_changes else idle_s
            self._has_changes |= await waiting.changed(stopped, idle_s)
            if self._has_changes and not (stopped.done() or self._proxier.is_behind):
                self._has_changes = False
                if changes := self._source.take():
                    await self._take_in(changes)
        if self._is_config_stale and not stopped.done():
            await self._use_new_config()
        # Between two batches, too: a source that never rests must not put the tasks off.
        task = schedule.due(monotonic_s())
        if task is not None and not stopped.done():
            await self._do(task)

    async def _take_in(self, changes: Changes, *, commit: bool = True) -> None:
        """Plan changes, and commit them unless a retry or the repair of broken rules does that."""
        self._hooks.on_received(changes)
        config = None if changes.node is None else self._new_config(changes.node)
        commit = commit and not (self._schedule.retry_pending or self._schedule.is_broken)
        sync = self._proxier.sync
        self._settle(await asyncio.to_thread(sync, changes, config, commit=commit))

    async def _use_new_config(self) -> None:
        """Plan for the configuration as it is now, and commit unless a retry is due first."""
        self._is_config_stale = False
        config, sync = self._new_config(self._node), self._proxier.sync
        commit = not self._schedule.retry_pending
        self._settle(await asyncio.to_thread(sync, config=config, commit=commit))

    async def _do(self, task: Task) -> None:
        """Do a task that is due."""
        proxier = self._proxier
        match task:
            case Task.RETRY:
                self._settle(await asyncio.to_thread(proxier.sync))
            case Task.USE_NO_ADDRESSES:
                self._schedule.addresses_settled()
                config = self._new_config(self._node)
                self._settle(await asyncio.to_thread(proxier.sync, config=config))
            case Task.REPAIR:
                # What is found from now on is for the next repair.
                extent, self._extent = self._extent, Extent()
                repair = (extent, monotonic_s())
                self._settle(await asyncio.to_thread(proxier.sync, repair=repair))
            case Task.AUDIT:
                self._settle(await asyncio.to_thread(proxier.compare_and_sync, ResyncReason.AUDIT))
            case Task.GO_ON:
                self._settle(await asyncio.to_thread(proxier.go_on), goes_on=True)
            case Task.TIDY:
                self._settle(await asyncio.to_thread(proxier.tidy))

    def _settle(self, outcome: Outcome | None, *, goes_on: bool = False) -> None:
        """Take over into the schedule how a sync or tidying went; None: there was none."""
        if outcome is None:
            return
        schedule = self._schedule
        # First what happened meanwhile: it may be why a sync failed, or undo one that succeeded.
        if self._foreign_changes is not None:
            self._on_foreign_change(self._foreign_changes)
        schedule.tidy_due(outcome.tidy_at)
        if outcome.error is not None:
            delay_s = schedule.failed(outcome.began_s, outcome.ended_s)
            if schedule.is_broken:
                self._repair_log.repair_failed(outcome.error, delay_s)
            else:
                log.error("%s; installed rules stay, next try in %.2g s", outcome.error, delay_s)
            self._in_step = False
            self._hooks.on_failed(outcome.error, outcome.ended_s - outcome.began_s)
        elif outcome.report is not None:
            report = outcome.report
            schedule.synced(
                outcome.began_s,
                outcome.ended_s,
                tables_read=report.reason is not None,
                is_partial=report.is_partial,
                is_finished=not report.left,
                goes_on=goes_on,
                cost_s=outcome.cost_s,
            )
            if not schedule.repair_pending:
                self._extent = Extent()
            if not self._in_step:
                self._repaired += report.operations
                if not (report.left or schedule.repair_pending):
                    self._in_step = True
                    self._repair_log.repaired(self._repaired, outcome.ended_s)
                    self._repaired = 0
                    self._hooks.on_in_step()
                    # Last: who waits for this line may ask for anything after it.
                    if not self._said_ready:
                        self._said_ready = True
                        self._proxier.log_ready()
        if outcome.cleanup_failed:
            self._hooks.on_cleanup_failed()

    # --- the node's configuration --------------------------------------------------------

    def _new_config(self, node: Node | None) -> NodeConfig | None:
        """Return the configuration for a Node, None if there can be none for it."""
        try:
            return self._configured(node)
        except ConfigError as error:
            log.error("%s; the previous configuration stays in use", error)
            return None

    def _configured(self, node: Node | None) -> NodeConfig:
        """Return the configuration for a Node; once it has addresses, none are awaited later."""
        self._node = node
        if node is not None and node.addresses:
            self._schedule.addresses_settled()
        return self._configure(node, self._schedule.expects_addresses)

    # --- foreign changes -----------------------------------------------------------------

    @contextmanager
    def _watching_foreign_changes(self) -> Iterator[None]:
        """Have the event loop call `_on_foreign_change` meanwhile."""
        changes = self._foreign_changes
        if changes is None:
            yield
            return
        loop, number = asyncio.get_running_loop(), changes.fileno()
        loop.add_reader(number, self._on_foreign_change, changes)
        try:
            yield
        finally:
            loop.remove_reader(number)

    def _on_foreign_change(self, changes: ForeignChanges) -> None:
        """Schedule a repair, and say that the tables are not in step until then."""
        change = changes.read()
        if change is None:
            return
        moment = monotonic_s()
        self._extent.include(change.extent)
        breaks = change.damage >= Damage.STRUCTURE
        delay_s = self._schedule.foreign_change(moment, breaks=breaks)
        self._repair_log.changed(change, delay_s, moment)
        if self._repair_log.knows_a_change:
            self._in_step = False
        self._hooks.on_foreign_change(change)
        self._wake.set()


class _Waiting:
    """Awaits changes of a source beside other things, without giving up half a scan."""

    def __init__(self, source: Source, wake: asyncio.Event) -> None:
        self._source = source
        self._wake = wake
        self._upcoming: asyncio.Future[None] | None = None

    async def changed(self, stopped: asyncio.Future[Any], timeout_s: float) -> bool:
        """Return true for changes; false after a timeout, when woken, or when stopped."""
        # A timeout does not cancel the wait for the source: it may be reading a large file.
        if self._upcoming is None:
            self._upcoming = asyncio.ensure_future(_changed(self._source))
        await self._wait_for(timeout_s, stopped, self._upcoming)
        if not self._upcoming.done():
            return False
        self._upcoming = None
        return True

    async def woken(self, stopped: asyncio.Future[Any], timeout_s: float) -> None:
        """Return after a timeout, when woken, or when stopped."""
        await self._wait_for(timeout_s, stopped)

    async def _wait_for(self, timeout_s: float, *awaited: asyncio.Future[Any]) -> None:
        woken = asyncio.ensure_future(self._wake.wait())
        await asyncio.wait(
            (*awaited, woken), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        woken.cancel()
        self._wake.clear()

    async def aclose(self) -> None:
        """Stop waiting."""
        if self._upcoming is not None:
            self._upcoming.cancel()
            await asyncio.gather(self._upcoming, return_exceptions=True)


async def _changed(source: Source) -> None:
    """Return when a source has changes; await one that fails again, with back-off."""
    backoff = Backoff(_FIRST_WAIT_S, _LAST_WAIT_S)
    while True:
        try:
            return await source.changed()
        except Exception:
            # A bug of nfproxy: the rules stay, and the traceback is for a report.
            delay_s = backoff.next_s()
            log.exception("the source of objects failed, next try in %.2g s", delay_s)
        await asyncio.sleep(delay_s)


async def _unless(stopped: asyncio.Future[Any], work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of `work`, None if the daemon is stopped before that."""
    task = asyncio.ensure_future(work)
    both: tuple[asyncio.Future[Any], ...] = (stopped, task)
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None
