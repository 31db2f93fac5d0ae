"""Metrics: their names, types, labels and buckets, and what changes them."""

import math
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from nfproxy.kube.identity import Kind
from nfproxy.metrics import Metrics
from nfproxy.metrics.prometheus import expose, number
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.service import Protocol
from nfproxy.reconcile.syncreport import ResyncReason

V4, V6 = FAMILIES
FEATURES = {"ComponentFlagz": ("BETA", True), "AllowServiceExternalIPs": ("DEPRECATED", False)}

S = [0.001 * 2**k for k in range(15)]
N = [0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30)]
REQUEST = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60]
SIZE = [64, 256, 512, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216]

# kube-proxy 1.36 in nftables mode: name, type, labels, buckets
KUBE_PROXY = [
    ("sync_proxy_rules_duration_seconds", "histogram", "ip_family", S),
    ("sync_full_proxy_rules_duration_seconds", "histogram", "ip_family", S),
    ("sync_partial_proxy_rules_duration_seconds", "histogram", "ip_family", S),
    ("sync_proxy_rules_last_queued_timestamp_seconds", "gauge", "ip_family", None),
    ("sync_proxy_rules_last_timestamp_seconds", "gauge", "ip_family", None),
    ("sync_proxy_rules_endpoint_changes_pending", "gauge", "", None),
    ("sync_proxy_rules_endpoint_changes_total", "counter", "", None),
    ("sync_proxy_rules_service_changes_pending", "gauge", "", None),
    ("sync_proxy_rules_service_changes_total", "counter", "", None),
    ("network_programming_duration_seconds", "histogram", "ip_family", N),
    ("sync_proxy_rules_no_local_endpoints_total", "gauge", "ip_family traffic_policy", None),
    ("sync_proxy_rules_nftables_sync_failures_total", "counter", "ip_family", None),
    ("sync_proxy_rules_nftables_cleanup_failures_total", "counter", "ip_family", None),
    ("proxy_healthz_total", "counter", "code", None),
    ("proxy_livez_total", "counter", "code", None),
    ("conntrack_reconciler_sync_duration_seconds", "histogram", "ip_family", S),
    ("conntrack_reconciler_deleted_entries_total", "counter", "ip_family", None),
]
BUILD = "build_date compiler git_commit git_tree_state git_version go_version major minor platform"
COMPONENT = [
    ("kubernetes_build_info", "gauge", BUILD, None),
    ("kubernetes_feature_enabled", "gauge", "name stage", None),
    ("rest_client_requests_total", "counter", "code host method", None),
    ("rest_client_request_duration_seconds", "histogram", "host verb", REQUEST),
    ("rest_client_rate_limiter_duration_seconds", "histogram", "host verb", REQUEST),
    ("rest_client_request_size_bytes", "histogram", "host verb", SIZE),
    ("rest_client_response_size_bytes", "histogram", "host verb", SIZE),
    ("rest_client_request_retries_total", "counter", "code host verb", None),
    ("registered_metrics_total", "counter", "deprecated_version stability_level", None),
    ("process_cpu_seconds_total", "counter", "", None),
    ("process_start_time_seconds", "gauge", "", None),
    ("process_resident_memory_bytes", "gauge", "", None),
    ("process_open_fds", "gauge", "", None),
]
SERVER = "10.0.0.1:6443"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(FAMILIES, "v1.36.2", FEATURES)


def use_all(metrics: Metrics) -> None:
    """Report everything once that makes a series appear."""
    metrics.sync_requested(V4, 1.0)
    metrics.sync_finished(V4, 0.01, True, 100.0, [99.0])
    metrics.sync_finished(V4, 0.01, False, 100.0)
    metrics.sync_failed(V4, 0.01, False)
    metrics.cleanup_failed(V4)
    metrics.no_local_endpoints(V4, 1, 2)
    metrics.healthz_answered(200)
    metrics.livez_answered(503)
    metrics.conntrack_cleaned(V4, 0.01, 3)
    metrics.waited("GET", SERVER, 0.1)
    metrics.request("GET", SERVER, "200", 0.1, 0)
    metrics.received("GET", SERVER, 1000)
    metrics.retried("GET", SERVER, "429")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return one sample's value, None where there is none."""
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


