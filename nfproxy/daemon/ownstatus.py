"""What the daemon says of its node for ``nfproxy status``: its own facts, read when asked."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from nfproxy import __version__
from nfproxy.clock import now, unix_s
from nfproxy.daemon.changelog import ChangeLog
from nfproxy.daemon.hooks import NodeHooks
from nfproxy.health import Health
from nfproxy.host.nodesettings import tracked_connections
from nfproxy.insight.nodestatus import DaemonFacts, StatusScreen, daemon_rows
from nfproxy.kube.timestamps import timestamp
from nfproxy.metrics.component import process_start_s

_DAY_S = 86400.0


class _HealthBody(msgspec.Struct, rename="camel"):
    """What is used of the body of a health page."""

    node_eligible: bool = True
    programmed: bool = True
    reason: str = ""
    api_server: str = ""
    kernel: str = ""


class OwnStatus:
    """The daemon's own view of its node. Nothing in it grows with the number of Services."""

    def __init__(
        self,
        node: str,
        hooks: NodeHooks,
        health: Health,
        changes: ChangeLog,
        kind: str,
        where: Callable[[], str],
    ) -> None:
        """Read nothing yet; `kind` and `where` name the source of objects."""
        self._node = node
        self._hooks = hooks
        self._health = health
        self._changes = changes
        self._kind = kind
        self._where = where

    def status(self) -> StatusScreen:
        """Return the status. May be called in any thread."""
        hooks, moment, unix = self._hooks, now(), unix_s()
        since_s, read_s, planner = hooks.in_step_since_s, hooks.tables_read_s, hooks.planner
        ready = msgspec.json.decode(self._health.readyz(moment).body, type=_HealthBody)
        health = msgspec.json.decode(self._health.healthz(moment).body, type=_HealthBody)
        overdue = ready.reason
        if not (overdue or since_s is not None):
            overdue = "the last sync failed; the log says why"
        facts = DaemonFacts(
            sizes=hooks.sizes,
            config=planner.config if planner else None,
            source=(self._kind, self._where()),
            trouble=health.api_server,
            overdue=overdue,
            kernel=ready.kernel,
            node_trouble="" if health.node_eligible else health.reason,
            read_ago_s=None if read_s is None else moment.monotonic_s - read_s,
            services=hooks.states,
            foreign=self._changes.by_others(unix - _DAY_S),
            tracked=tracked_connections(),
        )
        return StatusScreen(
            node=self._node,
            version=__version__,
            pid=os.getpid(),
            started=_time(process_start_s()),
            since=_time(since_s),
            at=_time(unix),
            rows=tuple(daemon_rows(facts)),
        )


def _time(unix: float | None) -> str:
    return "" if unix is None else timestamp(unix)
