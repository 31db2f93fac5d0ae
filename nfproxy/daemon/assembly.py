"""
``nfproxy run``: the parts put together, and how long each of them lives.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any

import msgspec

from nfproxy import __version__
from nfproxy.apiserver.connection import ClientSettings, Connection
from nfproxy.apiserver.events import EventPoster
from nfproxy.apiserver.source import ApiServerSource
from nfproxy.clock import now
from nfproxy.config.kubeproxy import EXTERNAL_IPS_GATE
from nfproxy.config.load import LoadedConfig
from nfproxy.daemon.configfile import until_config_changes
from nfproxy.daemon.connections import ServiceConnections
from nfproxy.daemon.events import HEALTH_FAILED, METRICS_FAILED, NodeEvents, NodeMetrics
from nfproxy.daemon.flows import FlowCleaning
from nfproxy.daemon.hooks import NodeDuties, count_problems, serve_health_checks
from nfproxy.daemon.interface import Configure, Pace
from nfproxy.daemon.loop import Daemon
from nfproxy.dataplane.conntrack import ConntrackCleaner
from nfproxy.dataplane.kernel import Kernel
from nfproxy.errors import ListenError
from nfproxy.health import Health
from nfproxy.host.addresses import LocalAddresses
from nfproxy.host.families import families_of_host
from nfproxy.kube.source import Source
from nfproxy.manifests.source import ManifestSource
from nfproxy.metrics.component import FEATURES
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.changes import Problem
from nfproxy.model.node import Node
from nfproxy.servers.health import health_server
from nfproxy.servers.metrics import metrics_server
from nfproxy.servers.pageserver import PageServer
from nfproxy.servers.servicehealth import ListenFailure, ServiceHealthServers
from nfproxy.tools.takeover.nftables import NfTables

log = logging.getLogger(__name__)


# kube-proxy's patience with a Node that has no podCIDRs, or no addresses, yet
_NODE_WAIT_S, _ADDRESSES_WAIT_S = 300.0, 30.0


class Options(msgspec.Struct, frozen=True):
    """
    What to run.

    Objects come from the directory `manifests`, or from the API server where it is "". `configure`
    gives the dataplane's configuration for a Node object. `prepare` sets what belongs to the node
    (sysctls), once it is known that the API server's address and credentials can be used.
    """

    loaded: LoadedConfig
    node_name: str
    configure: Configure
    manifests: str = ""
    prepare: Callable[[], None] = lambda: None


async def serve(options: Options, stop: asyncio.Event) -> None:
    """
    Program this node and keep it in step until `stop` is set.

    Raises ConfigError and MissingFeatureError for what keeps it from starting, InputError for
    manifests that cannot be found, ListenError where ``bindAddressHardFail`` asks for it.
    """
    families = families_of_host()
    if families != FAMILIES:
        log.info("IPv6 is disabled on this machine: only IPv4 is programmed")
    async with AsyncExitStack() as stack:
        kernel = Kernel()
        stack.callback(kernel.close)
        _warn_of_others()
        addresses = await stack.enter_async_context(LocalAddresses())
        cleaner = ConntrackCleaner()
        stack.callback(cleaner.close)
        gates = {**FEATURES, EXTERNAL_IPS_GATE: ("", options.loaded.config.allows_external_ips)}
        metrics = NodeMetrics(families, __version__, gates)
        source, events = await stack.enter_async_context(_source(options, metrics))
        parts = _Parts(options, families, kernel, addresses, cleaner, metrics, events)
        stack.callback(parts.close)
        try:
            await parts.run(source, stop)
        except ExceptionGroup as group:
            raise _first(group) from None


def _warn_of_others() -> None:
    """Say that another proxy serves, or has served, this node: whose chain is first decides."""
    with closing(NfTables()) as tables:
        theirs = tables.traces()
    if theirs:
        log.warning(
            "kube-proxy has left its rules here, or runs (%s): end it, then remove them with "
            "`nfproxy cleanup --kube-proxy`; until then one of the two proxies answers",
            ", ".join(theirs),
        )


@asynccontextmanager
async def _source(
    options: Options, metrics: NodeMetrics
) -> AsyncIterator[tuple[Source, NodeEvents]]:
    """Give the source of objects, and what posts Events where there is an API server."""
    if options.manifests:
        log.info("node %s, objects from %s", options.node_name, options.manifests)
        yield (
            ManifestSource(options.manifests, options.node_name, _report),
            NodeEvents(None, options.node_name),
        )
        return
    client = options.loaded.config.client_connection
    settings = ClientSettings(
        kubeconfig=client.kubeconfig,
        master=options.loaded.command_line.master,
        spread=options.node_name,
        qps=client.qps,
        burst=client.burst,
    )
    async with Connection(settings, _report, metrics) as connection:
        log.info("node %s, objects from the API server %s", options.node_name, connection.host)
        if len(connection.hosts) > 1:
            log.info("should it be out of reach: one of %s", ", ".join(connection.hosts))
        options.prepare()
        async with EventPoster(
            connection, instance=f"kube-proxy-{socket.gethostname()}", report=_report
        ) as poster:
            events = NodeEvents(poster, options.node_name)
            metrics.announce(events)
            async with ApiServerSource(connection, options.node_name, _report, metrics) as source:
                events.starting()
                yield source, events


class _Parts:
    """What runs side by side with the loop, and ends with it."""

    def __init__(
        self,
        options: Options,
        families: Sequence[Family],
        kernel: Kernel,
        addresses: LocalAddresses,
        cleaner: ConntrackCleaner,
        metrics: NodeMetrics,
        events: NodeEvents,
    ) -> None:
        self._options = options
        self._families = families
        self._kernel = kernel
        self._metrics = metrics
        self._events = events
        self._addresses = addresses
        config = options.loaded.config
        self._health = Health(config.nftables.sync_period.seconds)
        self._flows = FlowCleaning(cleaner, lambda: addresses.current, metrics)
        self._duties = NodeDuties(metrics, self._health, families, self._flows)
        self._connections = ServiceConnections(
            families, lambda: self._duties.planner, kernel.deletions
        )
        self._checks = ServiceHealthServers(
            healthy=lambda: self._health.healthy(now()), failed=self._cannot_serve
        )
        if options.manifests:  # which need not hold a Node: nobody is going to delete it
            self._health.node_told(Node(options.node_name))

    def close(self) -> None:
        """Let go of what was opened."""
        self._connections.close()

    async def run(self, source: Source, stop: asyncio.Event) -> None:
        """Run everything. What one part raises ends the others, and comes in an ExceptionGroup."""
        pace = Pace(
            pause_s=self._options.loaded.config.nftables.min_sync_period.seconds,
            retry_s=self._options.loaded.config.nftables.sync_period.seconds,
            node_wait_s=0.0 if self._options.manifests else _NODE_WAIT_S,
            addresses_wait_s=0.0 if self._options.manifests else _ADDRESSES_WAIT_S,
        )
        daemon = Daemon(
            source,
            self._kernel,
            self._options.configure,
            self._families,
            self._duties,
            pace,
            self._kernel.notifications(),
        )
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(work) for work in self._beside(source)]
            try:
                await daemon.run(stop)
            finally:
                for task in beside:
                    task.cancel()

    def _cannot_serve(self, failure: ListenFailure) -> None:
        self._metrics.health_check_listen_failed()
        self._events.cannot_serve_health_check(failure)

    def _beside(self, source: Source) -> list[Coroutine[Any, Any, None]]:
        loaded = self._options.loaded
        config = loaded.config
        hard = config.bind_address_hard_fail
        version = loaded.command_line.reported_version or __version__
        metrics = metrics_server(
            config.metrics_bind_address,
            self._metrics,
            loaded,
            version=version,
            hard_fail=hard,
            services=self._connections.text,
        )
        work = [
            self._serve(metrics, METRICS_FAILED),
            serve_health_checks(self._checks, self._duties, self._addresses, self._metrics),
            count_problems(source, self._metrics),
            self._flows.run(),
        ]
        if config.healthz_bind_address:
            address = config.healthz_bind_address
            health = health_server(address, self._health, self._metrics, hard_fail=hard)
            work.append(self._serve(health, HEALTH_FAILED))
        if loaded.command_line.config:
            work.append(until_config_changes(loaded.command_line.config))
        return work

    async def _serve(self, server: PageServer, reason: str) -> None:
        """Serve; a failure that is to be fatal is announced before."""
        try:
            await server.run()
        except ListenError as error:
            self._events.cannot_listen(reason, error)
            raise


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Return the first error of a group that is not a group itself."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _report(problem: Problem) -> None:
    log.warning("%s", problem)
