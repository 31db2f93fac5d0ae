"""ServiceCIDRs that hold more than cluster IPs."""

import pytest
from support.objects.model import changes

from nfproxy.model.addresses import parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import KeptAddresses, NodeConfig
from nfproxy.plan.planner import Planner
from nfproxy.plan.serviceranges import service_range_problems

KEPT = KeptAddresses(
    node_addresses=frozenset(map(parse_address, ("192.0.2.1", "fd00::1"))),
    own_addresses=frozenset(map(parse_address, ("192.0.2.1", "fd00::1", "10.96.0.10"))),
    pod_prefixes=tuple(map(parse_prefix, ("10.244.0.0/16", "fd00:10:244::/48"))),
)


@pytest.mark.parametrize(
    ("cidrs", "said"),
    [
        ([], []),
        (["10.96.0.0/12", "fd00:10:96::/112"], []),
        (["192.0.2.0/24"], ["holds this node's address 192.0.2.1"]),
        (["fd00::/112"], ["holds this node's address fd00::1"]),
        (["10.244.7.0/24"], ["overlaps the pods' range 10.244.0.0/16"]),
        (["10.0.0.0/8"], ["overlaps the pods' range 10.244.0.0/16"]),
        (["10.244.0.0/16", "10.244.0.0/16"], ["overlaps the pods' range 10.244.0.0/16"]),
        (["fd00::/16"], ["this node's address fd00::1", "the pods' range fd00:10:244::/48"]),
        (["0.0.0.0/0"], ["this node's address 192.0.2.1", "the pods' range 10.244.0.0/16"]),
    ],
)
def test_a_range_that_holds_nodes_or_pods_is_reported(cidrs, said):
    """A cluster IP that the node itself has, as with a DNS cache on each node, is fine."""
    found = service_range_problems(map(parse_prefix, cidrs), KEPT.node_addresses, KEPT.pod_prefixes)

    assert len(found) == len(said)
    assert all(words in text for words, text in zip(said, found, strict=True))


def test_the_planner_follows_ranges_and_the_node():
    """Either may change, and the problem comes and goes."""
    planner = Planner(NodeConfig(node_name="n"))
    cidr = ServiceCIDR("a", (parse_prefix("192.0.2.0/24"),))
    planner.apply(Changes(service_cidrs={"a": cidr}))
    assert planner.service_range_problems == ()

    planner.apply(planner.reconfigure(NodeConfig(node_name="n", kept=KEPT)))
    (problem,) = planner.service_range_problems
    assert "ServiceCIDR 192.0.2.0/24 holds this node's address 192.0.2.1" in problem
    planner.apply(changes())
    assert planner.service_range_problems == (problem,)
    planner.apply(Changes(service_cidrs={"a": None}))
    assert planner.service_range_problems == ()