@pytest.mark.parametrize(
    ("name", "kind", "labels", "buckets"),
    [*((f"kubeproxy_{name}", *rest) for name, *rest in KUBE_PROXY), *COMPONENT],
)
def test_metrics_are_those_that_dashboards_for_kube_proxy_read(
    metrics: Metrics, name: str, kind: str, labels: str, buckets: list[float] | None
):
    """Name, type, labels and buckets are kube-proxy's."""
    use_all(metrics)
    families = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        families[f"{family.name}_total" if family.type == "counter" else family.name] = family
    family = families[name]
    found = {label for sample in family.samples for label in sample.labels} - {"le"}
    bounds = [s.labels["le"] for s in family.samples if s.name == f"{name}_bucket"]

    assert kind == family.type
    assert set(labels.split()) == found
    expected = [*map(number, map(float, buckets)), "+Inf"] if buckets else []
    assert expected == bounds
    if name.startswith("kubeproxy_"):
        assert family.documentation.startswith("[ALPHA] ")


def test_nothing_else_has_kube_proxys_prefix(metrics: Metrics):
    """Metrics of other proxy modes are absent, and there are no ``_created`` series."""
    use_all(metrics)
    lines = [line for line in metrics.text().decode().splitlines() if line[0] != "#"]
    names = {line.split("{")[0].split(" ")[0] for line in lines}
    expected = {f"kubeproxy_{name}" for name, _, _, buckets in KUBE_PROXY if not buckets}
    for name, _, _, buckets in KUBE_PROXY:
        if buckets:
            expected |= {f"kubeproxy_{name}_{part}" for part in ("bucket", "sum", "count")}

    assert expected == {name for name in names if name.startswith("kubeproxy_")}
    assert not [name for name in names if name.endswith("_created")]


def test_a_series_with_labels_appears_when_it_is_used(metrics: Metrics):
    """A series without labels is 0 from the start."""
    text = metrics.text().decode()

    assert 'ip_family="' not in text
    assert "\nkubeproxy_sync_proxy_rules_service_changes_total 0\n" in text
    metrics.sync_requested(V6, 1.5)
    assert 'seconds{ip_family="IPv6"} 1.5\n' in metrics.text().decode()
    assert 'ip_family="IPv4"' not in metrics.text().decode()


def test_service_events_count_in_each_family():
    """As in kube-proxy: two in a dual-stack cluster."""
    name = "kubeproxy_sync_proxy_rules_service_changes_total"
    dual, single = (Metrics(families, "1", {}) for families in (FAMILIES, [V4]))
    dual.service_events(3)
    single.service_events(3)

    assert (value(dual, name), value(single, name)) == (6, 3)


def test_a_sync_includes_all_pending_changes(metrics: Metrics):
    """A slice event that changed nothing is counted, and is not pending."""
    prefix = "kubeproxy_sync_proxy_rules"

    def counts() -> list[float | None]:
        names = ("endpoint_changes_total", "endpoint_changes_pending", "service_changes_pending")
        return [value(metrics, f"{prefix}_{name}") for name in names]

    metrics.slice_events(2, changed=1)
    metrics.changes_pending(services=7)
    assert counts() == [2, 1, 7]
    metrics.sync_started()
    assert counts() == [2, 0, 0]


def test_programming_is_observed_once_for_each_change(metrics: Metrics):
    """From the trigger to the success. A clock that is ahead gives negative values."""
    name = "kubeproxy_network_programming_duration_seconds"
    metrics.sync_finished(V4, 0.1, False, 100.0, [99.5, 99.0, 101.0])

    assert value(metrics, f"{name}_count", ip_family="IPv4") == 3
    assert value(metrics, f"{name}_sum", ip_family="IPv4") == pytest.approx(0.5)
    assert value(metrics, f"{name}_bucket", ip_family="IPv4", le="0.5") == 2


