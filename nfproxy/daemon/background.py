"""Tasks that run beside the daemon's loop, for as long as it runs; all belong to the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.eventseries import KEPT_S
from nfproxy.clock import monotonic_s
from nfproxy.config.nodeports import NodePortGap, node_port_gap
from nfproxy.daemon.events import NodeEvents
from nfproxy.daemon.hooks import NodeHooks
from nfproxy.errors import ConfigError
from nfproxy.host.addresschanges import LocalAddresses
from nfproxy.host.addresses import Addresses, every, families_of_host, loopback_of, within
from nfproxy.kube.source import Source
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import Family, Prefix
from nfproxy.plan.localnodeports import ListenerChanges
from nfproxy.servers.healthcheckports import HealthCheckServers
from nfproxy.servers.tcpproxy import LocalNodePortServers

log = logging.getLogger(__name__)

# How often a health check node port is tried again that another process listens on.
_HEALTH_CHECK_RETRY_S = 30.0

# The same for a node port on loopback addresses; each sync tries, too.
_LISTEN_RETRY_S = 30.0

_CONFIG_FILE_S, _PROBLEMS_S, _API_SERVERS_S = 5.0, 15.0, 60.0
_POD_RANGES_S, _POD_RANGES_REPEAT_S = 5.0, KEPT_S / 2


# --- what the configuration depends on ------------------------------------------------------


async def follow_addresses(addresses: LocalAddresses, changed: Callable[[], None]) -> None:
    """Call `changed` when this node gets or loses an address that a Service may name."""
    known = None
    async for current in addresses.changes():
        found = every(current)
        if known is not None and found != known:
            changed()
        known = found


class FamiliesChangedError(ConfigError):
    """The kernel has IPv6 now, which it had not at the start."""


async def until_families_change(addresses: LocalAddresses, proc: Path = Path("/proc")) -> None:
    """
    Return never; raise FamiliesChangedError once the kernel has got IPv6, as a module.

    IPv6 then brings the loopback address with it. Switching it on and off changes nothing here.
    """
    first = families_of_host(proc)
    async for _ in addresses.changes():
        if families_of_host(proc) != first:
            raise FamiliesChangedError(
                "the kernel has IPv6 now", "ending, to be started with both families"
            )


async def follow_api_servers(connection: Connection, changed: Callable[[], None]) -> None:
    """Look up the API servers' addresses now and then; call `changed` when they differ."""
    while True:
        before = connection.addresses
        await asyncio.sleep(_API_SERVERS_S)
        await connection.locate()
        if connection.addresses != before:
            changed()


async def post_pod_ranges(hooks: NodeHooks, events: NodeEvents) -> None:
    """
    Post an Event while the ranges that recognise local pods do not fit this node.

    It comes when that begins or changes, and again before the API server forgets it.
    """
    posted: tuple[str, ...] = ()
    posted_s = 0.0
    while True:
        planner, now_s = hooks.planner, monotonic_s()
        problems = planner.config.local_pods_mismatch if planner else ()
        if problems and (problems != posted or now_s >= posted_s + _POD_RANGES_REPEAT_S):
            events.pod_ranges_mismatch(problems)
            posted_s = now_s
        posted = problems
        await asyncio.sleep(_POD_RANGES_S)


# --- health check node ports ----------------------------------------------------------------


async def serve_health_checks(
    servers: HealthCheckServers,
    hooks: NodeHooks,
    addresses: LocalAddresses,
    metrics: Metrics,
) -> None:
    """
    Keep the health check node ports open that Services have.

    They are open at the addresses that accept node ports, and at loopback addresses that the
    configuration names, and follow both as they change. So does what the log says about addresses
    that no interface has.
    """
    gaps, retry_at = NodePortGaps(metrics), monotonic_s() + _HEALTH_CHECK_RETRY_S
    watching = asyncio.create_task(_follow(addresses, hooks.health_checks_changed))
    try:
        while True:
            hooks.health_checks_changed.clear()
            prefixes = hooks.node_port_prefixes
            if prefixes is not None:
                accepted = within(addresses.current, prefixes)
                loopback = loopback_of(addresses.current, hooks.loopback_node_ports)
                everywhere = {f for f in accepted if prefixes.get(f) is None}
                gaps.update(prefixes, addresses.current)
                if is_due := monotonic_s() >= retry_at:
                    retry_at = monotonic_s() + _HEALTH_CHECK_RETRY_S
                await servers.update(
                    hooks.take_health_checks(),
                    {
                        f: None if f in everywhere else own | loopback[f]
                        for f, own in accepted.items()
                    },
                    retry=is_due,
                )
                metrics.health_check_listeners(servers.listeners)
                for family, own in accepted.items():
                    metrics.node_port_addresses(family, None if family in everywhere else len(own))
            try:
                await asyncio.wait_for(hooks.health_checks_changed.wait(), _HEALTH_CHECK_RETRY_S)
            except TimeoutError:
                continue
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await servers.close()


