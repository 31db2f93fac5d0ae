"""
The daemon: a source of objects, a planner, a reconciler, and the loop between them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nfproxy.dataplane.diagnose import diagnose
from nfproxy.errors import ConfigError, DataplaneError, MissingFeatureError, NfproxyError
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.reconcile.desired import Touched
from nfproxy.reconcile.planner import Planner
from nfproxy.reconcile.reconciler import Dataplane, Reconciler, Report
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
        self._pending = Touched()
        self._delay_s = 0.0
        self._retry_at: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """
        Serve until `stop` is set.

        Raises InputError if the source cannot tell anything, ConfigError if the configuration
        does not fit the Node, MissingFeatureError if the kernel cannot do what is needed.
        """
        began = time.monotonic()
        first = await self._source.load()
        config = self._configure(first.node)
        self._planner = Planner(config)
        self._reconciler = Reconciler(
            self._dataplane, self._planner.desired, config, self._families, time.monotonic
        )
        self._pending.update(self._planner.desired.everything())
        await self._apply(first, starting=True)
        # What is known now mostly stays: keep the collector from walking it ever again.
        gc.collect()
        gc.freeze()
        log.info(
            "ready after %.2f s: %d services, %d frontends",
            time.monotonic() - began,
            len(self._planner.services),
            len(self._planner.desired.frontends),
        )
        await self._follow(stop)
        log.info("stopping; everything programmed stays in force")

    async def _follow(self, stop: asyncio.Event) -> None:
        stream = self._source.changes().__aiter__()
        stopped = asyncio.ensure_future(stop.wait())
        upcoming = asyncio.ensure_future(anext(stream))
        try:
            while not stop.is_set():
                await asyncio.wait(
                    {stopped, upcoming},
                    timeout=self._idle_s(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if upcoming.done():
                    changes = upcoming.result()
                    upcoming = asyncio.ensure_future(anext(stream))
                    await self._apply(changes)
                elif not stop.is_set():
                    await self._do_what_is_due()
        finally:
            for task in (stopped, upcoming):
                task.cancel()
            await asyncio.gather(stopped, upcoming, return_exceptions=True)

    def _idle_s(self) -> float | None:
        """Return how long nothing is due, None for ever."""
        due = self._retry_at
        if due is None:
            due = self._reconciler.next_due()
        return None if due is None else max(0.0, due - time.monotonic())

    async def _do_what_is_due(self) -> None:
        if self._retry_at is not None:
            if time.monotonic() >= self._retry_at:
                await self._sync()
            return
        try:
            await asyncio.to_thread(self._reconciler.tidy)
        except (DataplaneError, MissingFeatureError) as error:
            self._back_off(error)

    async def _apply(self, changes: Changes, *, starting: bool = False) -> None:
        """Plan and commit changes. A failure is retried, with all that came in between."""
        await asyncio.to_thread(self._plan, changes)
        await self._sync(starting=starting)

    def _plan(self, changes: Changes) -> None:
        if changes.node is not None:
            self._take_node(changes.node)
        touched = self._planner.apply(changes)
        for conflict in self._planner.desired.conflicts_at(touched.frontends):
            log.warning(
                "Service %s: %s belongs to the older Service %s, which keeps it",
                conflict.loser,
                conflict.key,
                conflict.winner,
            )
        self._pending.update(touched)

    def _take_node(self, node: Node) -> None:
        try:
            config = self._configure(node)
        except ConfigError as error:
            log.error("Node %s: %s; the configuration so far stays in force", node.name, error)
            return
        self._pending.update(self._planner.reconfigure(config))
        self._reconciler.reconfigure(config)

    async def _sync(self, *, starting: bool = False) -> None:
        began = time.monotonic()
        try:
            report = await asyncio.to_thread(self._reconciler.sync, self._pending)
        except (DataplaneError, MissingFeatureError) as error:
            missing = await asyncio.to_thread(diagnose) if starting else None
            if missing is not None:
                raise missing from error
            self._back_off(error)
            return
        self._pending = Touched()
        self._delay_s = 0.0
        self._retry_at = None
        self._log(report, time.monotonic() - began)

    def _back_off(self, error: NfproxyError) -> None:
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
