"""Rows of ``nfproxy services``: they say in short what ``nfproxy explain`` says at length."""

from typing import Any

import msgspec
import pytest
from support.insight import shop, sight
from support.objects.everything import everything
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.insight import overview as overview_module
from nfproxy.insight.diagnosis import Severity
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import Conclusion
from nfproxy.insight.overview import overview, plain_count, service_rows
from nfproxy.insight.question import ServiceQuestion
from nfproxy.insight.sight import Sight
from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName


@pytest.mark.parametrize("seen", [sight(*shop()), sight(*everything())], ids=["shop", "all"])
def test_each_row_agrees_with_the_explanation(seen: Sight) -> None:
    """In its verdict, its worst level and its codes."""
    for row in service_rows(seen):
        name = ObjectName(row.namespace, row.name)
        found = explain(seen, ServiceQuestion(name, row.port))

        assert row.conclusion is found.conclusion, row.label
        assert set(row.codes) == {one.code for one in found.findings}, row.label
        assert row.level is (found.findings[0].level if found.findings else None)


def test_a_row_has_addresses_ports_and_counts() -> None:
    """Of all families and frontends; the counts are those of the worst family."""
    (row,) = service_rows(sight(*shop()), [ObjectName("shop", "audit")])

    assert (row.label, row.number, row.node_port) == ("shop/audit:http", 80, 30060)
    assert row.addresses == ("10.96.0.60", "203.0.113.60")
    assert (row.used, row.all, row.level) == (2, 2, Severity.NOTE)
    assert row.is_notable
    assert not row.is_problem


def test_the_worst_family_counts() -> None:
    """A Service of both families with endpoints of one."""
    both = {"clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}
    seen = sight(node_object(), service(**both), endpoint_slice("web", "10.244.1.5"))
    (row,) = service_rows(seen)

    assert (row.conclusion, row.used, row.all) == (Conclusion.PARTLY, 0, 0)
    assert row.because == "no IPv6 endpoint"


@pytest.mark.parametrize("seen", [sight(*shop()), sight(*everything())], ids=["shop", "all"])
def test_what_plainly_works_needs_no_closer_look(
    seen: Sight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are the same as with one."""
    rows = list(service_rows(seen))
    looked: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(overview_module, "_plain_state", lambda *_: looked.append(1))
        assert list(service_rows(seen)) == rows
    plain = [row for row in rows if row.conclusion is Conclusion.WORKS and not row.codes]
    assert len(looked) >= len(rows) > len(plain) > 0


@pytest.mark.parametrize(
    ("spec", "endpoints", "count"),
    [
        ({}, {}, 2),
        ({"externalTrafficPolicy": "Local", "type": "LoadBalancer"}, {}, None),
        ({"internalTrafficPolicy": "Local"}, {}, None),
        ({}, {"ready": False}, None),
        ({}, {"terminating": True}, None),
        ({}, {"hints": {"forZones": [{"name": "west"}]}}, None),
        ({"ports": [{"name": "other", "port": 80}]}, {}, None),
    ],
)
def test_what_is_plain(spec: dict[str, Any], endpoints: dict[str, Any], count: int | None) -> None:
    """Every ready endpoint of one slice, for all clients."""
    piece = endpoint_slice("web", "10.244.1.5", "10.244.2.5")
    for one in piece["endpoints"]:
        hints = {"hints": endpoints["hints"]} if "hints" in endpoints else {}
        conditions = {name: value for name, value in endpoints.items() if name != "hints"}
        one |= {"conditions": one.get("conditions", {}) | conditions, **hints}
    planner = sight(node_object(), service(**spec), piece).planner
    ((name, found),) = planner.services.items()
    limits = planner.config.limits
    slices = planner.slices_of(name)

    assert plain_count(found, found.ports[0], Family.IPV4, slices, limits) == count
    assert plain_count(found, found.ports[0], Family.IPV6, slices, limits) is None
    few = msgspec.structs.replace(limits, endpoints=1)
    assert plain_count(found, found.ports[0], Family.IPV4, slices, few) is None


def test_what_is_wrong_with_the_node_is_said_once() -> None:
    """And not in every row."""
    objects = (node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    seen = sight(*objects, cluster_cidr="10.245.0.0/16")
    found = overview(seen, service_rows(seen))

    assert [one.code.value for one in found.findings] == ["ClusterCIDRMissesPods"]
    assert (found.total, found.problems) == (1, 0)
    assert found.services[0].codes == ()


def test_a_service_without_a_usable_port_has_a_row() -> None:
    """It is not served, and says why."""
    seen = sight(node_object(), service(port=99999))
    (row,) = service_rows(seen)

    assert row.conclusion is Conclusion.UNKNOWN
    assert row.level is Severity.FAIL
    assert "99999" in row.because
