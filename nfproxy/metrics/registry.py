"""All metrics of a process, in one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter

from nfproxy.metrics.component import FEATURES, ComponentMetrics, SLIMetrics
from nfproxy.metrics.kernelcounts import (
    AffinityMetrics,
    ReadAffinityUse,
    ReadRefused,
    RefusedMetrics,
)
from nfproxy.metrics.kubeproxy import KubeProxyMetrics
from nfproxy.metrics.localhost import LocalhostMetrics, ReadRejected
from nfproxy.metrics.own import OwnMetrics
from nfproxy.metrics.prometheus import expose
from nfproxy.model.addresses import Family

_STABILITIES = ("ALPHA", "BETA", "STABLE")


class Metrics(
    KubeProxyMetrics,
    LocalhostMetrics,
    ComponentMetrics,
    OwnMetrics,
    AffinityMetrics,
    RefusedMetrics,
    SLIMetrics,
):
    """Counts what happens, for the metrics port. Any thread may call."""

    def __init__(
        self,
        families: Sequence[Family],
        version: str,
        features: Mapping[str, tuple[str, bool]] = FEATURES,
        read_rejected: ReadRejected | None = None,
        read_affinity: ReadAffinityUse | None = None,
        read_refused: ReadRefused | None = None,
    ) -> None:
        """
        Start with everything at 0.

        `families` are those that are proxied; `features` as in ComponentMetrics, `read_rejected`
        as in LocalhostMetrics, `read_affinity` as in AffinityMetrics, `read_refused` as in
        RefusedMetrics.
        """
        registry = CollectorRegistry()
        KubeProxyMetrics.__init__(self, registry, families)
        LocalhostMetrics.__init__(self, registry, read_rejected)
        ComponentMetrics.__init__(self, registry, version, features)
        OwnMetrics.__init__(self, registry)
        AffinityMetrics.__init__(self, registry, read_affinity)
        RefusedMetrics.__init__(self, registry, read_refused)
        SLIMetrics.__init__(self)
        _count_registered(registry)
        self._everything = registry

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format; takes some milliseconds."""
        return expose(self._everything.collect())


def _count_registered(registry: CollectorRegistry) -> None:
    """Count the metrics by the stability that their help names, as component-base does."""
    counter = Counter(
        "registered_metrics_total",
        "[BETA] Metrics of this process, by stability and deprecation",
        ("stability_level", "deprecated_version"),
        registry=registry,
    )
    helps = [metric.documentation for metric in registry.collect()]
    for stability in _STABILITIES:
        count = sum(text.startswith(f"[{stability}]") for text in helps)
        if count:
            counter.labels(stability, "").inc(count)
