"""Services: what is proxied, what is ignored, and what one bad item costs."""

from __future__ import annotations

from typing import Any

import pytest
from support.objects.decoding import decoded, fields, manifest, service

from nfproxy.kube.decoded import Decoded
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort


def packed(*texts: str) -> tuple[bytes, ...]:
    return tuple(parse_address(text) for text in texts)


def test_a_plain_service_gets_the_defaults_of_the_api():
    assert Service(
        name=ObjectName("shop", "web"),
        cluster_ips=(b"\x0a\x60\0\x01",),
        ports=(ServicePort("http", Protocol.TCP, 80),),
    ) == service(manifest())


def test_an_absent_namespace_means_default():
    obj = manifest()
    del obj["metadata"]["namespace"]

    assert ObjectName("default", "web") == service(obj).name


@pytest.mark.parametrize(
    "obj",
    [
        manifest(labels={"service.kubernetes.io/service-proxy-name": "other"}),
        manifest(labels={"service.kubernetes.io/service-proxy-name": ""}),
        manifest(clusterIP="None"),
        manifest(clusterIP=None, clusterIPs=["None"]),
        manifest(type="ExternalName"),
        manifest(type="ExternalName", clusterIP=None),
    ],
)
def test_a_service_of_others_is_ignored_in_silence(obj):
    assert Decoded(ObjectName("shop", "web"), None) == decoded(obj)


def test_other_labels_do_not_matter():
    assert service(manifest(labels={"service.kubernetes.io/headless": "", "app": "x"}))


@pytest.mark.parametrize("cluster_ip", [None, "", " "])
def test_a_service_without_cluster_ip_is_ignored_and_reported(cluster_ip):
    """Only manifests lack one; the author should learn why nothing happens."""
    result = decoded(manifest(clusterIP=cluster_ip))

    assert (result.value, fields(result), result.usable) == (None, ["spec.clusterIP"], True)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"clusterIP": "fd00::1"}, {Family.IPV6: "fd00::1"}),
        ({"clusterIP": "010.096.0.01"}, {Family.IPV4: "10.96.0.1"}),
        ({"clusterIP": "::ffff:10.96.0.1"}, {Family.IPV4: "10.96.0.1"}),
        ({"clusterIP": None, "clusterIPs": ["10.96.0.7"]}, {Family.IPV4: "10.96.0.7"}),
        (
            {"ipFamilies": ["IPv6", "IPv4"], "clusterIPs": ["fd00::1", "10.96.0.1"]},
            {Family.IPV6: "fd00::1", Family.IPV4: "10.96.0.1"},
        ),
        (
            {"ipFamilies": ["IPv4"], "clusterIPs": ["10.96.0.1", "fd00::1"]},
            {Family.IPV4: "10.96.0.1"},
        ),
        ({"ipFamilies": ["IPv4", "IPv6"], "clusterIPs": ["10.96.0.1"]}, {Family.IPV4: "10.96.0.1"}),
        ({"clusterIP": "169.254.9.1"}, {Family.IPV4: "169.254.9.1"}),
        ({"clusterIP": "240.0.0.1"}, {Family.IPV4: "240.0.0.1"}),
        ({"clusterIP": "255.255.255.254"}, {Family.IPV4: "255.255.255.254"}),
    ],
)
def test_families_and_cluster_ips_are_matched_by_position(spec, expected):
    made = service(manifest(**spec))

    assert {family: made.cluster_ip(family) for family in made.families} == {
        family: parse_address(text) for family, text in expected.items()
    }
    assert len(made.cluster_ips) == len(expected)


