"""A Service that another configuration does not concern has the same plan in both."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.objects.model import changes, endpoint_slice, service
from support.properties.clusters import OUTSIDE_IPS, Population, configs, populations
from support.properties.profiles import examples

from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.nodeconfig import KeptAddresses, LocalPods, NodeConfig
from nfproxy.plan.concerned import concerned
from nfproxy.plan.planner import Planner
from nfproxy.plan.service import plan_service

_kept = st.builds(
    KeptAddresses,
    own_addresses=st.frozensets(st.sampled_from(OUTSIDE_IPS)),
    node_addresses=st.frozensets(st.sampled_from(OUTSIDE_IPS)),
    api_servers=st.frozensets(st.tuples(st.sampled_from(OUTSIDE_IPS), st.sampled_from([80, 81]))),
)


@given(populations(), configs, configs, _kept, _kept)
@examples(60)
def test_other_services_keep_their_plan(
    population: Population,
    before: NodeConfig,
    after: NodeConfig,
    kept_before: KeptAddresses,
    kept_after: KeptAddresses,
) -> None:
    """Whatever changes; and to plan those concerned is to plan all."""
    before = msgspec.structs.replace(before, kept=kept_before)
    after = msgspec.structs.replace(after, kept=kept_after, external_ips=before.external_ips)
    objects = population.since(Population())
    changed, fresh = Planner(before), Planner(after)
    changed.apply(objects)
    fresh.apply(objects)
    again = changed.reconfigure(after)
    asks = concerned(before, after)
    for name, one in changed.services.items():
        slices = changed.slices_of(name)
        assert asks(one, slices) == (name in again.services)
        if name not in again.services:
            plans = [plan_service(one, slices, config) for config in (before, after)]
            assert plans[0] == plans[1]
    changed.apply(again)

    assert changed.desired.frontends == fresh.desired.frontends
    assert changed.desired.shared_elements == fresh.desired.shared_elements
    assert changed.desired.lists == fresh.desired.lists
    assert changed.desired.findings.counts == fresh.desired.findings.counts


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("local_pods", LocalPods(prefixes={Family.IPV4: parse_prefix("10.244.1.0/24")})),
        ("masquerade_all", True),
        ("node_port_prefixes", {Family.IPV4: (parse_prefix("192.0.2.1/32"),)}),
        ("zone", "elsewhere"),
        ("node_ips", {Family.IPV4: parse_address("192.0.2.1")}),
        ("kept", KeptAddresses(own_addresses=frozenset([parse_address("192.0.2.77")]))),
    ],
)
def test_what_changes_on_a_running_node_concerns_few(field: str, value: object) -> None:
    """An ordinary Service, without hints, source ranges or addresses of nodes, is not planned."""
    planner = Planner(NodeConfig(node_name="node-1"))
    planner.apply(changes(service(node_port=30080), endpoint_slice("web", "10.244.1.1")))
    config = msgspec.structs.replace(planner.config, **{field: value})

    assert not planner.reconfigure(config).services
