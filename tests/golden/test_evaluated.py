"""The evaluator understands every rule of the cases, as rendered and as nft lists it."""

import pytest
from support.evaluation import NODE, evaluated, packets
from support.golden import Case, cases

from nfproxy.dataplane.lookups import kernel_lookups
from nfproxy.insight.desiredtables import met_by, table_for
from nfproxy.insight.evaluate import evaluate
from nfproxy.insight.packet import Fate
from nfproxy.insight.tabletext import RuleTable
from nfproxy.model.addresses import FAMILIES
from nfproxy.netlink.sockets import NftSocket
from nfproxy.tools.lab import Lab

pytestmark = pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)


def test_no_packet_comes_to_a_rule_that_is_not_understood(case: Case) -> None:
    """From any client, to any frontend."""
    text = case.expected.read_text("utf-8")
    tables = {family: RuleTable(text, family) for family in FAMILIES}
    met = 0
    for family in FAMILIES:
        for packet in packets(text, family):
            for outcome in evaluate(tables[family], packet, NODE):
                met += 1
                assert outcome.fate is not Fate.UNKNOWN, f"{packet}: {outcome}"
    assert met


def test_a_listing_means_the_same_as_the_script(case: Case, lab: Lab) -> None:
    """Numbers and words differ, and implied matches are left out; the outcomes are the same."""
    text = case.expected.read_text("utf-8")
    namespace = lab.namespace("listed")
    namespace.run(["nft", "-f", "-"], input=text)
    listing = namespace.run(["nft", "list", "ruleset"]).stdout

    assert evaluated(listing, text) == evaluated(text, text)


def test_elements_that_are_looked_up_in_the_kernel_mean_the_same(case: Case, lab: Lab) -> None:
    """One by one, by key, also in maps of remembered clients."""
    planner, text = case.planner(), case.expected.read_text("utf-8")
    namespace = lab.namespace("looked-up")
    namespace.run(["nft", "-f", "-"], input=text)
    with namespace.call(NftSocket) as netlink:
        lookups = kernel_lookups(netlink)
        for family in FAMILIES:
            whole = RuleTable(text, family)
            for packet in list(packets(text, family))[::7]:
                part = table_for(family, met_by(packet), planner.desired, planner.config.program)
                found = evaluate(part.with_find(lookups(family)), packet, NODE)
                assert set(map(str, found)) == set(map(str, evaluate(whole, packet, NODE)))
    lab.drop(namespace)
