"""The part of the tables that packets meet means the same as the whole script."""

import pytest
from support.evaluation import NODE, packets
from support.golden import Case, cases

from nfproxy.insight.desiredtables import met_by, table_for
from nfproxy.insight.evaluate import evaluate
from nfproxy.insight.tabletext import RuleTable
from nfproxy.model.addresses import FAMILIES


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_part_means_what_the_whole_means(case: Case) -> None:
    """For packets to every frontend."""
    planner, text = case.planner(), case.script()
    for family in FAMILIES:
        whole = RuleTable(text, family)
        for packet in packets(text, family):
            part = table_for(family, met_by(packet), planner.desired, planner.config.program)
            found = {str(one) for one in evaluate(part, packet, NODE)}
            assert found == {str(one) for one in evaluate(whole, packet, NODE)}, packet
