"""
nfproxy's own metrics: what is programmed, what that cost, and what others did.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nfproxy import __version__
from nfproxy.metrics.families import IP_FAMILY, PerFamily
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName

_TRANSACTION_S = tuple(0.0001 * 2**k for k in range(17))  # 0.1 ms to 6.6 s
_OPERATIONS = tuple(4**k for k in range(11))  # to a million


class ResyncReason(enum.StrEnum):
    """Why the kernel's tables were read as a whole."""

    START = "start"
    FAILURE = "failure"
    AUDIT = "audit"
    FOREIGN = "foreign"


class OwnMetrics:
    """Everything under ``nfproxy_``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics."""

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"nfproxy_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(f"nfproxy_{name}", text, labels, registry=registry)

        by_family = (IP_FAMILY,)
        gauge("build_info", "Constantly 1; the label tells the version", ("version",)).labels(
            __version__
        ).set(1)
        self._services = gauge("services", "Services that are proxied")
        self._frontends = PerFamily(
            gauge("frontends", "Addresses, protocols and ports at which Services are", by_family)
        )
        self._endpoints = PerFamily(
            gauge("endpoints", "Slots of all frontends, each with an endpoint", by_family)
        )
        self._elements = PerFamily(gauge("elements", "Elements in the kernel's table", by_family))
        self._conflicts = gauge("frontend_conflicts", "Frontends that another Service has got")
        self._transaction_s = Histogram(
            "nfproxy_transaction_duration_seconds",
            "Seconds from the first look at a change to its being in force",
            buckets=_TRANSACTION_S,
            registry=registry,
        )
        self._operations = Histogram(
            "nfproxy_transaction_operations",
            "Element changes of a transaction",
            buckets=_OPERATIONS,
            registry=registry,
        )
        self._chains_made = counter("chains_made_total", "Chains made for shapes not met before")
        self._resyncs = counter(
            "resyncs_total", "Readings of the kernel's tables as a whole, by reason", ("reason",)
        )
        self._foreign = counter("foreign_changes_total", "Changes to our tables by somebody else")
        self._problems = gauge(
            "object_problems", "What is wrong with objects at present, by their kind", ("kind",)
        )
        self._problem_kinds: set[str] = set()
        self._undecodable = counter(
            "undecodable_objects_total", "Versions of objects that cannot be used", ("kind",)
        )
        self._lists = counter("lists_total", "Complete lists from the API server", ("resource",))
        self._listed = gauge("listed_objects", "Objects in the latest list", ("resource",))
        self._watches_ended = counter(
            "watches_ended_total", "Watches that ended, by reason", ("resource", "reason")
        )
        self._api_servers = gauge(
            "api_server_in_use", "1 for the API server that is asked, 0 for those before", ("host",)
        )
        self._api_server = ""
        self._node_ports = PerFamily(
            gauge(
                "node_port_addresses",
                "Local addresses that accept node ports; -1 where all of them do",
                by_family,
            )
        )
        self._conntrack_queue = gauge(
            "conntrack_queue", "Removals of stale conntrack entries that are waiting"
        )
        self._listeners = gauge(
            "health_check_listeners", "Sockets that listen on Services' health check node ports"
        )
        self._listen_failures = counter(
            "health_check_listen_failures_total",
            "Times a Service's health check node port could not be listened on",
        )

    # --- the kernel ------------------------------------------------------------------------

    def transaction(self, seconds: float, operations: int) -> None:
        """Changes are in force."""
        self._transaction_s.observe(seconds)
        self._operations.observe(operations)

    def chains_made(self, count: int) -> None:
        """So many chains were made."""
        self._chains_made.inc(count)

    def resynced(self, reason: ResyncReason) -> None:
        """The kernel's tables were read as a whole."""
        self._resyncs.labels(reason).inc()

    def foreign_change(self) -> None:
        """Somebody else changed our tables."""
        self._foreign.inc()

    def table_size(self, family: Family, *, frontends: int, endpoints: int, elements: int) -> None:
        """A family's table holds so much."""
        self._frontends[family].set(frontends)
        self._endpoints[family].set(endpoints)
        self._elements[family].set(elements)

    def services(self, count: int) -> None:
        """So many Services are proxied."""
        self._services.set(count)

    def conflicts(self, count: int) -> None:
        """So many frontends were asked for in vain."""
        self._conflicts.set(count)

    # --- objects ---------------------------------------------------------------------------

    def object_problems(self, counts: Mapping[str, int]) -> None:
        """So much is wrong with objects, by kind; kinds left out have no problem."""
        # What is not wrong any more goes to 0 rather than away: alerts resolve sooner.
        for kind in self._problem_kinds - counts.keys():
            self._problems.labels(kind).set(0)
        for kind, count in counts.items():
            self._problems.labels(kind).set(count)
        self._problem_kinds |= counts.keys()

    def undecodable(
        self,
        kind: Any,  # a nfproxy.kube Kind; metrics stand beside kube and do not know it
        name: ObjectName | None,
        problems: tuple[Problem, ...],
    ) -> None:
        """A version of an object cannot be used."""
        self._undecodable.labels(kind.word).inc()

    def listed(self, resource: str, objects: int, seconds: float) -> None:
        """A complete list has arrived."""
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
        """So many local addresses accept node ports; None: all."""
        self._node_ports[family].set(-1 if count is None else count)

    def conntrack_queue(self, count: int) -> None:
        """So many removals of conntrack entries are waiting."""
        self._conntrack_queue.set(count)

    def health_check_listeners(self, count: int) -> None:
        """So many sockets listen on Services' health check node ports."""
        self._listeners.set(count)

    def health_check_listen_failed(self) -> None:
        """A Service's health check node port could not be listened on."""
        self._listen_failures.inc()
