"""nfproxy's own metrics: what is programmed, how long that took, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from nfproxy import __version__
from nfproxy.metrics.prometheus import Maker, expose
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName, Protocol

_TRANSACTION_S = tuple(0.0001 * 2**k for k in range(17))  # 0.1 ms to 6.6 s
_REPAIR_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Programs that are known to change tables. A process chooses its name: others are bounded.
_OTHER_PROGRAM = "other"
_PROGRAMS = ("nft", "nfproxy", "firewalld", "kube-proxy", _OTHER_PROGRAM)
_MOST_PROGRAMS = 16

_OPERATIONS = tuple(4**k for k in range(11))  # to a million


class OwnMetrics:
    """Everything under ``nfproxy_`` on the page ``/metrics``. Any thread may call."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics."""
        make = Maker(registry, "nfproxy_")
        make.gauge("build_info", "Always 1; the label has the version", ("version",)).labels(
            __version__
        ).set(1)
        self._services = make.gauge("services", "Services that this node proxies")
        self._programmed = make.gauge(
            "services_programmed", "Services whose last version the kernel's tables hold"
        )
        self._service_ports = make.gauge(
            "service_ports",
            "Service ports by what their cluster IP answers: works, no_endpoints, no_local "
            "(internalTrafficPolicy Local), terminating_only, port_mismatch (no ready endpoint has "
            "the port)",
            ("state",),
        )
        self._frontends = make.gauges(
            "frontends", "Addresses, protocols and ports at which clients reach Services"
        )
        self._endpoints = make.gauges(
            "endpoints", "Endpoints of all frontends; an endpoint of two frontends counts twice"
        )
        self._elements = make.gauges(
            "elements", "Elements of all sets and maps in the kernel's table"
        )
        self._conflicts = make.gauge(
            "frontend_conflicts", "Claims to a frontend that belongs to another Service"
        )
        self._refused = make.gauge(
            "frontends_refused", "Frontends that a Service asks for and must not have"
        )
        self._shadowing = make.gauge(
            "frontends_shadowing",
            "Frontends at an address of this node, of pods, or of another Service",
        )
        self._limited = make.gauge(
            "service_limits_exceeded", "Limits that Services exceed: they have a part of it"
        )
        self._refused_parts = make.gauge(
            "refused_parts",
            "Frontends, lists and set elements that the kernel refuses: they stay as they were",
        )
        self._transaction_s = make.histogram(
            "transaction_duration_seconds",
            "Seconds a sync took that changed the kernel's tables",
            _TRANSACTION_S,
        )
        self._operations = make.histogram(
            "transaction_operations", "Element changes of a sync", _OPERATIONS
        )
        self._in_step = make.gauges(
            "in_step",
            "1 if the kernel's table holds what it should, but for refused parts; 0 from a foreign "
            "change or a failed sync to the repair",
        )
        self._chains_made = make.counter(
            "chains_made_total",
            "Chains loaded for a new combination of protocol, endpoint count and policy",
        )
        self._resyncs = make.counter(
            "resyncs_total", "Readings of the whole kernel tables, by reason", ("reason",)
        )
        self._foreign = make.counter(
            "foreign_changes_total",
            "Changes of nfproxy's tables by other processes, by the process's name",
            ("program",),
        )
        self._programs = dict.fromkeys(_PROGRAMS)
        for program in self._programs:
            self._foreign.labels(program)  # from 0 on, so that the first change is an increase
        self._repair_pending = make.gauge(
            "repair_pending_seconds",
            "Seconds since another process's change that is not repaired yet, 0 without one",
        )
        self._repair_s = make.histogram(
            "repair_duration_seconds",
            "Seconds from another process's change of nfproxy's tables to its repair",
            _REPAIR_S,
        )
        self._lock_wait_s = make.counter(
            "kernel_lock_wait_seconds_total",
            "Seconds that nfproxy waited for other processes' transactions on nf_tables",
        )
        self._problems = make.gauge(
            "object_problems", "Objects that have a problem now, by kind", ("kind",)
        )
        self._problem_kinds: set[str] = set()
        self._undecodable = make.counter(
            "undecodable_objects_total", "Versions of objects that nfproxy cannot use", ("kind",)
        )
        self._lists = make.counter(
            "lists_total", "Complete lists received from the API server", ("resource",)
        )
        self._listed = make.gauge("listed_objects", "Objects in the last list", ("resource",))
        self._watches_ended = make.counter(
            "watches_ended_total", "Watches that ended, by reason", ("resource", "reason")
        )
        self._api_servers = make.gauge(
            "api_server_in_use",
            "1 for the API server in use, 0 for the ones used before",
            ("host",),
        )
        self._api_server = ""
        self._node_ports = make.gauges(
            "node_port_addresses", "Local addresses that accept node ports; -1 if all do"
        )
        self._node_missing = make.gauge(
            "node_missing", "1 while the API server has no Node object for this node"
        )
        self._node_ports_unreachable = make.gauges(
            "node_ports_unreachable",
            "1 while no local address is among those that should accept node ports",
        )
        self._pods_mismatch = make.gauge(
            "local_pods_mismatch",
            "1 while clusterCIDR, or the Node's podCIDRs, do not fit this node",
        )
        self._conntrack_queue = make.gauge(
            "conntrack_queue",
            "UDP and SCTP frontends whose stale conntrack entries wait for removal",
        )
        self._listeners = make.gauge(
            "health_check_listeners", "Listening sockets of Services' health check node ports"
        )
        self._listen_failures = make.counter(
            "health_check_listen_failures_total",
            "Failed attempts to listen on a Service's health check node port",
        )

    # --- the kernel ------------------------------------------------------------------------

    def transaction(self, seconds: float, operations: int) -> None:
        """A sync changed the kernel's tables."""
        self._transaction_s.observe(seconds)
        self._operations.observe(operations)

    def chains_made(self, count: int) -> None:
        """This number of chains was loaded."""
        self._chains_made.inc(count)

    def resynced(self, reason: str) -> None:
        """The whole kernel tables were read; `reason` is a ResyncReason of the reconciler."""
        self._resyncs.labels(reason).inc()

    def foreign_change(self, program: str) -> None:
        """A process of this name changed nfproxy's tables; of few names each has its own sample."""
        if len(self._programs) < _MOST_PROGRAMS:
            self._programs[program] = None
        self._foreign.labels(program if program in self._programs else _OTHER_PROGRAM).inc()

    def read_repair_pending(self, read: Callable[[], float]) -> None:
        """Let `read` say for how many seconds the tables are known to be disturbed."""
        self._repair_pending.set_function(read)

    def repaired(self, seconds: float) -> None:
        """The tables hold what they should, so long after another process changed them."""
        self._repair_s.observe(seconds)

    def kernel_lock_waited(self, seconds: float) -> None:
        """A transaction waited so long for those of other processes."""
        self._lock_wait_s.inc(seconds)

    def in_step(self, family: Family, in_step: bool) -> None:
        """A family's table holds what it should, or is known not to."""
        self._in_step[family].set(in_step)

    def table_size(self, family: Family, *, frontends: int, endpoints: int, elements: int) -> None:
        """A family's table has this size."""
        self._frontends[family].set(frontends)
        self._endpoints[family].set(endpoints)
        self._elements[family].set(elements)

    def services(self, count: int, waiting: int = 0) -> None:
        """This number of Services is proxied; changes of so many wait to be programmed."""
        self._services.set(count)
        self._programmed.set(max(0, count - waiting))

    def service_ports(self, counts: Mapping[str, int]) -> None:
        """So many service ports have each state."""
        for state, count in counts.items():
            self._service_ports.labels(state).set(count)

    def claims(self, *, lost: int, refused: int, shadowing: int, limited: int) -> None:
        """So many claims to frontends lost, are refused, or shadow something; limits exceeded."""
        self._conflicts.set(lost)
        self._refused.set(refused)
        self._shadowing.set(shadowing)
        self._limited.set(limited)

    def parts_refused(self, count: int) -> None:
        """The kernel refuses so many parts of the desired state now."""
        self._refused_parts.set(count)

    # --- objects ---------------------------------------------------------------------------

    def object_problems(self, counts: Mapping[str, int]) -> None:
        """These objects have a problem, by kind; kinds that are missing have none."""
        # A kind without a problem goes to 0, not away: alerts resolve sooner.
        for kind in self._problem_kinds - counts.keys():
            self._problems.labels(kind).set(0)
        for kind, count in counts.items():
            self._problems.labels(kind).set(count)
        self._problem_kinds |= counts.keys()

    def undecodable(
        self,
        kind: Any,  # a nfproxy.kube Kind, which this layer does not import
        name: ObjectName | None,
        problems: tuple[Problem, ...],
    ) -> None:
        """This version of an object cannot be used."""
        self._undecodable.labels(kind.word).inc()

    def fields_ignored(self, kind: Any, name: ObjectName, problems: tuple[Problem, ...]) -> None:
        """Parts of an object cannot be used; `object_problems` counts them."""

    def listed(self, resource: str, objects: int, seconds: float) -> None:
        """A complete list was received."""
        self._lists.labels(resource).inc()
        self._listed.labels(resource).set(objects)

    def watch_ended(self, resource: str, reason: str) -> None:
        """A watch ended."""
        self._watches_ended.labels(resource, reason).inc()

    def api_server(self, host: str) -> None:
        """This API server is in use."""
        if host != self._api_server:
            if self._api_server:
                self._api_servers.labels(self._api_server).set(0)
            self._api_servers.labels(host).set(1)
            self._api_server = host

    # --- the node --------------------------------------------------------------------------

    def node_port_addresses(self, family: Family, count: int | None) -> None:
        """This number of local addresses accepts node ports; None: all."""
        self._node_ports[family].set(-1 if count is None else count)

    def node_ports_unreachable(self, family: Family, is_so: bool) -> None:
        """Node ports of a family are served nowhere although the configuration asks for them."""
        self._node_ports_unreachable[family].set(is_so)

    def node_missing(self, is_so: bool) -> None:
        """The API server has no Node object for this node."""
        self._node_missing.set(is_so)

    def local_pods_mismatch(self, is_so: bool) -> None:
        """The ranges that recognise local pods do not fit this node."""
        self._pods_mismatch.set(is_so)

    def conntrack_queue(self, count: int) -> None:
        """The stale entries of this number of frontends wait for removal."""
        self._conntrack_queue.set(count)

    def health_check_listeners(self, count: int) -> None:
        """This number of sockets listens on Services' health check node ports."""
        self._listeners.set(count)

    def health_check_listen_failed(self) -> None:
        """A Service's health check node port could not be listened on."""
        self._listen_failures.inc()


