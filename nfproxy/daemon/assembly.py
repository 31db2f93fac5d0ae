"""``nfproxy run``: builds the parts of the daemon, and says how long each of them lives."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from typing import Any

import msgspec

from nfproxy import __version__
from nfproxy.apiserver.access import client_settings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.eventposter import EventPoster
from nfproxy.apiserver.source import ApiServerSource
from nfproxy.clock import now
from nfproxy.config.addresses import extra_loopback
from nfproxy.config.kept import own_listeners, with_host
from nfproxy.config.kubeproxy import (
    EXTERNAL_IPS_GATE,
    LOCALHOST_NODE_PORTS_GATE,
    ROUTER_GATE,
    UDP_GATE,
)
from nfproxy.config.load import LoadedConfig
from nfproxy.daemon.background import (
    LocalNodePorts,
    count_problems,
    follow_addresses,
    follow_api_servers,
    post_pod_ranges,
    serve_health_checks,
    until_config_changes,
    until_families_change,
)
from nfproxy.daemon.changelog import ChangeLog
from nfproxy.daemon.events import HEALTH_FAILED, METRICS_FAILED, NodeEvents, NodeMetrics
from nfproxy.daemon.hooks import NodeHooks
from nfproxy.daemon.insightpages import InsightPages
from nfproxy.daemon.kernelcounters import KernelCounters
from nfproxy.daemon.loop import Configure, Daemon
from nfproxy.daemon.missingnode import MissingNode
from nfproxy.daemon.ownstatus import OwnStatus
from nfproxy.daemon.schedule import SyncTimings
from nfproxy.daemon.serviceconnections import ServiceConnections
from nfproxy.daemon.staleflows import StaleFlowCleaning
from nfproxy.dataplane.conntrack_cleaner import ConntrackCleaner
from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.nodereading import with_node
from nfproxy.dataplane.probes import families_to_program
from nfproxy.errors import ListenError
from nfproxy.health import Health
from nfproxy.host.addresschanges import LocalAddresses
from nfproxy.host.addresses import every
from nfproxy.host.kubeproxy import kube_proxy_traces
from nfproxy.host.nfproxydaemon import daemon_processes
from nfproxy.insight.changerecord import CHANGES_PATH
from nfproxy.insight.daemonstatus import STATUS_PATH
from nfproxy.insight.statusscreen import NODE_PATH
from nfproxy.kube.source import Source
from nfproxy.metrics.component import FEATURES
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Problem
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.servers.healthcheckports import HealthCheckServers, ListenFailure
from nfproxy.servers.localpages import changes_page, json_page, local_pages, status_page
from nfproxy.servers.pages import Page, by_path
from nfproxy.servers.ports import health_pages, metrics_pages
from nfproxy.servers.serving import PageServer
from nfproxy.servers.webpages import WebPages
from nfproxy.text import shown_path
from nfproxy.views.elementnames import name_elements

log = logging.getLogger(__name__)

# How long kube-proxy waits for a Node's podCIDRs, and for its addresses.
_NODE_WAIT_S, _ADDRESSES_WAIT_S = 300.0, 30.0


class Options(msgspec.Struct, frozen=True):
    """
    What to run.

    Objects come from the directory `manifests`, or from the API server where it is "". `configure`
    gives the node's configuration for a Node object. `prepare` sets what belongs to the machine
    (sysctls), once the API server's address and credentials are known to be usable.
    """

    loaded: LoadedConfig
    node_name: str
    configure: Configure
    manifests: str = ""
    prepare: Callable[[], None] = lambda: None


async def serve(options: Options, stop: asyncio.Event) -> None:
    """
    Program this node and keep it in step until `stop` is set.

    Raises ConfigError and MissingFeatureError where the daemon cannot start, InputError where the
    manifests cannot be found, ListenError where ``bindAddressHardFail`` asks for it.
    """
    loaded, config = options.loaded, options.loaded.config
    families = families_to_program()
    if families != FAMILIES:
        log.info("this kernel has no IPv6, or not what its table needs: only IPv4 is programmed")
    # What is opened later is closed first, after the tasks have ended.
    async with AsyncExitStack() as stack:
        kernel = stack.enter_context(closing(Kernel()))
        _warn_about_other_proxies()
        addresses = await stack.enter_async_context(LocalAddresses())
        cleaner = stack.enter_context(closing(ConntrackCleaner()))

        localhost = config.serves_localhost_node_ports
        gates = {
            **FEATURES,
            EXTERNAL_IPS_GATE: ("", config.allows_external_ips),
            LOCALHOST_NODE_PORTS_GATE: ("BETA", localhost),
            ROUTER_GATE: ("ALPHA", config.routes_ingress),
            UDP_GATE: ("ALPHA", config.serves_localhost_udp),
        }
        counters = KernelCounters(families)
        rejected = counters.rejected if localhost else None
        metrics = NodeMetrics(
            families, __version__, gates, rejected, counters.affinity, counters.refused
        )
        source, events, connection = await stack.enter_async_context(_source(options, metrics))

        health = Health(config.nftables.sync_period.seconds)
        kernel.turn_wait.waited = metrics.kernel_lock_waited
        health.explain_waits(lambda: kernel.turn_wait.waiting_s)
        if options.manifests:  # they may hold no Node, and nothing deletes it
            health.node_seen(Node(options.node_name))
        if isinstance(source, ApiServerSource):
            health.explain_api_server(partial(getattr, source, "trouble"))
        flows = StaleFlowCleaning(cleaner, lambda: addresses.current, families, metrics)
        local_node_ports = LocalNodePorts(families, metrics)
        change_log = ChangeLog()
        hooks = NodeHooks(
            metrics,
            health,
            families,
            flows,
            events,
            local_node_ports.committed,
            kernel.remove_strangers,
            change_log,
        )
        connections = stack.enter_context(
            closing(ServiceConnections(families, lambda: hooks.planner, kernel.deletions))
        )
        daemon = Daemon(
            source,
            kernel,
            _configure(options, addresses, connection),
            families,
            hooks,
            _timings(options),
            kernel.foreign_changes(
                lambda elements: name_elements(
                    hooks.planner.desired if hooks.planner else None, elements
                )
            ),
        )
        checks = _health_check_servers(loaded, health, metrics, events)
        status = status_page(loaded, options.node_name, options.manifests)
        changes = changes_page(change_log.page)
        own_name = f"nfproxy (pid {os.getpid()}, node {options.node_name})"
        insight = InsightPages(
            lambda: hooks.planner,
            lambda: source.problems,
            lambda: not isinstance(source, ApiServerSource) or source.node_exists is not False,
            partial(with_node, running=own_name, probe=False),
            hooks.in_force,
        )
        if connection is not None:
            where = ("API server", lambda: connection.host)
        else:
            where = ("files", lambda: options.manifests)
        view = OwnStatus(
            options.node_name, hooks, health, change_log, *where, partial(_heard_at_s, source)
        )
        node = json_page(partial(view.status, with_connections=True))
        fixed = {STATUS_PATH: status, CHANGES_PATH: changes, NODE_PATH: node}
        pages = WebPages(insight, view.status, change_log.page, fixed).pages()
        local = local_pages({**insight.pages(), **pages})
        background = [
            _serve(_metrics_server(loaded, metrics, connections, local), METRICS_FAILED, events),
            serve_health_checks(checks, hooks, addresses, metrics),
            count_problems(source, metrics),
            flows.run(),
            follow_addresses(addresses, daemon.reconfigure),
            until_families_change(addresses),
            local_node_ports.run(),
            post_pod_ranges(hooks, events),
        ]
        if connection is not None:
            background.append(follow_api_servers(connection, daemon.reconfigure))
        if isinstance(source, ApiServerSource):
            missing = MissingNode(
                options.node_name,
                socket.gethostname(),
                lambda: source.node_exists,
                source.node_names,
                health,
                metrics,
            )
            background.append(missing.run())
        background += [server.run() for server in _local_servers(loaded, local)]
        if config.healthz_bind_address:
            server = _health_server(loaded, health, metrics)
            background.append(_serve(server, HEALTH_FAILED, events))
        if loaded.command_line.config:
            background.append(until_config_changes(loaded.command_line.config))
        await _run(daemon.run(stop), background)


async def _run(
    loop: Coroutine[Any, Any, None], background: Iterable[Coroutine[Any, Any, None]]
) -> None:
    """Run the daemon's loop, with tasks that end when it does. The first error ends all."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in background]
            try:
                await loop
            finally:
                for task in tasks:
                    task.cancel()
    except ExceptionGroup as errors:
        raise _first(errors) from None


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Return the first error of a group that is not a group itself."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _configure(
    options: Options, addresses: LocalAddresses, connection: Connection | None
) -> Configure:
    """Return what gives the configuration, with the addresses of interfaces and API servers."""

    def configure(node: Node | None, awaits_addresses: bool = False) -> NodeConfig:
        config = options.configure(node, awaits_addresses)
        api_servers = connection.addresses if connection else frozenset()
        kept = with_host(config.kept, every(addresses.current), api_servers)
        return msgspec.structs.replace(config, kept=kept)

    return configure


