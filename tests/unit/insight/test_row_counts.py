"""Counts in the rows of Services: those of all frontends of a service port together."""

from support.insight import shop, sight

from nfproxy.insight.nodefacts import ConnectionCounts
from nfproxy.insight.overview import service_rows
from nfproxy.insight.rowcounts import frontends_of, with_counts
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.plan.frontends import FrontendKey

SHOP = sight(*shop())
WEB = FrontendKey(Family.IPV4, parse_address("10.96.0.10"), Protocol.TCP, 80)
NODE_PORT = FrontendKey(Family.IPV4, b"", Protocol.TCP, 30080)


def test_every_frontend_in_the_desired_state_belongs_to_a_row() -> None:
    keys = {key for row in service_rows(SHOP) for key in frontends_of(row)}
    assert keys >= SHOP.planner.desired.frontends.keys()


def test_counts_of_all_frontends_are_added() -> None:
    rows = list(service_rows(SHOP, [ObjectName("shop", "web")]))
    some = {b"": ConnectionCounts(open=2, unanswered=1)}
    more = {b"": ConnectionCounts(open=1, closing=4)}

    (row,) = with_counts(rows, {WEB: 5, NODE_PORT: 2}, {WEB: some, NODE_PORT: more})
    (other,) = with_counts(rows, {WEB: 5}, None)

    assert (row.new_connections, row.open, row.unanswered) == (7, 3, 1)
    assert (other.new_connections, other.open, other.unanswered) == (5, None, None)
