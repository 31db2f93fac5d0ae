"""All metrics of nfproxy, and the tables of deploy/docs/monitoring.md made from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from nfproxy.kube.identity import Kind
from nfproxy.metrics import Metrics
from nfproxy.metrics.component import FEATURES
from nfproxy.metrics.kernelcounts import AffinityUse
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import REFUSED_COUNTERS
from nfproxy.reconcile.syncreport import ResyncReason

_SERVER = "192.0.2.10:6443"
_STABILITIES = ("[ALPHA] ", "[BETA] ", "[STABLE] ")


class Described(NamedTuple):
    """A metric: its type, its labels in a fixed order, and its help without a stability."""

    type: str
    labels: tuple[str, ...]
    help: str


def described(exposition: str) -> dict[str, Described]:
    """Return the metrics of a page that have series, by name."""
    found = {}
    for family in text_string_to_metric_families(exposition):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        text = family.documentation
        for stability in _STABILITIES:
            text = text.removeprefix(stability)
        found[name] = Described(family.type, tuple(sorted(labels)), text.removesuffix("."))
    return found


def series_names(metrics: Mapping[str, Described]) -> Iterator[str]:
    """Return the names that queries may use: histograms have three each."""
    for name, metric in metrics.items():
        if metric.type == "histogram":
            yield from (f"{name}_bucket", f"{name}_count", f"{name}_sum")
        else:
            yield name


def all_metrics() -> Metrics:
    """Return metrics with everything reported once, so that each has a series."""
    rejected = [(family, protocol, 1) for family in FAMILIES for protocol in Protocol]
    uses = dict.fromkeys(FAMILIES, AffinityUse(1, 0.1, 1))
    refused = {family: dict.fromkeys(REFUSED_COUNTERS, 1) for family in FAMILIES}
    metrics = Metrics(FAMILIES, "v0.0.0", FEATURES, lambda: rejected, lambda: uses, lambda: refused)
    metrics.localhost_listeners(dict.fromkeys(FAMILIES, 1))
    for family in FAMILIES:
        _program(metrics, family)
    for reason in ResyncReason:
        metrics.resynced(reason)
    metrics.healthz_answered(200)
    metrics.livez_answered(200)
    metrics.waited("GET", _SERVER, 0.1)
    metrics.request("GET", _SERVER, "200", 0.1, 0)
    metrics.received("GET", _SERVER, 1000)
    metrics.retried("GET", _SERVER, "429")
    metrics.api_server(_SERVER)
    metrics.listed("services", 1, 0.1)
    metrics.watch_ended("services", "closed")
    metrics.undecodable(Kind.SERVICE, None, ())
    metrics.object_problems({"Service": 1})
    metrics.parts_refused(1)
    metrics.service_ports({"works": 1})
    metrics.foreign_change("nft")
    metrics.read_repair_pending(lambda: 0.0)
    metrics.healthcheck_passed("ping", "healthz")
    return metrics


def _program(metrics: Metrics, family: Family) -> None:
    metrics.sync_requested(family, 1.0)
    metrics.sync_finished(family, 0.01, True, 100.0, [99.0])
    metrics.sync_finished(family, 0.01, False, 100.0)
    metrics.sync_failed(family, 0.01, False)
    metrics.cleanup_failed(family)
    metrics.no_local_endpoints(family, 1, 2)
    metrics.conntrack_cleaned(family, 0.01, 3)
    metrics.in_step(family, True)
    metrics.table_size(family, frontends=1, endpoints=1, elements=1)
    metrics.node_port_addresses(family, 1)
    metrics.node_ports_unreachable(family, False)
    metrics.localhost_listen_failed(family)


def table(metrics: Mapping[str, Described], *prefixes: str) -> str:
    """Return a Markdown table of the metrics with a prefix, sorted by name."""
    rows = (_row(name, metrics[name]) for name in sorted(metrics) if name.startswith(prefixes))
    return "\n".join(("| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows))


def _row(name: str, metric: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{name}` | {metric.type} | {labels} | {metric.help} |"


def fill(page: str, tables: Iterable[tuple[str, str]]) -> str:
    """
    Return a page with its tables replaced, by name.

    A table is between ``<!-- begin NAME -->`` and ``<!-- end -->``.
    """
    for name, text in tables:
        head, begin, rest = page.partition(f"<!-- begin {name} -->\n")
        assert begin, f"there is no place for {name}"
        page = f"{head}{begin}\n{text}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return page
