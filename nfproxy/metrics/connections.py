"""
The metrics of ``/metrics/services``: a series for each service port that is in use.

On a page of its own, since there may be thousands: who wants them asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily

from nfproxy.metrics.text import expose
from nfproxy.model.service import ObjectName, Protocol


def connections_text(totals: Iterable[tuple[ObjectName, str, Protocol, int]]) -> bytes:
    """
    Return connections by service port in Prometheus' text format, in a fixed order.

    Each is a Service, a port's name, its protocol, and a number of connections.
    """
    family = CounterMetricFamily(
        "nfproxy_service_connections",
        "Connections that a Service port was asked for on this node, refused ones included",
        labels=("service_namespace", "service_name", "port_name", "protocol"),
    )
    for (namespace, name), port_name, protocol, count in sorted(totals):
        family.add_metric((namespace, name, port_name, protocol.name), count)
    return expose(_Only(family))


class _Only:
    """A registry of one metric."""

    def __init__(self, family: CounterMetricFamily) -> None:
        self._family = family

    def collect(self) -> Iterable[CounterMetricFamily]:
        return (self._family,)