@pytest.mark.parametrize("full", [True, False])
def test_a_failed_sync_took_time_too(metrics: Metrics, full: bool):
    """Its duration counts, its time does not."""
    metrics.sync_failed(V4, 0.1, full)
    family = {"ip_family": "IPv4"}
    prefix = "kubeproxy_sync"

    assert value(metrics, f"{prefix}_proxy_rules_duration_seconds_count", **family) == 1
    assert value(metrics, f"{prefix}_proxy_rules_nftables_sync_failures_total", **family) == 1
    assert value(metrics, f"{prefix}_proxy_rules_last_timestamp_seconds", **family) is None
    for word, expected in (("full", full), ("partial", not full)):
        name = f"{prefix}_{word}_proxy_rules_duration_seconds_count"
        assert value(metrics, name, **family) == (1 if expected else None)


def test_a_kind_without_problems_goes_to_zero(metrics: Metrics):
    """Each report holds all kinds."""
    metrics.object_problems({"Service": 2, "Node": 1})
    metrics.object_problems({"Service": 1})
    name = "nfproxy_object_problems"

    assert value(metrics, name, kind="Service") == 1
    assert value(metrics, name, kind="Node") == 0


def test_reports_of_the_api_servers_side_are_counted(metrics: Metrics):
    """Unusable objects, watches that ended, lists."""
    metrics.undecodable(Kind.ENDPOINT_SLICE, None, ())
    metrics.watch_ended("services", "expired")
    metrics.listed("services", 10, 0.1)

    assert value(metrics, "nfproxy_undecodable_objects_total", kind="EndpointSlice") == 1
    ended = {"resource": "services", "reason": "expired"}
    assert value(metrics, "nfproxy_watches_ended_total", **ended) == 1
    assert value(metrics, "nfproxy_listed_objects", resource="services") == 10


def test_one_api_server_is_in_use(metrics: Metrics):
    """The ones used before stay at 0, so that graphs show the change."""
    for host in ("10.0.0.1:6443", "10.0.0.1:6443", "10.0.0.2:6443"):
        metrics.api_server(host)

    assert value(metrics, "nfproxy_api_server_in_use", host="10.0.0.1:6443") == 0
    assert value(metrics, "nfproxy_api_server_in_use", host="10.0.0.2:6443") == 1


def test_own_metrics_describe_the_kernels_tables(metrics: Metrics):
    """Their size, what a transaction changed, and why they were read."""
    metrics.table_size(V4, frontends=10, endpoints=100, elements=130)
    metrics.transaction(0.0003, 2)
    metrics.resynced(ResyncReason.FOREIGN)
    metrics.node_port_addresses(V4, 2)
    metrics.node_port_addresses(V6, None)
    metrics.node_ports_unreachable(V4, True)
    metrics.local_pods_mismatch(True)
    metrics.node_missing(True)

    assert value(metrics, "nfproxy_elements", ip_family="IPv4") == 130
    assert value(metrics, "nfproxy_transaction_operations_sum") == 2
    assert value(metrics, "nfproxy_resyncs_total", reason="foreign") == 1
    assert value(metrics, "nfproxy_node_port_addresses", ip_family="IPv4") == 2
    assert value(metrics, "nfproxy_node_port_addresses", ip_family="IPv6") == -1
    assert value(metrics, "nfproxy_node_ports_unreachable", ip_family="IPv4") == 1
    assert value(metrics, "nfproxy_local_pods_mismatch") == 1
    assert value(metrics, "nfproxy_node_missing") == 1


def test_feature_gates_and_build_are_there(metrics: Metrics):
    """As component-base does."""
    text = metrics.text().decode()

    assert 'kubernetes_feature_enabled{name="ComponentFlagz",stage="BETA"} 1\n' in text
    gate = 'kubernetes_feature_enabled{name="AllowServiceExternalIPs",stage="DEPRECATED"} 0\n'
    assert gate in text
    assert 'kubernetes_build_info{major="1",minor="36",git_version="v1.36.2",' in text


