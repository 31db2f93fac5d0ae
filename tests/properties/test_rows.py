"""The rows of Services are made faster where a Service plainly works, and stay the same."""

from unittest import mock

from hypothesis import given
from support.properties.clusters import Population, configs, populations
from support.properties.profiles import examples

from nfproxy.insight import overview
from nfproxy.insight.sight import Sight
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.planner import Planner


@given(populations(), configs)
@examples(80)
def test_a_closer_look_says_the_same(population: Population, config: NodeConfig) -> None:
    """Of any cluster, on any node."""
    planner = Planner(config)
    planner.apply(population.since(Population()))
    fast = list(overview.service_rows(Sight(planner)))

    with mock.patch.object(overview, "_plain_state", return_value=None):
        assert list(overview.service_rows(Sight(planner))) == fast
