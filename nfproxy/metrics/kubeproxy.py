"""
kube-proxy's own metrics, as of Kubernetes 1.36 in nftables mode.

Names, types, labels and buckets are a contract with dashboards and alerts; so is "a series with
labels appears when it is first used". All are of stability ALPHA there, which the help says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nfproxy.metrics.families import IP_FAMILY, SYNC_S, PerFamily
from nfproxy.model.addresses import Family

#: Seconds from a change in the cluster to its being in force: 80 buckets, to five minutes.
PROGRAMMING_S = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))


class KubeProxyMetrics:
    """
    Syncs, changes, health answers and conntrack clean-up.

    A Service event counts once in each of `families`, as it does in kube-proxy, which keeps one
    tracker per family.
    """

    def __init__(self, registry: CollectorRegistry, families: Sequence[Family]) -> None:
        """Register the metrics; those without labels read 0 from now on."""

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"kubeproxy_{name}", f"[ALPHA] {text}", labels, registry=registry)

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(f"kubeproxy_{name}", f"[ALPHA] {text}", labels, registry=registry)

        def durations(
            name: str, text: str, buckets: Sequence[float] = SYNC_S
        ) -> PerFamily[Histogram]:
            return PerFamily(
                Histogram(
                    f"kubeproxy_{name}_duration_seconds",
                    f"[ALPHA] {text}",
                    (IP_FAMILY,),
                    buckets=buckets,
                    registry=registry,
                )
            )

        by_family = (IP_FAMILY,)
        self._service_weight = len(families)
        self._sync_s = durations("sync_proxy_rules", "Seconds a sync took, failed ones included")
        self._full_s = durations("sync_full_proxy_rules", "Seconds a sync of everything took")
        self._partial_s = durations("sync_partial_proxy_rules", "Seconds a sync of changes took")
        self._queued = PerFamily(
            gauge(
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "When a sync was last asked for",
                by_family,
            )
        )
        self._synced = PerFamily(
            gauge(
                "sync_proxy_rules_last_timestamp_seconds", "When a sync last succeeded", by_family
            )
        )
        self._endpoints_pending = gauge(
            "sync_proxy_rules_endpoint_changes_pending", "Endpoint changes not yet in force"
        )
        self._endpoint_changes = counter(
            "sync_proxy_rules_endpoint_changes_total", "Endpoint changes seen"
        )
        self._services_pending = gauge(
            "sync_proxy_rules_service_changes_pending", "Service changes not yet in force"
        )
        self._service_changes = counter(
            "sync_proxy_rules_service_changes_total", "Service changes seen, in each IP family"
        )
        self._programming_s = durations(
            "network_programming",
            "Seconds from a change of endpoints in the cluster to its being in force here",
            PROGRAMMING_S,
        )
        self._no_local = gauge(  # a gauge, whatever its name says
            "sync_proxy_rules_no_local_endpoints_total",
            "Service ports with a Local traffic policy and without endpoints on this node",
            ("traffic_policy", IP_FAMILY),
        )
        self._failures = PerFamily(
            counter(
                "sync_proxy_rules_nftables_sync_failures_total",
                "Syncs that nftables refused",
                by_family,
            )
        )
        self._cleanup_failures = PerFamily(
            counter(
                "sync_proxy_rules_nftables_cleanup_failures_total",
                "Removals of unused chains that nftables refused",
                by_family,
            )
        )
        self._healthz = counter("proxy_healthz_total", "Answers of /healthz", ("code",))
        self._livez = counter("proxy_livez_total", "Answers of /livez", ("code",))
        self._conntrack_s = durations(
            "conntrack_reconciler_sync", "Seconds a removal of stale conntrack entries took"
        )
        self._conntrack_deleted = PerFamily(
            counter(
                "conntrack_reconciler_deleted_entries_total",
                "Stale conntrack entries removed",
                by_family,
            )
        )

    # --- changes ---------------------------------------------------------------------------

    def service_event(self) -> None:
        """A Service was added, changed or deleted, or told again."""
        self._service_changes.inc(self._service_weight)

    def slice_event(self, changed: bool) -> None:
        """The same of an EndpointSlice; `changed` tells whether anything that counts did."""
        self._endpoint_changes.inc()
        if changed:
            self._endpoints_pending.inc()

    def changes_pending(self, services: int) -> None:
        """So many Services have changed since the last sync began."""
        self._services_pending.set(services)

    # --- syncs -----------------------------------------------------------------------------

    def sync_requested(self, family: Family, unix_s: float) -> None:
        """A family's loop has started, or a sync is asked for."""
        self._queued[family].set(unix_s)

    def sync_started(self) -> None:
        """A sync takes all changes so far upon itself."""
        self._endpoints_pending.set(0)
        self._services_pending.set(0)

    def sync_finished(
        self,
        family: Family,
        seconds: float,
        full: bool,
        unix_s: float,
        triggers: Iterable[float] = (),
    ) -> None:
        """
        A sync succeeded at `unix_s`, after `seconds`.

        `triggers` are when the control plane began the changes of endpoints that are now in
        force, in Unix seconds, one for each; where its clock is ahead of ours the difference is
        negative, and counted like that.
        """
        self._sync_took(family, seconds, full)
        self._synced[family].set(unix_s)
        for trigger in triggers:
            self._programming_s[family].observe(unix_s - trigger)

    def sync_failed(self, family: Family, seconds: float, full: bool) -> None:
        """A sync was refused, after `seconds`."""
        self._sync_took(family, seconds, full)
        self._failures[family].inc()

    def cleanup_failed(self, family: Family) -> None:
        """Removing what is not used any more was refused."""
        self._cleanup_failures[family].inc()

    def _sync_took(self, family: Family, seconds: float, full: bool) -> None:
        self._sync_s[family].observe(seconds)
        (self._full_s if full else self._partial_s)[family].observe(seconds)

    def no_local_endpoints(self, family: Family, internal: int, external: int) -> None:
        """So many service ports drop traffic for want of endpoints here, by traffic policy."""
        self._no_local.labels("internal", family.label).set(internal)
        self._no_local.labels("external", family.label).set(external)

    # --- the rest --------------------------------------------------------------------------

    def healthz_answered(self, code: int) -> None:
        """``/healthz`` on the health port gave an answer."""
        self._healthz.labels(code).inc()

    def livez_answered(self, code: int) -> None:
        """``/livez`` gave an answer."""
        self._livez.labels(code).inc()

    def conntrack_cleaned(self, family: Family, seconds: float, deleted: int) -> None:
        """Conntrack entries were listed, and `deleted` of them removed, in `seconds`."""
        self._conntrack_s[family].observe(seconds)
        self._conntrack_deleted[family].inc(deleted)
