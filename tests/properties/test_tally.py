"""What is counted along the way is what one would count at the end."""

from hypothesis import given
from support.properties.clusters import NODE, Population, Step, calm_histories
from support.properties.profiles import examples

from nfproxy.model.addresses import FAMILIES
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.planner import Planner
from nfproxy.views.tally import Tally


@given(calm_histories)
@examples(40)
def test_totals_do_not_depend_on_the_way(steps: list[Step]) -> None:
    """After any history they are those of a fresh count of the last objects."""
    planner, tally, population = Planner(NodeConfig(node_name=NODE)), Tally(), Population()
    for step in steps:
        old, population = population, population.after(step)
        tally.update(planner, planner.apply(population.since(old)).services)
    fresh, counted = Planner(NodeConfig(node_name=NODE)), Tally()
    counted.update(fresh, fresh.apply(population.since(Population())).services)

    assert [tally.total(f) for f in FAMILIES] == [counted.total(f) for f in FAMILIES]