@pytest.mark.parametrize(
    ("spec", "field", "families"),
    [
        ({"clusterIP": "10.96.0.300"}, "spec.clusterIP", None),
        ({"clusterIP": "10.96.0.1; flush ruleset"}, "spec.clusterIP", None),
        ({"clusterIP": "127.0.0.1"}, "spec.clusterIP", None),
        ({"clusterIP": "0.0.0.0"}, "spec.clusterIP", None),
        ({"clusterIP": "224.0.0.251"}, "spec.clusterIP", None),
        ({"clusterIP": "239.255.255.255"}, "spec.clusterIP", None),
        ({"clusterIP": "255.255.255.255"}, "spec.clusterIP", None),
        ({"clusterIP": "ff02::1"}, "spec.clusterIP", None),
        ({"clusterIP": "::1"}, "spec.clusterIP", None),
        ({"ipFamilies": ["IPv6"]}, "spec.clusterIP", None),
        (
            {"ipFamilies": ["IPv5", "IPv4"], "clusterIPs": ["x", "10.0.0.1"]},
            "spec.ipFamilies[0]",
            [2],
        ),
        (
            {"ipFamilies": ["IPv4", "IPv4"], "clusterIPs": ["10.0.0.1", "10.0.0.2"]},
            "spec.ipFamilies[1]",
            [2],
        ),
        (
            {"ipFamilies": ["IPv4", "IPv6"], "clusterIPs": ["10.0.0.1", "fd::x"]},
            "spec.clusterIPs[1]",
            [2],
        ),
        ({"clusterIPs": ["10.96.0.1", "fd00::1"]}, "spec.ipFamilies", [2]),
    ],
)
def test_a_bad_cluster_ip_costs_its_family(spec, field, families):
    result = decoded(manifest(**spec))

    assert [field] == fields(result)
    assert families == (list(result.value.families) if result.value else None)


def test_a_bad_port_costs_only_itself():
    ports = [
        {"name": "a", "port": 80, "protocol": "UDP"},
        {"name": "b", "port": 0},
        {"name": "c", "port": 65536},
        {"name": "d", "port": -1},
        {"name": "e", "port": 10**5000},
        {"name": "f", "port": 1, "protocol": "tcp"},
        {"name": "g", "port": 1, "protocol": "TCP\n"},
        {"name": 'h"; flush ruleset', "port": 1},
        {"name": "i" * 64, "port": 1},
        {"name": "j", "port": 2, "nodePort": 70000},
        {"name": "k", "port": 3, "protocol": "SCTP", "nodePort": 30003},
        {"name": "a", "port": 4, "protocol": "UDP"},
        {"name": "l", "port": 80, "protocol": "UDP"},
        {"name": "a", "port": 80},
    ]
    result = decoded(manifest(ports=ports))

    assert (
        ServicePort("a", Protocol.UDP, 80),
        ServicePort("j", Protocol.TCP, 2),
        ServicePort("k", Protocol.SCTP, 3, 30003),
        ServicePort("a", Protocol.TCP, 80),
    ) == result.value.ports
    assert fields(result) == [
        "spec.ports[1].port",
        "spec.ports[2].port",
        "spec.ports[3].port",
        "spec.ports[4].port",
        "spec.ports[5].protocol",
        "spec.ports[6].protocol",
        "spec.ports[7].name",
        "spec.ports[8].name",
        "spec.ports[9].nodePort",
        "spec.ports[11]",
        "spec.ports[12]",
    ]


def test_an_unnamed_port_has_the_empty_name():
    ports = [{"port": 53, "protocol": "UDP"}, {"name": "", "port": 53}]
    expected = [("", Protocol.UDP), ("", Protocol.TCP)]

    assert expected == [(p.name, p.protocol) for p in service(manifest(ports=ports)).ports]


def test_external_ips_that_cannot_be_served_are_left_out():
    ips = ["192.0.2.1", "192.0.2.256", "", "fd00::5", "127.0.0.1", "169.254.1.1", "0.0.0.0", "::"]
    ips += ["fe80::1", "224.0.0.1", "ff02::1", "fe80::1%eth0", "192.0.2.1", "::ffff:192.0.2.9"]
    result = decoded(manifest(externalIPs=ips))

    assert packed("192.0.2.1", "fd00::5", "192.0.2.9") == result.value.external_ips
    assert [f"spec.externalIPs[{i}]" for i in (1, 4, 5, 6, 7, 8, 9, 10, 11)] == fields(result)


def test_load_balancer_ips_are_those_of_mode_vip():
    ingress = [
        {"ip": "192.0.2.1"},
        {"ip": "192.0.2.2", "ipMode": "VIP", "ports": [{"port": 80, "error": None}]},
        {"ip": "192.0.2.3", "ipMode": "Proxy"},
        {"hostname": "lb.example.org"},
        {"ip": "192.0.2.4", "ipMode": "vip"},
        {"ip": "127.0.0.1"},
        {"ip": "fd00::9"},
    ]
    result = decoded(manifest() | {"status": {"loadBalancer": {"ingress": ingress}}})

    assert packed("192.0.2.1", "192.0.2.2", "fd00::9") == result.value.load_balancer_ips
    assert fields(result) == [
        "status.loadBalancer.ingress[4].ipMode",
        "status.loadBalancer.ingress[5].ip",
    ]