class NodePortGaps:
    """Reports families whose node ports no address of this host can serve, when that changes."""

    def __init__(self, metrics: Metrics) -> None:
        """Start without a gap."""
        self._metrics = metrics
        self._known: dict[Family, NodePortGap] = {}

    def update(
        self, prefixes: Mapping[Family, tuple[Prefix, ...] | None], local: Addresses
    ) -> None:
        """Take the prefixes that accept node ports, and the addresses of this host."""
        for family, found in local.items():
            gap, known = node_port_gap(family, prefixes.get(family), found), self._known.get(family)
            self._metrics.node_ports_unreachable(family, gap is not None)
            if gap is not None:
                self._known[family] = gap
                if known is None or known.what != gap.what:
                    log.warning("%s; %s", gap.what, gap.remedy)
            elif known is not None:
                del self._known[family]
                log.info("%s node ports are served again", family.label)


async def _follow(addresses: LocalAddresses, changed: asyncio.Event) -> None:
    async for _ in addresses.changes():
        changed.set()


# --- node ports on loopback addresses -------------------------------------------------------


class LocalNodePorts:
    """Keeps the listeners on loopback addresses that the last commit wants (KEP-6032)."""

    def __init__(self, families: Sequence[Family], metrics: Metrics) -> None:
        """Listen nowhere yet."""
        self._families = tuple(families)
        self._metrics = metrics
        self._servers = LocalNodePortServers(metrics.localhost_listen_failed)
        self._report()

    def committed(self, changes: ListenerChanges) -> None:
        """Take over what a commit changed; without a change, try again what failed."""
        self._servers.update(changes)
        self._report()

    async def run(self) -> None:
        """Try again now and then; close everything at the end."""
        try:
            while True:
                await asyncio.sleep(_LISTEN_RETRY_S)
                self.committed({})
        finally:
            await self._servers.close()

    def _report(self) -> None:
        counts = self._servers.listeners
        self._metrics.localhost_listeners({family: counts[family] for family in self._families})


# --- problems of objects ------------------------------------------------------------------


async def count_problems(source: Source, metrics: Metrics, every_s: float = _PROBLEMS_S) -> None:
    """Count, now and then, the objects of each kind that have a problem."""
    while True:
        objects = {(problem.kind, problem.subject) for problem in source.problems}
        metrics.object_problems(Counter(kind for kind, _ in objects))
        await asyncio.sleep(every_s)


# --- the configuration file ---------------------------------------------------------------


class ConfigChangedError(ConfigError):
    """The configuration file has other contents than at the start."""


async def until_config_changes(path: str, every_s: float = _CONFIG_FILE_S) -> None:
    """
    Return never; raise ConfigChangedError once the file has other contents.

    The process then ends and is restarted with the new configuration, as kube-proxy is. That goes
    for a file that is written to or replaced under its name. The update of a ConfigMap does
    neither: it points a link to another file and removes this one. All nodes of a cluster would
    restart at once, so the operator who edits a ConfigMap restarts the DaemonSet.
    """
    real = Path(os.path.realpath(path))  # noqa: ASYNC240 - at start, once
    first = _digest(real)
    seen = _stamp(real)
    while True:
        await asyncio.sleep(every_s)
        stamp = _stamp(real)
        if stamp == seen or stamp is None:
            continue
        seen = stamp
        # Another stamp may be a `touch`: only other contents count.
        digest = _digest(real)
        if digest is not None and digest != first:
            raise ConfigChangedError(
                f"{path} has changed", "ending, to be started with the new configuration"
            )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written to or replaced; None without the file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest(path: Path) -> bytes | None:
    """Return a digest of a file's contents; None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
