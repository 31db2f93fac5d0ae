"""
Rules do what kube-proxy's contract says: three opinions on packets to random Services.

The contract reads objects, the evaluator the rules that planning made of them. `test_packets` has
the third: what real packets get.
"""

import pytest
from hypothesis import given
from support.packets.scenes import SECOND_IP
from support.properties.clusters import Population
from support.properties.contract import Contract, result
from support.properties.packetcases import PLACES, Case, cases, sample
from support.properties.profiles import examples

from nfproxy.insight.desiredtables import met_by, table_for
from nfproxy.insight.evaluate import evaluate
from nfproxy.insight.packet import NodeAddresses
from nfproxy.insight.tabletext import RuleTable
from nfproxy.model.addresses import FAMILIES, parse_address
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.script import script

OWN = frozenset(
    parse_address(text) for pair in (PLACES["node-1"].addresses, SECOND_IP) for text in pair
)
NODE = NodeAddresses(OWN)
ROWS = 150


@pytest.mark.parametrize("is_whole", [True, False], ids=["script", "part"])
def test_the_rules_do_what_the_contract_says(is_whole: bool) -> None:
    """By the script as a whole, and by the part of it that a packet meets."""

    @given(cases)
    @examples(60 if is_whole else 20)
    def look(case: Case) -> None:
        planner = Planner(case.config)
        planner.apply(case.population().since(Population()))
        contract = Contract(case, OWN)
        text = script(planner.desired, planner.config.program, FAMILIES) if is_whole else ""
        tables = {family: RuleTable(text, family) for family in FAMILIES}
        for row in sample(case.seed, ROWS):
            packet = row.packet
            table = tables[packet.family]
            if not is_whole:
                desired, config = planner.desired, planner.config.program
                table = table_for(packet.family, met_by(packet), desired, config)
            found = {result(one) for one in evaluate(table, packet, NODE)}
            assert found == contract.expected(row), str(row)

    look()
