"""
Metrics that every Kubernetes component has: its build, its feature gates, its API requests.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_REQUEST_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
_SIZE_BYTES = (64, 256, 512, 1024, *(4096 * 4**k for k in range(7)))

#: The gates whose features every nfproxy has, each with its stage in Kubernetes 1.36.
FEATURES: Mapping[str, tuple[str, bool]] = {
    "ComponentFlagz": ("BETA", True),
    "ComponentStatusz": ("BETA", True),
}

_VERSION = re.compile(r"v?(\d+)\.(\d+)", re.ASCII)
_BUILD_LABELS = (
    "major",
    "minor",
    "git_version",
    "git_commit",
    "git_tree_state",
    "build_date",
    "go_version",
    "compiler",
    "platform",
)


def runtime_version() -> str:
    """Return what stands where other components name the version of Go: ``python3.11.2``."""
    return f"python{platform.python_version()}"


def process_start_s() -> float:
    """Return when this process was started, in Unix seconds; NaN where the kernel hides it."""
    for metric in ProcessCollector(registry=None).collect():
        if metric.name == "process_start_time_seconds":
            return float(metric.samples[0].value)
    return math.nan


class ComponentMetrics:
    """
    Facts about the build, and requests to the API server (client-go's ``rest_client_*``).

    `verb` is the HTTP method, `host` the server's ``host:port``.
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
        Gauge(
            "kubernetes_build_info",
            "[ALPHA] Constantly 1; the labels tell what was built, of which version, from what",
            _BUILD_LABELS,
            registry=registry,
        ).labels(*_build(version)).set(1)
        gates = Gauge(
            "kubernetes_feature_enabled",
            "[BETA] Whether a feature gate is on",
            ("name", "stage"),
            registry=registry,
        )
        for name, (stage, on) in features.items():
            gates.labels(name, stage).set(on)

        def histogram(name: str, text: str, buckets: Iterable[float]) -> Histogram:
            return Histogram(
                f"rest_client_{name}",
                f"[ALPHA] {text}",
                ("verb", "host"),
                buckets=tuple(buckets),
                registry=registry,
            )

        self._requests = Counter(
            "rest_client_requests_total",
            "[ALPHA] Requests to the API server, by the code of the answer",
            ("code", "method", "host"),
            registry=registry,
        )
        self._request_s = histogram(
            "request_duration_seconds", "Seconds until the head of an answer arrived", _REQUEST_S
        )
        self._waited_s = histogram(
            "rate_limiter_duration_seconds", "Seconds a request waited for its turn", _REQUEST_S
        )
        self._sent_bytes = histogram("request_size_bytes", "Size of requests' bodies", _SIZE_BYTES)
        self._got_bytes = histogram("response_size_bytes", "Size of answers' bodies", _SIZE_BYTES)
        self._retries = Counter(
            "rest_client_request_retries_total",
            "[ALPHA] Requests made again, by the code of the answer before",
            ("code", "verb", "host"),
            registry=registry,
        )

    def waited(self, verb: str, host: str, seconds: float) -> None:
        """A request waited this long for its turn (qps and burst)."""
        self._waited_s.labels(verb, host).observe(seconds)

    def request(self, verb: str, host: str, code: str, seconds: float, sent_bytes: int) -> None:
        """A request was answered after `seconds`; `code` is ``<error>`` where it was not."""
        self._requests.labels(code, verb, host).inc()
        self._request_s.labels(verb, host).observe(seconds)
        self._sent_bytes.labels(verb, host).observe(sent_bytes)

    def received(self, verb: str, host: str, size_bytes: int) -> None:
        """The body of an answer has been read."""
        self._got_bytes.labels(verb, host).observe(size_bytes)

    def retried(self, verb: str, host: str, code: str) -> None:
        """A request is made again after an answer of `code`."""
        self._retries.labels(code, verb, host).inc()


def _build(version: str) -> tuple[str, ...]:
    """Return the values of `_BUILD_LABELS`; what a Python package does not have is empty."""
    match = _VERSION.match(version)
    major, minor = match.groups() if match else ("", "")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    compiler = platform.python_implementation().lower()
    return major, minor, version, "", "", "", runtime_version(), compiler, f"linux/{machine}"