@pytest.mark.parametrize(
    "status", [None, {}, {"loadBalancer": None}, {"loadBalancer": {"ingress": None}}]
)
def test_a_service_without_ingress_has_no_load_balancer_ips(status):
    assert service(manifest() | {"status": status}).load_balancer_ips == ()


def affinity(seconds: Any) -> dict[str, Any]:
    return manifest(
        sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": seconds}}
    )


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (manifest(sessionAffinity="None"), None),
        (manifest(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}}), None),
        (manifest(sessionAffinity="ClientIP"), 10800),
        (manifest(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": None}), 10800),
        (affinity(None), 10800),
        (affinity(1), 1),
        (affinity(86400), 86400),
    ],
)
def test_affinity_timeout(obj, expected):
    assert expected == service(obj).affinity_timeout_s


@pytest.mark.parametrize("seconds", [0, -1, 86401, 10**90])
def test_an_affinity_timeout_out_of_range_is_the_default(seconds):
    result = decoded(affinity(seconds))

    assert result.value.affinity_timeout_s == 10800
    assert fields(result) == ["spec.sessionAffinityConfig.clientIP.timeoutSeconds"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, True),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, True),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}, False),
        ({"type": "LoadBalancer"}, False),
        ({"externalTrafficPolicy": "Local"}, False),
        ({"externalTrafficPolicy": "Local", "externalIPs": []}, False),
        ({"externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"]}, True),
    ],
)
def test_external_traffic_policy_holds_where_it_has_a_meaning(spec, expected):
    assert expected is service(manifest(**spec)).external_local


@pytest.mark.parametrize(
    ("value", "expected"), [(None, False), ("Cluster", False), ("Local", True)]
)
def test_internal_traffic_policy(value, expected):
    assert expected is service(manifest(internalTrafficPolicy=value)).internal_local


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, 31000),
        ({"type": "LoadBalancer"}, 0),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, 0),
    ],
)
def test_only_a_local_load_balancer_has_a_health_check_port(spec, expected):
    assert expected == service(manifest(healthCheckNodePort=31000, **spec)).health_check_node_port


@pytest.mark.parametrize(
    "field",
    ["type", "sessionAffinity", "externalTrafficPolicy", "internalTrafficPolicy"],
)
def test_a_word_the_api_does_not_know_is_reported_and_the_default_used(field):
    expected = service(manifest())
    result = decoded(manifest(**{field: "local"}))

    assert (expected, [f"spec.{field}"]) == (result.value, fields(result))


def test_creation_time_is_normalised():
    obj = manifest()
    obj["metadata"]["creationTimestamp"] = "2024-05-01T12:00:00+02:00"

    assert service(obj).created == "2024-05-01T10:00:00.000000000Z"


def test_a_bad_creation_time_counts_as_none():
    obj = manifest()
    obj["metadata"]["creationTimestamp"] = "yesterday"
    result = decoded(obj)

    assert (result.value.created, fields(result)) == ("", ["metadata.creationTimestamp"])


def test_a_node_port_given_twice_belongs_to_the_first_port():
    """Per protocol; the other port keeps the rest of what it has."""
    ports = [
        {"name": "a", "port": 1, "nodePort": 30001},
        {"name": "b", "port": 2, "nodePort": 30001},
        {"name": "c", "port": 3, "nodePort": 30001, "protocol": "UDP"},
        {"name": "d", "port": 4},
        {"name": "e", "port": 5},
    ]
    result = decoded(manifest(type="NodePort", ports=ports))

    assert [(p.port, p.node_port) for p in result.value.ports] == [
        (1, 30001),
        (2, 0),
        (3, 30001),
        (4, 0),
        (5, 0),
    ]
    assert fields(result) == ["spec.ports[1].nodePort"]


def test_ingress_ips_of_mode_router_are_kept_apart():
    """An IP that is there with both modes is a VIP."""
    ingress = [
        {"ip": "192.0.2.1", "ipMode": "Router"},
        {"ip": "192.0.2.2"},
        {"ip": "2001:db8::1", "ipMode": "Router"},
        {"ip": "192.0.2.2", "ipMode": "Router"},
        {"ip": "127.0.0.1", "ipMode": "Router"},
    ]
    result = decoded(manifest() | {"status": {"loadBalancer": {"ingress": ingress}}})

    assert packed("192.0.2.2") == result.value.load_balancer_ips
    assert packed("192.0.2.1", "2001:db8::1") == result.value.router_ips
    assert fields(result) == ["status.loadBalancer.ingress[4].ip"]
