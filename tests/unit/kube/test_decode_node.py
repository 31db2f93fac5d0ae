"""Node and ServiceCIDR."""

from __future__ import annotations

from typing import Any

import pytest

from nfproxy.kube.decode import decode
from nfproxy.kube.decoded import Decoded
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import parse_address, parse_prefix
from nfproxy.model.node import Node, ServiceCIDR
from nfproxy.model.service import ObjectName


def fields(result: Decoded[Any]) -> list[str]:
    return [problem.field for problem in result.problems]


def test_a_node_can_be_as_little_as_a_name():
    result = decode(Kind.NODE, {"metadata": {"name": "n1.example.org"}})

    assert Decoded(ObjectName("", "n1.example.org"), Node("n1.example.org")) == result


def test_internal_addresses_come_before_external_ones():
    addresses = [
        {"type": "ExternalIP", "address": "192.0.2.1"},
        {"type": "Hostname", "address": "n1"},
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "InternalIP", "address": "10.0.0"},
        {"type": "InternalIP", "address": "fd00::1"},
        {"type": "ExternalIP", "address": "10.0.0.1"},
    ]
    result = decode(Kind.NODE, {"metadata": {"name": "n"}, "status": {"addresses": addresses}})

    expected = tuple(map(parse_address, ("10.0.0.1", "fd00::1", "192.0.2.1")))
    assert expected == result.value.addresses
    assert fields(result) == ["status.addresses[3].address"]


def test_zone_and_pod_cidrs():
    obj = {
        "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "b"}},
        "spec": {"podCIDRs": ["10.244.1.7/24", "fd00:1::/64", "x"]},
    }
    result = decode(Kind.NODE, obj)

    assert (result.value.zone, fields(result)) == ("b", ["spec.podCIDRs[2]"])
    assert (parse_prefix("10.244.1.0/24"), parse_prefix("fd00:1::/64")) == result.value.pod_cidrs


@pytest.mark.parametrize("labels", [None, {}, {"topology.kubernetes.io/zone": None}])
def test_a_node_without_zone(labels):
    assert decode(Kind.NODE, {"metadata": {"name": "n", "labels": labels}}).value.zone == ""


def test_a_service_cidr():
    obj = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "fd00::/112"]}}
    expected = ServiceCIDR("kubernetes", (parse_prefix("10.96.0.0/12"), parse_prefix("fd00::/112")))

    assert Decoded(ObjectName("", "kubernetes"), expected) == decode(Kind.SERVICE_CIDR, obj)


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "::/0"])
def test_a_service_cidr_of_everything_is_refused(everything):
    """Traffic to its unallocated addresses is dropped, which would be all traffic."""
    obj = {"metadata": {"name": "k"}, "spec": {"cidrs": [everything, "10.0.0.0/8", "10.0.0.0/33"]}}
    result = decode(Kind.SERVICE_CIDR, obj)

    assert (parse_prefix("10.0.0.0/8"),) == result.value.cidrs
    assert {"spec.cidrs", "spec.cidrs[2]"} == set(fields(result))


@pytest.mark.parametrize("kind", [Kind.NODE, Kind.SERVICE_CIDR])
def test_a_bad_name_makes_the_object_unusable(kind):
    result = decode(kind, {"metadata": {"name": "a/b"}, "spec": {}})

    assert (result.name, result.usable, fields(result)) == (None, False, ["metadata.name"])
