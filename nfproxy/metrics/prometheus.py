"""
What prometheus_client lacks: series by IP family, and the text format as client_golang writes it.

prometheus_client spells numbers as Python does (``le="1.0"``). A dashboard that adds up nodes with
nfproxy and nodes with kube-proxy would then not add up equal buckets (``le="1"``). It also adds a
``_created`` series to each counter and histogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

from nfproxy.model.addresses import Family

M = TypeVar("M", bound=Counter | Gauge | Histogram)

#: The label of the family, with the values ``IPv4`` and ``IPv6``.
IP_FAMILY = "ip_family"

#: The Content-Type of the text format, version 0.0.4.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class PerFamily(dict[Family, M]):
    """
    The series of a metric whose only label is the family; each appears when it is first used.

    prometheus_client takes longer to find a series by its labels than to change it.
    """

    def __init__(self, metric: M) -> None:
        """Start without any series."""
        super().__init__()
        self._metric = metric

    def __missing__(self, family: Family) -> M:
        """Make the family's series appear."""
        series = self[family] = cast(M, self._metric.labels(family.label))
        return series


class Maker:
    """Makes the metrics of a registry whose names and helps begin alike."""

    def __init__(self, registry: CollectorRegistry, prefix: str, stability: str = "") -> None:
        """Take the beginnings; `stability` as component-base has it, "" for none."""
        self._registry = registry
        self._prefix = prefix
        self._stability = f"[{stability}] " if stability else ""

    def counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        """Return a counter."""
        return Counter(*self._texts(name, text), labels, registry=self._registry)

    def gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        """Return a gauge."""
        return Gauge(*self._texts(name, text), labels, registry=self._registry)

    def histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Iterable[str] = ()
    ) -> Histogram:
        """Return a histogram with the upper bounds `buckets`."""
        texts = self._texts(name, text)
        return Histogram(*texts, labels, buckets=buckets, registry=self._registry)

    def counters(self, name: str, text: str) -> PerFamily[Counter]:
        """Return a counter for each family."""
        return PerFamily(self.counter(name, text, (IP_FAMILY,)))

    def gauges(self, name: str, text: str) -> PerFamily[Gauge]:
        """Return a gauge for each family."""
        return PerFamily(self.gauge(name, text, (IP_FAMILY,)))

    def histograms(self, name: str, text: str, buckets: Sequence[float]) -> PerFamily[Histogram]:
        """Return a histogram for each family."""
        return PerFamily(self.histogram(name, text, buckets, (IP_FAMILY,)))

    def _texts(self, name: str, text: str) -> tuple[str, str]:
        return f"{self._prefix}{name}", f"{self._stability}{text}"


def expose(metrics: Iterable[Metric]) -> bytes:
    """Return metrics in the text format, sorted by name."""
    in_order = sorted(metrics, key=lambda metric: metric.name)
    return "".join(line for metric in in_order for line in _lines(metric)).encode()


def _lines(metric: Metric) -> Iterator[str]:
    if not metric.samples:
        return
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    yield f"# HELP {name} {metric.documentation.translate(_IN_HELP)}\n"
    yield f"# TYPE {name} {metric.type}\n"
    for sample in metric.samples:
        if not sample.name.endswith("_created"):
            yield f"{sample.name}{_labels(sample.labels)} {number(float(sample.value))}\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(_pairs(labels.items())) + "}"


def _pairs(labels: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in labels:
        text = number(float(value)) if name == "le" else value.translate(_IN_LABEL)
        yield f'{name}="{text}"'


def number(value: float) -> str:
    """Return a number in Go's shortest form: ``1``, ``0.25``, ``1.6777216e+07``, ``+Inf``."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    if value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    return _exponential(value) if abs(value) >= 1e6 else repr(value)


def _exponential(value: float) -> str:
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    first, rest = str(digits[0]), "".join(map(str, digits[1:]))
    power = int(exponent) + len(digits) - 1
    return f"{'-' * sign}{first}{'.' * bool(rest)}{rest}e+{power:02d}"
