"""
Prometheus' text format 0.0.4, as client_golang writes it.

prometheus_client's own writer spells numbers as Python does (``le="1.0"``), so that a dashboard
that adds up the buckets of nfproxy's and of kube-proxy's nodes would take them for others than
``le="1"``; and it adds a ``_created`` series to each counter and histogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from prometheus_client import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def expose(registry: Collector) -> bytes:
    """Return all metrics of a registry, sorted by name."""
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
    """Return a number as Go's shortest form: ``1``, ``0.25``, ``1.6777216e+07``, ``+Inf``."""
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
