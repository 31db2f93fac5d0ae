"""What is counted along the way is what one would count at the end."""

from hypothesis import given
from support.properties.clusters import NODE, Population, Step, calm_histories
from support.properties.profiles import examples

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.desired import Desired
from nfproxy.plan.planner import Planner
from nfproxy.plan.sizes import FamilySize
from nfproxy.views.tally import Tally


def counted_at_the_end(desired: Desired, family: Family) -> FamilySize:
    """Return what one family's table should hold: a frontend has one owner, a list one place."""
    frontends = [one for key, one in desired.frontends.items() if key.family is family]
    slots = sum(len(ends) for one in frontends for ends in one.own_slots)
    slots += sum(
        len(ends) for key, both in desired.lists.items() if key.family is family for ends in both
    )
    elements = len(frontends) + slots
    elements += sum(len(one.own_elements) for one in frontends)
    elements += sum(1 for element in desired.shared_elements if element.family is family)
    elements += sum(len(many) for key, many in desired.affinity_lists.items() if key[0] is family)
    return FamilySize(len(frontends), slots, elements)


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
    assert tally.drops_outside(FAMILIES) == counted.drops_outside(FAMILIES)
    for family in FAMILIES:
        assert planner.desired.sizes[family] == counted_at_the_end(planner.desired, family)