# --- the page /metrics/services -----------------------------------------------------------------


def connections_text(totals: Iterable[tuple[ObjectName, str, Protocol, int]]) -> bytes:
    """
    Return the connections of service ports in Prometheus' text format, in a fixed order.

    Each total has a Service, a port's name, its protocol, and the number of connections. They are
    on a page of their own because there may be thousands.
    """
    family = CounterMetricFamily(
        "nfproxy_service_connections",
        "First packets of connections to a Service port on this node, refused and dropped ones "
        "included; an attempt without an answer counts once for each SYN that its client repeats",
        labels=("service_namespace", "service_name", "port_name", "protocol"),
    )
    for (namespace, name), port_name, protocol, count in sorted(totals):
        family.add_metric((namespace, name, port_name, protocol.name), count)
    return expose([family])


def open_connections_text(
    totals: Mapping[tuple[ObjectName, str, Protocol], tuple[int, int]],
) -> bytes:
    """Return the open and unanswered connections of service ports that have some."""
    labels = ("service_namespace", "service_name", "port_name", "protocol")
    open_ones = GaugeMetricFamily(
        "nfproxy_service_open_connections",
        "Connections of a Service port that this node tracks, and that are established",
        labels=labels,
    )
    unanswered = GaugeMetricFamily(
        "nfproxy_service_unanswered_connections",
        "Connections of a Service port that this node tracks, and that no endpoint has answered",
        labels=labels,
    )
    for ((namespace, name), port_name, protocol), (count, unanswered_count) in sorted(
        totals.items()
    ):
        values = (namespace, name, port_name, protocol.name)
        open_ones.add_metric(values, count)
        unanswered.add_metric(values, unanswered_count)
    return expose([open_ones, unanswered])
