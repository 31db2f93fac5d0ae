"""What named counters and maps of the kernel count: clients remembered, connections refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from nfproxy.metrics.prometheus import IP_FAMILY
from nfproxy.model.addresses import Family


class AffinityUse(NamedTuple):
    """
    The maps of clients in one family's table.

    `clients` is their sum, and `fullest` how full the fullest map is, from 0 to 1; both are None
    where the kernel does not count them. `refused` counts connections of clients for which a map
    had no place, since the tables were made.
    """

    clients: int | None
    fullest: float | None
    refused: int


#: Reads the maps of each family; nothing while they cannot be read.
ReadAffinityUse = Callable[[], Mapping[Family, AffinityUse]]


class AffinityMetrics:
    """Reads the kernel whenever the metrics are read."""

    def __init__(self, registry: CollectorRegistry, read: ReadAffinityUse | None) -> None:
        """Register the metrics; without `read` there are none."""
        if read is not None:
            registry.register(_Uses(read))


class _Uses:
    def __init__(self, read: ReadAffinityUse) -> None:
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        clients = GaugeMetricFamily(
            "nfproxy_affinity_clients",
            "Clients that session affinity remembers",
            labels=(IP_FAMILY,),
        )
        fullest = GaugeMetricFamily(
            "nfproxy_affinity_fullest_ratio",
            "How full the fullest map of remembered clients is, from 0 to 1",
            labels=(IP_FAMILY,),
        )
        refused = CounterMetricFamily(
            "nfproxy_affinity_refused",
            "Connections whose clients are not remembered, as the map is full",
            labels=(IP_FAMILY,),
        )
        for family, use in self._read().items():
            if use.clients is not None and use.fullest is not None:
                clients.add_metric((family.label,), use.clients)
                fullest.add_metric((family.label,), use.fullest)
            refused.add_metric((family.label,), use.refused)
        yield clients
        yield fullest
        yield refused


#: Reads how many there were since the tables were made, by family and reason.
ReadRefused = Callable[[], Mapping[Family, Mapping[str, int]]]


class RefusedMetrics:
    """Reads the kernel whenever the metrics are read."""

    def __init__(self, registry: CollectorRegistry, read: ReadRefused | None) -> None:
        """Register the metric; without `read` there is none."""
        if read is not None:
            registry.register(_Refused(read))


class _Refused:
    def __init__(self, read: ReadRefused) -> None:
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily]:
        found = CounterMetricFamily(
            "nfproxy_refused_connections",
            "Connections that got no endpoint, by reason: no_endpoints and unknown_port are "
            "refused, no_local (policy Local), source_range, unallocated (an address of no "
            "Service) and empty_slot (an endpoint that just left) dropped; each repeated SYN "
            "counts",
            labels=(IP_FAMILY, "reason"),
        )
        for family, counts in self._read().items():
            for reason, count in counts.items():
                found.add_metric((family.label, reason), count)
        yield found
