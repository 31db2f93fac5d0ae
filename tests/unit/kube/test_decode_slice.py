"""EndpointSlices: which endpoints and ports they give."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nfproxy.kube.decode import decode
from nfproxy.kube.decoded import Decoded
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.endpoints import Endpoint, EndpointSlice, SlicePort
from nfproxy.model.service import ObjectName, Protocol

SERVICE_NAME = "kubernetes.io/service-name"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
HEADLESS = "service.kubernetes.io/headless"


def manifest(labels: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "web-x7k2p",
            "namespace": "shop",
            "labels": {SERVICE_NAME: "web"} if labels is None else labels,
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    } | fields


def decoded(obj: dict[str, Any]) -> Decoded[Any]:
    return decode(Kind.ENDPOINT_SLICE, obj)


def fields(result: Decoded[Any]) -> list[str]:
    return [problem.field for problem in result.problems]


def endpoint(**fields: Any) -> Endpoint:
    """Return the one endpoint of a slice with nothing wrong."""
    result = decoded(manifest(endpoints=[{"addresses": ["10.0.0.1"]} | fields]))
    assert result.problems == ()
    (found,) = result.value.endpoints
    return found


def test_a_plain_slice():
    expected = EndpointSlice.of(
        name=ObjectName("shop", "web-x7k2p"),
        service=ObjectName("shop", "web"),
        family=Family.IPV4,
        ports=(SlicePort("http", Protocol.TCP, 8080),),
        endpoints=(Endpoint(b"\x0a\0\0\x01"),),
    )

    assert Decoded(expected.name, expected) == decoded(manifest())


def test_json_and_data_decode_alike():
    obj = manifest(addressType="IPv6", endpoints=[{"addresses": ["fd00::1"], "nodeName": "n"}])

    assert decoded(obj) == decode(Kind.ENDPOINT_SLICE, msgspec.json.encode(obj))


@pytest.mark.parametrize(
    "obj",
    [
        manifest(labels={SERVICE_NAME: "web", HEADLESS: ""}),
        manifest(labels={SERVICE_NAME: "web", HEADLESS: None}),
        manifest(addressType="FQDN", endpoints=[{"addresses": ["db.example.org"]}]),
    ],
)
def test_a_slice_that_is_not_for_a_proxy_is_ignored_in_silence(obj):
    assert Decoded(ObjectName("shop", "web-x7k2p"), None) == decoded(obj)


@pytest.mark.parametrize("address_type", ["", "ipv4", "IPX"])
def test_an_unknown_address_type_makes_the_object_unusable(address_type):
    result = decoded(manifest(addressType=address_type))

    assert (result.usable, fields(result)) == (False, ["addressType"])


@pytest.mark.parametrize("nothing", [None, []])
def test_a_slice_may_be_empty(nothing):
    """API servers write null for both."""
    result = decoded(manifest(ports=nothing, endpoints=nothing))

    assert (result.value.ports, result.value.endpoints, result.problems) == ((), (), ())


def test_a_port_may_lack_its_name_but_not_its_number():
    ports = [
        {"name": None, "port": 1},
        {"port": 2},
        {"name": "", "port": 3},
        {"name": "a", "port": None},
        {"name": "b", "port": 0},
        {"name": "c", "port": 4, "protocol": None},
        {"name": "d", "port": 5, "protocol": "SCTP"},
    ]
    result = decoded(manifest(ports=ports))

    assert (
        SlicePort("", Protocol.TCP, 1),
        SlicePort("", Protocol.TCP, 2),
        SlicePort("", Protocol.TCP, 3),
        SlicePort("c", Protocol.TCP, 4),
        SlicePort("d", Protocol.SCTP, 5),
    ) == result.value.ports
    assert result.problems == ()


def test_a_bad_port_costs_only_itself():
    ports = [
        {"name": "a", "port": 65536},
        {"name": "b", "port": 1, "protocol": "ICMP"},
        {"name": "c\n", "port": 1},
        {"name": "d", "port": 1},
    ]
    result = decoded(manifest(ports=ports))

    assert (SlicePort("d", Protocol.TCP, 1),) == result.value.ports
    assert fields(result) == ["ports[0].port", "ports[1].protocol", "ports[2].name"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, (True, True, False)),
        ({}, (True, True, False)),
        ({"ready": None, "serving": None, "terminating": None}, (True, True, False)),
        ({"ready": False}, (False, True, False)),
        ({"ready": False, "serving": True, "terminating": True}, (False, True, True)),
        ({"ready": True, "serving": False}, (True, False, False)),
    ],
)
def test_absent_conditions_are_not_false_ones(conditions, expected):
    found = endpoint(conditions=conditions)

    assert expected == (found.ready, found.serving, found.terminating)


def test_only_the_first_address_counts():
    assert parse_address("10.0.0.1") == endpoint(addresses=["10.0.0.1", "bogus"]).address


@pytest.mark.parametrize(
    "bad",
    [
        [], None, ["10.0.0.256"], ["nowhere"], ["fd00::1"], ["127.0.0.1"], ["0.0.0.0"], [""],
        ["169.254.0.1"], ["224.0.0.9"], ["10.0.0.1\n"], ["10.0.0.1\0"], ["\ud800"], ["1" * 10_000],
    ],
)  # fmt: skip
def test_a_bad_endpoint_costs_only_itself(bad):
    result = decoded(manifest(endpoints=[{"addresses": bad}, {"addresses": ["10.0.0.2"]}]))

    assert (Endpoint(b"\x0a\0\0\x02"),) == result.value.endpoints
    assert [field.removesuffix("[0]") for field in fields(result)] == ["endpoints[0].addresses"]
    assert len(str(result.problems[0])) < 300


@pytest.mark.parametrize("bad", ["::", "::1", "fe80::1", "ff02::1", "10.0.0.1", "::ffff:10.0.0.1"])
def test_a_bad_ipv6_endpoint_costs_only_itself(bad):
    endpoints = [{"addresses": [bad]}, {"addresses": ["fd00::2"]}]
    result = decoded(manifest(addressType="IPv6", endpoints=endpoints))

    assert [parse_address("fd00::2")] == [found.address for found in result.value.endpoints]
    assert fields(result) == ["endpoints[0].addresses[0]"]


@pytest.mark.parametrize(
    ("hints", "zones", "nodes"),
    [
        (None, (), ()),
        ({}, (), ()),
        ({"forZones": None, "forNodes": []}, (), ()),
        ({"forZones": [{"name": "a"}, {"name": "b"}]}, ("a", "b"), ()),
        ({"forZones": [{"name": ""}], "forNodes": [{"name": "n"}]}, ("",), ("n",)),
    ],
)
def test_hints(hints, zones, nodes):
    found = endpoint(hints=hints)

    assert (zones, nodes) == (found.zone_hints, found.node_hints)


def test_an_overlong_name_takes_little_room_and_matches_nothing():
    found = endpoint(nodeName="n" * 100_000, hints={"forZones": [{"name": "z" * 100_000}]})

    assert (len(found.node), len(found.zone_hints[0])) == (254, 254)


def test_equal_values_are_one_object():
    """With 100,000 endpoints on a few thousand nodes that is most of the memory."""
    obj = manifest(endpoints=[{"addresses": ["10.0.0.1"], "nodeName": "worker-17"}])
    obj["endpoints"][0]["hints"] = {"forZones": [{"name": "zone-b"}]}
    raw = msgspec.json.encode(obj)
    one, two = (decode(Kind.ENDPOINT_SLICE, raw).value for _ in range(2))

    assert one.endpoints[0].node is two.endpoints[0].node
    assert one.endpoints[0].zone_hints is two.endpoints[0].zone_hints
    assert one.ports[0] is two.ports[0]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda o: o.pop("addressType"), "addressType"),
        (lambda o: o.update(endpoints={}), "endpoints"),
        (lambda o: o["endpoints"][0].update(addresses="10.0.0.1"), "endpoints[0].addresses"),
        (
            lambda o: o["endpoints"][0].update(conditions={"ready": "yes"}),
            "endpoints[0].conditions.ready",
        ),
        (
            lambda o: o["endpoints"][0].update(hints={"forZones": ["a"]}),
            "endpoints[0].hints.forZones[0]",
        ),
        (lambda o: o["metadata"].update(name="a_b"), "metadata.name"),
    ],
)
def test_a_wrong_or_missing_field_makes_the_object_unusable(change, field):
    obj = manifest()
    change(obj)
    result = decoded(obj)

    assert (False, [field]) == (result.usable, fields(result))


def test_a_name_may_have_dots():
    obj = manifest()
    obj["metadata"]["name"] = "web.shop-1"

    assert ObjectName("shop", "web.shop-1") == decoded(obj).value.name


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("2024-05-01T10:00:00.25Z", 1714557600.25),
        ("", None),
        ("yesterday", None),
        (5, None),
        (None, None),
        ({"a": 1}, None),
    ],
)
def test_the_time_of_the_change_is_reported_if_it_is_one(annotation, expected):
    """It only feeds a metric, so nothing it holds spoils the slice or is worth a word."""
    obj = manifest()
    obj["metadata"]["annotations"] = {TRIGGER_TIME: annotation}

    for data in (obj, msgspec.json.encode(obj)):
        result = decode(Kind.ENDPOINT_SLICE, data)
        assert (expected, True, ()) == (result.triggered_s, result.usable, result.problems)


@pytest.mark.parametrize("labels", [{}, {SERVICE_NAME: ""}, {"app": "x"}])
def test_a_slice_that_names_no_service_is_ignored_without_a_line(labels):
    """It belongs to another owner. The reader of files counts such slices."""
    result = decoded(manifest(labels=labels))
    assert result.value is None
    assert result.problems == ()
    assert result.usable
    assert result.has_no_service


def test_a_slice_whose_label_is_no_name_is_ignored_and_reported():
    result = decoded(manifest(labels={SERVICE_NAME: "a;b"}))
    assert (result.value, result.usable) == (None, True)
    assert [f"metadata.labels['{SERVICE_NAME}']"] == fields(result)