def test_start_time_is_this_processs(metrics: Metrics):
    """It is the same on both pages."""
    boot_s = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text("ascii").splitlines()
        if line.startswith("btime ")
    )
    started = value(metrics, "process_start_time_seconds")

    assert started is not None
    assert started > boot_s
    assert f"process_start_time_seconds {number(started)}\n" in metrics.sli_text().decode()


def test_health_checks_are_counted_until_reset(metrics: Metrics):
    """After a reset the count starts at 0."""
    total = 'kubernetes_healthchecks_total{name="ping",type="healthz",status="success"}'
    latest = 'kubernetes_healthcheck{name="ping",type="healthz"} 1\n'
    for _ in range(2):
        metrics.healthcheck_passed("ping", "healthz")
    assert f"{total} 2\n" in metrics.sli_text().decode()
    assert latest in metrics.sli_text().decode()
    metrics.reset_slis()
    assert "kubernetes_healthcheck" not in metrics.sli_text().decode()
    metrics.healthcheck_passed("ping", "healthz")
    assert f"{total} 1\n" in metrics.sli_text().decode()


def test_metrics_of_two_processes_are_apart():
    """No registry is global."""
    one, other = (Metrics(FAMILIES, "1", {}) for _ in range(2))
    one.services(5)

    assert (value(one, "nfproxy_services"), value(other, "nfproxy_services")) == (5, 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (-2.0, "-2"),
        (0.016, "0.016"),
        (16.384, "16.384"),
        (0.00005, "5e-05"),
        (999999.0, "999999"),
        (1048576.0, "1.048576e+06"),
        (1e6, "1e+06"),
        (16777216.0, "1.6777216e+07"),
        (-1.5e9, "-1.5e+09"),
        (1767323045.1234567, "1.7673230451234567e+09"),
        (1e300, "1e+300"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_written_as_go_does(value: float, text: str):
    """Buckets of nodes with kube-proxy and with nfproxy are then the same series."""
    assert text == number(value)
    assert math.isnan(value) or float(text) == value


@pytest.mark.parametrize("hostile", ['a"b', "a\\b", "a\nb", 'a\\"\n', "ä", ""])
def test_label_values_come_back_as_they_were(hostile: str):
    """The text parses whatever they hold."""
    registry = CollectorRegistry()
    Gauge("some", "back\\slash\nand line", ("label",), registry=registry).labels(hostile).set(1)
    (family,) = text_string_to_metric_families(expose(registry.collect()).decode())

    assert {"label": hostile} == family.samples[0].labels
    assert family.documentation == "back\\slash\nand line"


def test_localhost_node_ports_have_metrics_only_with_the_gate() -> None:
    """As in Kubernetes 1.38; what is rejected is read whenever the page is."""
    prefix = "kubeproxy_nftables_localhost_nodeport_"
    assert prefix.encode() not in Metrics(FAMILIES, "0", FEATURES).text()

    rejected = [(V4, Protocol.TCP, 3), (V6, Protocol.SCTP, 0)]
    metrics = Metrics(FAMILIES, "0", FEATURES, lambda: rejected)
    metrics.localhost_listeners({V4: 2, V6: 0})
    metrics.localhost_listen_failed(V6)
    rejected[0] = (V4, Protocol.TCP, 4)
    found = [
        line.removeprefix(prefix)
        for line in metrics.text().decode().splitlines()
        if line.startswith(prefix)
    ]

    assert found == [
        'listener_creation_failures_total{ip_family="IPv6"} 1',
        'listeners{ip_family="IPv4"} 2',
        'listeners{ip_family="IPv6"} 0',
        'rejected_packets_total{ip_family="IPv4",protocol="tcp"} 4',
        'rejected_packets_total{ip_family="IPv6",protocol="sctp"} 0',
    ]
    assert f"# TYPE {prefix}rejected_packets_total counter" in metrics.text().decode()


def test_localhost_node_ports_without_the_gate_count_nothing() -> None:
    """Callers need not know of the gate."""
    metrics = Metrics(FAMILIES, "0", FEATURES)
    metrics.localhost_listeners({V4: 2})
    metrics.localhost_listen_failed(V6)

    assert b"localhost_nodeport" not in metrics.text()
