"""
kube-proxy's own metrics, as of Kubernetes 1.36 in nftables mode.

Names, types, labels and buckets are a contract with dashboards and alerts. So is that a series with
labels appears when it is first used. All have the stability ALPHA there, which the help says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry

from nfproxy.metrics.prometheus import IP_FAMILY, Maker
from nfproxy.model.addresses import Family

#: Seconds of a sync, 1 ms to 16 s: component-base's exponential buckets.
_SYNC_S = tuple(0.001 * 2**k for k in range(15))

#: Seconds from a change in the cluster to its rules on this node: 80 buckets, to five minutes.
_PROGRAMMING_S = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))


class KubeProxyMetrics:
    """
    Syncs, changes, answers of health pages, and conntrack clean-up. Any thread may call.

    A Service event counts once for each of `families`: kube-proxy runs one proxy per family.
    """

    def __init__(self, registry: CollectorRegistry, families: Sequence[Family]) -> None:
        """Register the metrics; those without labels are 0 from now on."""
        make = Maker(registry, "kubeproxy_", "ALPHA")
        self._service_weight = len(families)
        self._sync_s = make.histograms(
            "sync_proxy_rules_duration_seconds",
            "Seconds a sync took, failed syncs included",
            _SYNC_S,
        )
        self._full_s = make.histograms(
            "sync_full_proxy_rules_duration_seconds", "Seconds a sync of all Services took", _SYNC_S
        )
        self._partial_s = make.histograms(
            "sync_partial_proxy_rules_duration_seconds",
            "Seconds a sync of changed Services took",
            _SYNC_S,
        )
        self._queued = make.gauges(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "Unix time of the last request for a sync",
        )
        self._synced = make.gauges(
            "sync_proxy_rules_last_timestamp_seconds", "Unix time of the last sync that succeeded"
        )
        self._endpoints_pending = make.gauge(
            "sync_proxy_rules_endpoint_changes_pending",
            "EndpointSlice changes that wait for a sync",
        )
        self._endpoint_changes = make.counter(
            "sync_proxy_rules_endpoint_changes_total", "EndpointSlice changes received"
        )
        self._services_pending = make.gauge(
            "sync_proxy_rules_service_changes_pending", "Service changes that wait for a sync"
        )
        self._service_changes = make.counter(
            "sync_proxy_rules_service_changes_total",
            "Service changes received, counted once per IP family",
        )
        self._programming_s = make.histograms(
            "network_programming_duration_seconds",
            "Seconds from a change of endpoints in the cluster to the rules for it on this node",
            _PROGRAMMING_S,
        )
        self._no_local = make.gauge(  # a gauge in spite of its name
            "sync_proxy_rules_no_local_endpoints_total",
            "Service ports with a Local traffic policy that have endpoints, but none on this node",
            ("traffic_policy", IP_FAMILY),
        )
        self._failures = make.counters(
            "sync_proxy_rules_nftables_sync_failures_total", "Syncs that failed"
        )
        self._cleanup_failures = make.counters(
            "sync_proxy_rules_nftables_cleanup_failures_total",
            "Failed attempts to remove unused chains",
        )
        self._healthz = make.counter("proxy_healthz_total", "Responses of /healthz", ("code",))
        self._livez = make.counter("proxy_livez_total", "Responses of /livez", ("code",))
        self._conntrack_s = make.histograms(
            "conntrack_reconciler_sync_duration_seconds",
            "Seconds a clean-up of stale conntrack entries took",
            _SYNC_S,
        )
        self._conntrack_deleted = make.counters(
            "conntrack_reconciler_deleted_entries_total", "Stale conntrack entries removed"
        )

    # --- changes ---------------------------------------------------------------------------

    def service_events(self, number: int) -> None:
        """Services were added, changed or deleted, or were in a list."""
        self._service_changes.inc(number * self._service_weight)

    def slice_events(self, number: int, changed: int) -> None:
        """The same for EndpointSlices; `changed` differ in what nfproxy reads."""
        self._endpoint_changes.inc(number)
        self._endpoints_pending.inc(changed)

    def changes_pending(self, services: int) -> None:
        """This number of Services has changed since the last sync."""
        self._services_pending.set(services)

    # --- syncs -----------------------------------------------------------------------------

    def sync_requested(self, family: Family, unix_s: float) -> None:
        """A sync is needed; also when the daemon starts."""
        self._queued[family].set(unix_s)

    def sync_started(self, left: int = 0) -> None:
        """A sync includes all changes received so far, but those of `left` Services."""
        self._endpoints_pending.set(0)
        self._services_pending.set(left)

    def sync_finished(
        self,
        family: Family,
        seconds: float,
        full: bool,
        unix_s: float,
        triggers: Iterable[float] = (),
    ) -> None:
        """
        A sync succeeded at `unix_s` and took `seconds`.

        `triggers` has the Unix time at which the control plane began each change of endpoints. If
        its clock is ahead of this node's, the difference is negative, and is observed as it is.
        """
        self._sync_took(family, seconds, full)
        self._synced[family].set(unix_s)
        for trigger in triggers:
            self._programming_s[family].observe(unix_s - trigger)

    def sync_failed(self, family: Family, seconds: float, full: bool) -> None:
        """A sync failed after `seconds`."""
        self._sync_took(family, seconds, full)
        self._failures[family].inc()

    def cleanup_failed(self, family: Family) -> None:
        """Unused chains could not be removed."""
        self._cleanup_failures[family].inc()

    def _sync_took(self, family: Family, seconds: float, full: bool) -> None:
        self._sync_s[family].observe(seconds)
        (self._full_s if full else self._partial_s)[family].observe(seconds)

    def no_local_endpoints(self, family: Family, internal: int, external: int) -> None:
        """These service ports drop traffic: their policy is Local, and no endpoint is here."""
        self._no_local.labels("internal", family.label).set(internal)
        self._no_local.labels("external", family.label).set(external)

    # --- the rest --------------------------------------------------------------------------

    def healthz_answered(self, code: int) -> None:
        """``/healthz`` on the health port answered."""
        self._healthz.labels(code).inc()

    def livez_answered(self, code: int) -> None:
        """``/livez`` answered."""
        self._livez.labels(code).inc()

    def conntrack_cleaned(self, family: Family, seconds: float, deleted: int) -> None:
        """Conntrack entries were listed and `deleted` of them removed, in `seconds`."""
        self._conntrack_s[family].observe(seconds)
        self._conntrack_deleted[family].inc(deleted)
