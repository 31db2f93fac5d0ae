"""Connections of all Service ports together, and those to endpoints that left."""

from support.insight import shop, sight

from nfproxy.insight.nodefacts import ConnectionCounts
from nfproxy.insight.trackedtotals import PortTotal, TrackedTotals, tracked_totals
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.frontends import FrontendKey

PLANNER = sight(*shop()).planner
WEB = FrontendKey(Family.IPV4, parse_address("10.96.0.10"), Protocol.TCP, 80)
NODE_PORT = FrontendKey(Family.IPV4, b"", Protocol.TCP, 30080)
SEARCH = FrontendKey(Family.IPV4, parse_address("10.96.0.50"), Protocol.TCP, 80)
NAME = (ObjectName("shop", "web"), "http", Protocol.TCP)
FIRST, SECOND = PLANNER.desired.frontends[WEB].slot_ranges[0]
LEFT = parse_address("10.244.9.9") + port_bytes(8080)


def test_frontends_of_a_port_are_added() -> None:
    some = {FIRST: ConnectionCounts(open=2, unanswered=1, overdue=1)}
    more = {FIRST: ConnectionCounts(open=1), SECOND: ConnectionCounts(unanswered=4, closing=5)}

    found = tracked_totals({WEB: some, NODE_PORT: more}, PLANNER)

    assert found == TrackedTotals({NAME: PortTotal(3, 5)}, overdue=1, stale=0)


def test_open_connections_to_endpoints_that_left_are_stale() -> None:
    """Not those to an endpoint that is there and not used: it may terminate, and drain."""
    (piece,) = PLANNER.slices_of(ObjectName("shop", "search"))
    unused = piece.addresses[:4] + port_bytes(8080)
    counts = {LEFT: ConnectionCounts(open=3, closing=9)}

    assert tracked_totals({WEB: counts}, PLANNER).stale == 3
    assert tracked_totals({SEARCH: {unused: ConnectionCounts(open=2)}}, PLANNER).stale == 0
    assert tracked_totals({WEB: {LEFT: ConnectionCounts(unanswered=1)}}, PLANNER).stale == 0


def test_a_frontend_of_no_service_counts_nowhere() -> None:
    other = FrontendKey(Family.IPV4, parse_address("10.96.9.9"), Protocol.TCP, 80)
    assert tracked_totals({other: {LEFT: ConnectionCounts(open=1)}}, PLANNER) == TrackedTotals({})