def _warn_about_other_proxies() -> None:
    """Warn if kube-proxy serves, or has served, this node, or if another nfproxy does."""
    for other in daemon_processes():
        log.error(
            "nfproxy runs here already (process %d): each puts back what the other changes, and "
            "Services fail meanwhile; end one of them",
            other.pid,
        )
    traces = kube_proxy_traces()
    if traces:
        log.warning(
            "kube-proxy has left its rules here, or runs (%s): end it, then remove them with "
            "`nfproxy cleanup --kube-proxy`; until then one of the two proxies answers",
            ", ".join(traces),
        )


def _timings(options: Options) -> SyncTimings:
    """Return how often to sync. Manifests are complete: there is no Node to wait for."""
    settings = options.loaded.config.nftables
    return SyncTimings(
        pause_s=settings.min_sync_period.seconds,
        retry_s=settings.sync_period.seconds,
        node_wait_s=0.0 if options.manifests else _NODE_WAIT_S,
        addresses_wait_s=0.0 if options.manifests else _ADDRESSES_WAIT_S,
    )


# --- where objects come from ----------------------------------------------------------------


@asynccontextmanager
async def _source(
    options: Options, metrics: NodeMetrics
) -> AsyncIterator[tuple[Source, NodeEvents, Connection | None]]:
    """Open the source of objects, what posts Events, and the connection to an API server if any."""
    if options.manifests:
        # Imported here: most daemons follow no files.
        from nfproxy.manifests.source import ManifestSource

        shown = shown_path(str(options.manifests))
        log.info("node %s, objects from %s", options.node_name, shown)
        async with ManifestSource(options.manifests, options.node_name, _report) as source:
            yield source, NodeEvents(None, options.node_name), None
        return
    settings = client_settings(options.loaded, options.node_name)
    async with Connection(settings, _report, metrics) as connection:
        log.info("node %s, objects from the API server %s", options.node_name, connection.host)
        if len(connection.hosts) > 1:
            log.info("fallback API servers: %s", ", ".join(connection.hosts))
        options.prepare()
        async with EventPoster(
            connection, instance=f"kube-proxy-{socket.gethostname()}", report=_report
        ) as poster:
            events = NodeEvents(poster, options.node_name)
            metrics.post_to(events)
            async with ApiServerSource(connection, options.node_name, _report, metrics) as source:
                events.starting()
                yield source, events, connection


