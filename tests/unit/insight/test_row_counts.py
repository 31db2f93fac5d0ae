"""Counts in the rows of Services: those of all frontends of a service port together."""

from support.insight import shop, sight

from nfproxy.insight.nodefacts import ConnectionCounts, Received
from nfproxy.insight.overview import service_rows
from nfproxy.insight.rowcounts import frontends_of, with_counts
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.plan.frontends import FrontendKey
from nfproxy.views.elementwords import format_destination

SHOP = sight(*shop())
WEB = FrontendKey(Family.IPV4, parse_address("10.96.0.10"), Protocol.TCP, 80)
END = SHOP.planner.desired.frontends[WEB].slot_ranges[0][0]
NODE_PORT = FrontendKey(Family.IPV4, b"", Protocol.TCP, 30080)


def test_every_frontend_in_the_desired_state_belongs_to_a_row() -> None:
    keys = {key for row in service_rows(SHOP) for key in frontends_of(row)}
    assert keys >= SHOP.planner.desired.frontends.keys()


def test_counts_of_all_frontends_are_added() -> None:
    rows = list(service_rows(SHOP, [ObjectName("shop", "web")]))
    some = {END: ConnectionCounts(open=2, unanswered=1)}
    more = {END: ConnectionCounts(open=1, closing=4)}

    received = {WEB: Received(5), NODE_PORT: Received(2, is_refused=True)}
    (row,) = with_counts(rows, received, {WEB: some, NODE_PORT: more})
    (other,) = with_counts(rows, {WEB: Received(5)}, None)

    assert (row.new_connections, row.refused, row.open, row.unanswered) == (7, 2, 3, 1)
    assert (other.new_connections, other.open, other.unanswered) == (5, None, None)


def test_the_busiest_endpoint_has_most_open_connections_of_all_frontends() -> None:
    rows = list(service_rows(SHOP, [ObjectName("shop", "web")]))
    first, second = SHOP.planner.desired.frontends[WEB].slot_ranges[0]
    web = {first: ConnectionCounts(open=3), second: ConnectionCounts(open=2, unanswered=9)}
    node_port = {second: ConnectionCounts(open=2)}

    (row,) = with_counts(rows, {}, {WEB: web, NODE_PORT: node_port})
    (idle,) = with_counts(rows, {}, {WEB: {first: ConnectionCounts(unanswered=1)}})

    assert row.busiest == f"{format_destination(Family.IPV4, second)} 4"
    assert idle.busiest == ""
