"""
The daemon: a source of objects, a planner, a reconciler, and the loop between them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from nfproxy.dataplane.diagnose import diagnose
from nfproxy.errors import (
    ConfigError,
    MissingFeatureError,
    NfproxyError,
    TransactionError,
)
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.reconcile.bulk import bulk_load
from nfproxy.reconcile.desired import Conflict, Touched
from nfproxy.reconcile.interface import Dataplane
from nfproxy.reconcile.planner import Planner
from nfproxy.reconcile.reconciler import Reconciler, Report
from nfproxy.sources.source import Source

log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LAST_RETRY_S = 0.25, 30.0

Configure = Callable[[Node | None], NodeConfig]


def families_of_host() -> tuple[Family, ...]:
    """Return the families to program: IPv4, and IPv6 where the kernel has it enabled."""
    disabled = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
    if not Path("/proc/net/if_inet6").exists():
        return (Family.IPV4,)
    if disabled.exists() and disabled.read_text("ascii").strip() == "1":
        return (Family.IPV4,)
    return (Family.IPV4, Family.IPV6)


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
    ) -> None:
        """
        Put the parts together; `configure` gives the node's configuration for its Node object.

        Raises ConfigError if the configuration cannot be used without one.
        """
        self._source = source
        self._dataplane = dataplane
        self._configure = configure
        self._families = families
        self._began = time.monotonic()
        self._ready = False
        self._pending = Touched()
        self._conflicts: set[Conflict] = set()
        self._delay_s = 0.0
        self._retry_at: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """
        Serve until `stop` is set.

        Raises InputError if the source cannot tell anything, ConfigError if the configuration
        does not fit the Node, MissingFeatureError if the kernel cannot do what is needed.
        """
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        try:
            first = await self._load(stopped)
            if first is not None:
                await self._start(first)
                await self._follow(stopped)
        finally:
            stopped.cancel()
        log.info("stopping; everything programmed stays in force")

    async def _load(self, stopped: asyncio.Future[Any]) -> Changes | None:
        """Return all the source has to tell, None when we are to stop before that."""
        loading = asyncio.ensure_future(self._source.load())
        both: tuple[asyncio.Future[Any], ...] = (stopped, loading)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            return loading.result()
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        return None

    async def _start(self, first: Changes) -> None:
        """Plan and program everything, for the first time."""
        config = self._configure(first.node)
        self._planner = Planner(config)
        self._reconciler = Reconciler(
            self._dataplane, self._planner.desired, config, self._families, time.monotonic
        )
        self._pending.update(self._planner.desired.everything())
        with bulk_load():
            await self._apply(first)

    async def _follow(self, stopped: asyncio.Future[Any]) -> None:
        async with aclosing(self._changes()) as stream:
            upcoming = asyncio.ensure_future(anext(stream))
            try:
                while not stopped.done():
                    both: tuple[asyncio.Future[Any], ...] = (stopped, upcoming)
                    await asyncio.wait(
                        both, timeout=self._idle_s(), return_when=asyncio.FIRST_COMPLETED
                    )
                    if stopped.done():
                        return
                    if upcoming.done():
                        changes = upcoming.result()
                        upcoming = asyncio.ensure_future(anext(stream))
                        await self._apply(changes)
                    if self._idle_s() == 0:
                        await self._do_what_is_due()
            finally:
                upcoming.cancel()
                await asyncio.gather(upcoming, return_exceptions=True)

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

    def _idle_s(self) -> float | None:
        """Return how long nothing is due, None for ever."""
        due = self._retry_at
        if due is None:
            due = self._reconciler.next_due()
        return None if due is None else max(0.0, due - time.monotonic())

    async def _do_what_is_due(self) -> None:
        if self._retry_at is not None:
            await self._sync()
            return
        try:
            await asyncio.to_thread(self._reconciler.tidy)
        except (NfproxyError, OSError) as error:
            self._back_off(error)

    async def _apply(self, changes: Changes) -> None:
        """Plan changes, and commit them unless something earlier waits for another try."""
        await asyncio.to_thread(self._plan, changes)
        if self._retry_at is None:
            await self._sync()

    def _plan(self, changes: Changes) -> None:
        if changes.node is not None:
            self._take_node(changes.node)
        self._pending.update(self._planner.apply(changes))
        conflicts = set(self._planner.desired.conflicts())
        for conflict in sorted(conflicts - self._conflicts):
            log.warning("%s", conflict.problem(self._source.origin))
        self._conflicts = conflicts

    def _take_node(self, node: Node) -> None:
        try:
            config = self._configure(node)
        except ConfigError as error:
            log.error("Node %s: %s; the configuration so far stays in force", node.name, error)
            return
        self._pending.update(self._planner.reconfigure(config))
        self._reconciler.reconfigure(config)

    async def _sync(self) -> None:
        began = time.monotonic()
        try:
            report = await asyncio.to_thread(self._reconciler.sync, self._pending)
        except (NfproxyError, OSError) as error:
            if not self._ready:
                await self._give_up_if_hopeless(error)
            self._back_off(error)
            return
        self._pending = Touched()
        self._delay_s = 0.0
        self._retry_at = None
        self._log(report, time.monotonic() - began)

    async def _give_up_if_hopeless(self, error: Exception) -> None:
        """Raise what no further try can mend; before the first success only."""
        if isinstance(error, (ConfigError, MissingFeatureError)):
            raise error
        if isinstance(error, TransactionError):
            missing = await asyncio.to_thread(diagnose, self._families)
            if missing is not None:
                raise missing from error

    def _back_off(self, error: Exception) -> None:
        self._delay_s = min(max(2 * self._delay_s, _FIRST_RETRY_S), _LAST_RETRY_S)
        self._retry_at = time.monotonic() + self._delay_s
        log.error("%s; what was programmed stays, next try in %.2g s", error, self._delay_s)

    def _log(self, report: Report, seconds: float) -> None:
        level = logging.INFO if report.operations or report.chains_made else logging.DEBUG
        log.log(
            level,
            "committed %d element operations, %d chains in %.1f ms%s",
            report.operations,
            report.chains_made,
            seconds * 1000,
            ", after reading the tables" if report.resynced else "",
        )
        if not self._ready:
            self._ready = True
            log.info(
                "ready after %.2f s: %d services, %d frontends",
                time.monotonic() - self._began,
                len(self._planner.services),
                len(self._planner.desired.frontends),
            )
