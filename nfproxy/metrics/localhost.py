"""
kube-proxy's metrics of node ports on loopback addresses, as of Kubernetes 1.38 (KEP-6032).

They exist only where the gate KubeProxyNFTablesLocalhostNodePorts is on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily

from nfproxy.metrics.prometheus import IP_FAMILY, Maker, PerFamily
from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol

_PREFIX = "kubeproxy_nftables_localhost_nodeport_"

#: Reads how many packets were rejected since the tables were made.
ReadRejected = Callable[[], Iterable[tuple[Family, Protocol, int]]]


class LocalhostMetrics:
    """Listeners on loopback addresses, and what is rejected there. Any thread may call."""

    def __init__(self, registry: CollectorRegistry, read_rejected: ReadRejected | None) -> None:
        """Register the metrics; without `read_rejected` there are none."""
        self._listener_counts: PerFamily[Gauge] | None = None
        self._listener_failures: PerFamily[Counter] | None = None
        if read_rejected is None:
            return
        make = Maker(registry, _PREFIX, "ALPHA")
        self._listener_counts = make.gauges(
            "listeners", "Listening sockets for node ports on loopback addresses"
        )
        self._listener_failures = make.counters(
            "listener_creation_failures_total",
            "Failed attempts to listen on a node port of a loopback address",
        )
        registry.register(_Rejected(read_rejected))

    def localhost_listeners(self, counts: Mapping[Family, int]) -> None:
        """This number of sockets listens on node ports of loopback addresses."""
        if self._listener_counts is not None:
            for family, count in counts.items():
                self._listener_counts[family].set(count)

    def localhost_listen_failed(self, family: Family) -> None:
        """A node port of a loopback address could not be listened on."""
        if self._listener_failures is not None:
            self._listener_failures[family].inc()


class _Rejected:
    """Reads the kernel's counters whenever the metrics are read."""

    def __init__(self, read: ReadRejected) -> None:
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily]:
        found = CounterMetricFamily(
            f"{_PREFIX}rejected_packets",
            "[ALPHA] Packets to node ports that were rejected on loopback addresses",
            labels=(IP_FAMILY, "protocol"),
        )
        for family, protocol, count in self._read():
            found.add_metric((family.label, protocol.word), count)
        yield found
