"""
What prometheus_client lacks: series by IP family, and the text format as client_golang writes it.

prometheus_client spells numbers as Python does (``le="1.0"``). A dashboard that adds up nodes with
nfproxy and nodes with kube-proxy would then not add up equal buckets (``le="1"``). It also adds a
``_created`` series to each counter and histogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TypeVar, cast

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

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


def expose(registry: Collector) -> bytes:
    """Return all metrics of a registry in the text format, sorted by name."""
    metrics = sorted(registry.collect(), key=lambda metric: metric.name)
    return "".join(line for metric in metrics for line in _lines(metric)).encode()


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
