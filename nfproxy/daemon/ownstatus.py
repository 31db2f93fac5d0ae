"""What the daemon says of its node for ``nfproxy status``: its own facts, read when asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from nfproxy import __version__
from nfproxy.clock import now, process_start_s, unix_s
from nfproxy.daemon.changelog import ChangeLog
from nfproxy.daemon.hooks import NodeHooks
from nfproxy.dataplane.connectionreader import read_all_connections
from nfproxy.dataplane.otherproxy import kube_proxy_rules
from nfproxy.dataplane.ourtables import our_tables
from nfproxy.errors import DataplaneError
from nfproxy.health import Health
from nfproxy.host.nodesettings import tracked_connections
from nfproxy.insight.nodefacts import TrackedUse
from nfproxy.insight.nodestatus import DaemonFacts, daemon_rows
from nfproxy.insight.statusscreen import StatusScreen
from nfproxy.insight.trackedtotals import TrackedTotals, tracked_totals
from nfproxy.kube.timestamps import timestamp
from nfproxy.model.addresses import Family
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.stages import FamilyTables
from nfproxy.plan.planner import Planner

T = TypeVar("T")

_DAY_S = 86400.0

#: More connections than these are not looked at for a status: 20,000 take some 100 ms.
_FEW_CONNECTIONS = 20_000


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
        heard_at_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """
        Read nothing yet.

        `kind` and `where` name the source of objects, `heard_at_s` is when it last sent something.
        """
        self._node = node
        self._hooks = hooks
        self._health = health
        self._changes = changes
        self._kind = kind
        self._where = where
        self._heard_at_s = heard_at_s

    def status(self, *, with_connections: bool = False) -> StatusScreen:
        """
        Return the status. May be called in any thread.

        With connections it also looks at those that the kernel tracks, if they are not too many.
        """
        hooks, moment, unix = self._hooks, now(), unix_s()
        since_s, planner = hooks.in_step_since_s, hooks.planner
        state = self._health.state(moment)
        overdue = state.not_ready
        if not (overdue or since_s is not None):
            overdue = "the last sync failed; the log says why"
        tracked = tracked_connections()

        def ago_s(at_s: float | None) -> float | None:
            return None if at_s is None else moment.monotonic_s - at_s

        facts = DaemonFacts(
            sizes=hooks.sizes,
            config=planner.config if planner else None,
            source=(self._kind, self._where()),
            trouble=state.api_server,
            overdue=overdue,
            kernel=state.kernel,
            node_trouble=state.node,
            read_ago_s=ago_s(hooks.tables_read_s),
            heard_ago_s=ago_s(self._heard_at_s()),
            services=hooks.states,
            slices=planner.slice_count if planner else 0,
            foreign=self._changes.by_others(unix - _DAY_S),
            tracked=tracked,
            totals=_totals(planner, tracked) if with_connections else None,
            tables=_unless_refused(_tables, {}),
            kube_proxy=_unless_refused(kube_proxy_rules, ()),
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


def _tables() -> Mapping[Family, FamilyTables]:
    with NftSocket() as netlink:
        return our_tables(netlink)


def _unless_refused(read: Callable[[], T], nothing: T) -> T:
    """Return what is read, `nothing` where the kernel refuses: other rows say so."""
    try:
        return read()
    except DataplaneError:
        return nothing


def _totals(planner: Planner | None, tracked: TrackedUse | None) -> TrackedTotals | None:
    if planner is None or tracked is None or tracked.connections > _FEW_CONNECTIONS:
        return None
    try:
        return tracked_totals(read_all_connections(planner.desired.frontends), planner)
    except DataplaneError:
        return None  # the row says how many there are, and nothing more


def _time(unix: float | None) -> str:
    return "" if unix is None else timestamp(unix)
