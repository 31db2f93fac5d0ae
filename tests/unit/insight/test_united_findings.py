"""What people read of findings: those of both families, or of several ports, once."""

from __future__ import annotations

import pytest
from support.insight import explained, sight
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.insight.explanation import Explanation
from nfproxy.insight.unitedfindings import united_findings

PORTS = [{"name": "http", "port": 80}, {"name": "metrics", "port": 9153}]
ADDRESSES = {"IPv4": "10.244.1.11", "IPv6": "fd00:10:244:1::b"}


def found(*ready: str, ports: int = 1) -> Explanation:
    """Explain a dual-stack Service of which the slices of some families are ready."""
    spec = {
        "clusterIPs": ["10.96.0.10", "fd00:10:96::a"],
        "ipFamilies": [*ADDRESSES],
        "ports": PORTS[:ports],
    }
    slices = []
    for family, address in ADDRESSES.items():
        piece = endpoint_slice("web", address, name=f"web-{family.lower()}", node="node-1")
        piece["addressType"] = family
        piece["ports"] = [{"name": one["name"], "port": 8080} for one in PORTS[:ports]]
        piece["endpoints"][0]["conditions"] = {"ready": family in ready}
        slices.append(piece)
    web = service("web", "10.96.0.10")
    web["spec"] |= spec
    return explained("default/web", sight(web, *slices, node_object()))


def test_both_families_are_said_once() -> None:
    """With the objects of both."""
    (one,) = united_findings(found())

    assert one.concerns == ""
    assert one.finding.code == "NoneReady"
    assert "web-ipv4, web-ipv6" in str(one.finding.about)


@pytest.mark.parametrize(
    ("ready", "ports", "concerns"),
    [(["IPv6"], 1, "http IPv4"), (["IPv4"], 2, "http, metrics IPv6"), ([], 2, "")],
)
def test_what_is_concerned_is_named(ready: list[str], ports: int, concerns: str) -> None:
    """Where it is not all."""
    united = united_findings(found(*ready, ports=ports))

    assert [one.concerns for one in united] == [concerns]


def test_other_messages_stay_apart() -> None:
    """In the order in which they were found."""
    explanation = found()

    assert [one.finding.message for one in united_findings(explanation)] == list(
        dict.fromkeys(one.message for one in explanation.findings)
    )
