"""
The metrics of ``/metrics/slis``: how the checks behind ``/healthz`` of the metrics port fared.

Source: KEP-3466 (Kubernetes component health SLIs). Both metrics are stable there.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily

from nfproxy.metrics.component import process_start_s
from nfproxy.metrics.text import expose


class SLIMetrics:
    """Results of health checks; `reset` forgets them."""

    def __init__(self) -> None:
        """Start without any result."""
        self._registry = CollectorRegistry()
        self._latest = Gauge(
            "kubernetes_healthcheck",
            "[STABLE] The latest result of a health check: 1 for a success",
            ("name", "type"),
            registry=self._registry,
        )
        self._results = Counter(
            "kubernetes_healthchecks_total",
            "[STABLE] Results of health checks",
            ("name", "type", "status"),
            registry=self._registry,
        )
        self._registry.register(_StartTime())

    def healthcheck_passed(self, name: str, page: str) -> None:
        """A check was made for a page, ``healthz``, and passed."""
        self._latest.labels(name, page).set(1)
        self._results.labels(name, page, "success").inc()

    def reset_slis(self) -> None:
        """Forget all results."""
        self._latest.clear()
        self._results.clear()

    def sli_text(self) -> bytes:
        """Return the results in Prometheus' text format."""
        return expose(self._registry)


class _StartTime:
    """The one process metric that stands here, too."""

    def collect(self) -> list[GaugeMetricFamily]:
        return [
            GaugeMetricFamily(
                "process_start_time_seconds",
                "[ALPHA] Start time of the process since unix epoch in seconds.",
                value=process_start_s(),
            )
        ]
