"""
Series by IP family, and the bucket sets that several histograms share.
"""

from __future__ import annotations

from typing import TypeVar, cast

from prometheus_client import Counter, Gauge, Histogram

from nfproxy.model.addresses import Family

M = TypeVar("M", bound=Counter | Gauge | Histogram)

#: The label that tells families apart; its values are ``IPv4`` and ``IPv6``.
IP_FAMILY = "ip_family"

#: Seconds a sync may take, 1 ms to 16 s: component-base's exponential buckets.
SYNC_S = tuple(0.001 * 2**k for k in range(15))


class PerFamily(dict[Family, M]):
    """
    The series of a metric whose only label is the family, each made when first used.

    Looking a series up by its label values takes longer than changing it.
    """

    def __init__(self, metric: M) -> None:
        """Start without any series."""
        super().__init__()
        self._metric = metric

    def __missing__(self, family: Family) -> M:
        """Make the family's series appear."""
        series = self[family] = cast(M, self._metric.labels(family.label))
        return series