def _heard_at_s(source: Source) -> float | None:
    return source.heard_at_s if isinstance(source, ApiServerSource) else None


def _report(problem: Problem) -> None:
    # The first question of an operator whose API server is away.
    rest = "; installed rules stay, trying again" if problem.kind == "API" else ""
    log.warning("%s%s", problem, rest, extra={"about": problem.subject or problem.source_file})


# --- servers --------------------------------------------------------------------------------


def _health_server(loaded: LoadedConfig, health: Health, metrics: NodeMetrics) -> PageServer:
    config = loaded.config
    pages = health_pages(health, metrics)
    hard_fail = config.bind_address_hard_fail
    return PageServer("health", config.healthz_bind_address, pages, hard_fail=hard_fail)


def _metrics_server(
    loaded: LoadedConfig,
    metrics: NodeMetrics,
    connections: ServiceConnections,
    local: Mapping[str, Page],
) -> PageServer:
    config = loaded.config
    version = loaded.command_line.reported_version or __version__
    texts = connections.text, connections.tracked_text
    pages = metrics_pages(metrics, loaded, version, *texts, local)
    hard_fail = config.bind_address_hard_fail
    return PageServer("metrics", config.metrics_bind_address, pages, hard_fail=hard_fail)


def _local_servers(loaded: LoadedConfig, local: Mapping[str, Page]) -> list[PageServer]:
    """Return a server of the local pages where metrics are served on no loopback address."""
    address = extra_loopback(loaded.config.metrics_bind_address)
    return [PageServer("pages for this node", address, by_path(local))] if address else []


def _health_check_servers(
    loaded: LoadedConfig, health: Health, metrics: NodeMetrics, events: NodeEvents
) -> HealthCheckServers:
    def failed(failure: ListenFailure) -> None:
        metrics.health_check_listen_failed()
        events.cannot_serve_health_check(failure)

    own_ports = {listener.port: listener.what for listener in own_listeners(loaded.config)}
    return HealthCheckServers(lambda: health.serving(now()), failed, own_ports)


async def _serve(server: PageServer, reason: str, events: NodeEvents) -> None:
    """Serve pages; post an Event before an error that ends the process."""
    try:
        await server.run()
    except ListenError as error:
        events.cannot_listen(reason, error)
        raise
