"""
Metrics that every Kubernetes component has: build, feature gates, API requests, health checks.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily

from nfproxy.metrics.prometheus import Maker, expose

_REQUEST_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
_SIZE_BYTES = (64, 256, 512, 1024, *(4096 * 4**k for k in range(7)))

#: The gates whose features are always on, each with its stage in Kubernetes 1.36.
FEATURES: Mapping[str, tuple[str, bool]] = {
    "ComponentFlagz": ("BETA", True),
    "ComponentStatusz": ("BETA", True),
}

_VERSION = re.compile(r"v?(\d+)\.(\d+)", re.ASCII)
_BUILD_LABELS = (
    *("major", "minor", "git_version", "git_commit", "git_tree_state", "build_date"),
    *("go_version", "compiler", "platform"),
)


def runtime_version() -> str:
    """Return ``python3.11.2``; other components have the version of Go in its place."""
    return f"python{platform.python_version()}"


class ComponentMetrics:
    """
    The build, the feature gates, and requests to the API server (client-go's ``rest_client_*``).

    `verb` is the HTTP method, `host` the API server's ``host:port``.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        version: str,
        features: Mapping[str, tuple[str, bool]],
    ) -> None:
        """
        Register the metrics.

        `features` holds, by name, a gate's stage (``ALPHA``, ``BETA``, ``DEPRECATED``, or ""
        for GA) and whether it is on.
        """
        ProcessCollector(registry=registry)
        alpha = Maker(registry, "", "ALPHA")
        alpha.gauge(
            "kubernetes_build_info",
            "Always 1; the labels have the version and what it was built from",
            _BUILD_LABELS,
        ).labels(*_build(version)).set(1)
        gates = Maker(registry, "", "BETA").gauge(
            "kubernetes_feature_enabled",
            "1 if the feature gate is on, 0 if it is off",
            ("name", "stage"),
        )
        for name, (stage, on) in features.items():
            gates.labels(name, stage).set(on)
        make = Maker(registry, "rest_client_", "ALPHA")
        by_request = ("verb", "host")
        self._requests = make.counter(
            "requests_total",
            "Requests to the API server, by status code",
            ("code", "method", "host"),
        )
        self._request_s = make.histogram(
            "request_duration_seconds",
            "Seconds until the head of the response arrived",
            _REQUEST_S,
            by_request,
        )
        self._waited_s = make.histogram(
            "rate_limiter_duration_seconds",
            "Seconds a request waited for the client's rate limit",
            _REQUEST_S,
            by_request,
        )
        self._sent_bytes = make.histogram(
            "request_size_bytes", "Size of request bodies", _SIZE_BYTES, by_request
        )
        self._got_bytes = make.histogram(
            "response_size_bytes", "Size of response bodies", _SIZE_BYTES, by_request
        )
        self._retries = make.counter(
            "request_retries_total",
            "Requests that were retried, by the status code of the first response",
            ("code", *by_request),
        )

    def waited(self, verb: str, host: str, seconds: float) -> None:
        """A request waited this long for the rate limit (qps and burst)."""
        self._waited_s.labels(verb, host).observe(seconds)

    def request(self, verb: str, host: str, code: str, seconds: float, sent_bytes: int) -> None:
        """A request took `seconds`; `code` is ``<error>`` where no response came."""
        self._requests.labels(code, verb, host).inc()
        self._request_s.labels(verb, host).observe(seconds)
        self._sent_bytes.labels(verb, host).observe(sent_bytes)

    def received(self, verb: str, host: str, size_bytes: int) -> None:
        """The body of a response has been read."""
        self._got_bytes.labels(verb, host).observe(size_bytes)

    def retried(self, verb: str, host: str, code: str) -> None:
        """A request is retried after a response with `code`."""
        self._retries.labels(code, verb, host).inc()


def _build(version: str) -> tuple[str, ...]:
    """Return the values of `_BUILD_LABELS`, "" for what a Python package does not have."""
    match = _VERSION.match(version)
    major, minor = match.groups() if match else ("", "")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    compiler = platform.python_implementation().lower()
    return major, minor, version, "", "", "", runtime_version(), compiler, f"linux/{machine}"


# --- health checks (KEP-3466) -----------------------------------------------------------------


class SLIMetrics:
    """
    Results of the checks behind the metrics port's ``/healthz``, for its page ``/metrics/slis``.

    Both metrics are stable in Kubernetes.
    """

    def __init__(self) -> None:
        """Start without any result."""
        self._registry = CollectorRegistry()
        make = Maker(self._registry, "kubernetes_", "STABLE")
        self._latest = make.gauge(
            "healthcheck",
            "1 if the latest result of the health check was a success",
            ("name", "type"),
        )
        self._results = make.counter(
            "healthchecks_total", "Results of health checks", ("name", "type", "status")
        )
        self._registry.register(_StartTime())

    def healthcheck_passed(self, name: str, page: str) -> None:
        """A check for a page (``healthz``) passed."""
        self._latest.labels(name, page).set(1)
        self._results.labels(name, page, "success").inc()

    def reset_slis(self) -> None:
        """Forget all results."""
        self._latest.clear()
        self._results.clear()

    def sli_text(self) -> bytes:
        """Return the results in Prometheus' text format."""
        return expose(self._registry.collect())


class _StartTime:
    """The only process metric that is on this page, too."""

    def collect(self) -> list[GaugeMetricFamily]:
        return [
            GaugeMetricFamily(
                "process_start_time_seconds",
                "[ALPHA] Start time of the process since unix epoch in seconds.",
                value=metric.samples[0].value,
            )
            for metric in ProcessCollector(registry=None).collect()
            if metric.name == "process_start_time_seconds"
        ]
