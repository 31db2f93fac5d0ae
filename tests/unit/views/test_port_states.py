"""How service ports answer, as numbers."""

from __future__ import annotations

from typing import Any

import pytest
from support.objects.model import changes, endpoint, endpoint_slice, gone, service

from nfproxy.model.changes import Changes
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.plan.planner import Planner
from nfproxy.views.portstates import PortStates


class Counted:
    def __init__(self) -> None:
        self.planner = Planner(NodeConfig(node_name="node-1"))
        self.states = PortStates()

    def take(self, batch: Changes) -> dict[str, int]:
        """Plan a batch, and return the counts above zero."""
        touched = self.planner.apply(batch)
        self.states.update(self.planner, touched.services)
        return {str(state): count for state, count in self.states.counts.items() if count}


@pytest.mark.parametrize(
    ("options", "endpoints", "port_name", "state"),
    [
        ({}, [endpoint("10.244.1.5")], "", "works"),
        ({"affinity_timeout_s": 30}, [endpoint("10.244.1.5")], "", "works"),
        ({}, [], "", "no_endpoints"),
        ({}, [endpoint("10.244.1.5", ready=False, serving=False)], "", "no_endpoints"),
        ({}, [endpoint("10.244.1.5")], "other", "port_mismatch"),
        (
            {},
            [endpoint("10.244.1.5", ready=False, serving=True, terminating=True)],
            "",
            "terminating_only",
        ),
        ({"internal_local": True}, [endpoint("10.244.1.5", "node-2")], "", "no_local"),
        ({"internal_local": True}, [endpoint("10.244.1.5", "node-1")], "", "works"),
    ],
)
def test_each_port_has_one_state(
    options: dict[str, Any], endpoints: list[Any], port_name: str, state: str
) -> None:
    """By what its cluster IP answers, and why."""
    counted = Counted()
    batch = changes(service(**options), endpoint_slice("web", *endpoints, port_name=port_name))
    assert counted.take(batch) == {state: 1}


def test_counts_follow_changes() -> None:
    """A port that stops working leaves its old count; a Service that is gone leaves none."""
    counted = Counted()
    two = (ServicePort("a", Protocol.TCP, 80, 0), ServicePort("b", Protocol.TCP, 81, 0))
    web, pieces = service(ports=two), endpoint_slice("web", "10.244.1.5", port_name="a")
    assert counted.take(changes(web)) == {"no_endpoints": 2}
    assert counted.take(changes(pieces)) == {"works": 1, "port_mismatch": 1}
    assert counted.take(gone(pieces)) == {"no_endpoints": 2}
    assert counted.take(gone(web)) == {}


def test_of_two_families_the_worse_counts() -> None:
    """One port is one port."""
    counted = Counted()
    both = service(cluster_ips=("10.96.0.1", "fd00:96::1"))
    assert counted.take(changes(both, endpoint_slice("web", "10.244.1.5"))) == {"no_endpoints": 1}


def test_a_mismatch_is_reported_when_it_begins() -> None:
    """Again only after it ended."""
    counted = Counted()

    def begun(batch: Changes) -> list[str]:
        touched = counted.planner.apply(batch)
        found = counted.states.update(counted.planner, touched.services)
        return [f"{service}:{port}" for service, port in found]

    web = service(ports=(ServicePort("http", Protocol.TCP, 80, 0),))
    right, wrong = (endpoint_slice("web", "10.244.1.5", port_name=n) for n in ("http", "web"))
    assert begun(changes(web)) == []
    assert begun(changes(wrong)) == ["default/web:http"]
    assert begun(changes(wrong, web)) == []
    assert begun(changes(right)) == []
    assert begun(changes(wrong)) == ["default/web:http"]
    assert begun(gone(web)) == []
    assert begun(changes(web)) == ["default/web:http"]
