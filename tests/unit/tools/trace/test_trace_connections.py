"""From messages to connections, where ids and headers are not what they seem."""

from __future__ import annotations

import struct

from nfproxy.model.service import Protocol
from nfproxy.netlink.tracing import TraceEvent, TraceKind, TraceVerdict
from nfproxy.tools.trace.endings import TraceEnding, ending_of, lost_between
from nfproxy.tools.trace.headers import PacketPeer, read_headers
from nfproxy.tools.trace.rules import rules_in
from nfproxy.tools.trace.table import TRACE_TABLE, Waypoint
from nfproxy.tools.trace.traced import TracedConnection, TracedConnections

POD, CLUSTER_IP, ENDPOINT = b"\x0a\x01\0\x01", b"\x0a\x60\0\x01", b"\x0a\x01\0\x02"
SYN, SYN_ACK, RST = 0x02, 0x12, 0x14


def packet(
    source: tuple[bytes, int],
    destination: tuple[bytes, int],
    *,
    flags: int = SYN,
    identification: int = 7,
    sequence: int = 1,
) -> tuple[bytes, bytes]:
    """Return network and transport header of a TCP packet."""
    network = struct.pack("!BBHHHBBH", 0x45, 0, 60, identification, 0, 64, 6, 0)
    transport = struct.pack(
        "!HHIIBBHHH", source[1], destination[1], sequence, 0, 0xA0, flags, 0, 0, 0
    )
    return network + source[0] + destination[0], transport


def at(place: Waypoint, headers: tuple[bytes, bytes] = (b"", b""), *, id: int = 1) -> TraceEvent:
    """Return the message of a packet that passes one of the table's chains."""
    return TraceEvent(
        id, 1, TRACE_TABLE, place.value, TraceKind.POLICY, 0, TraceVerdict.ACCEPT, "", *headers
    )


def dropped(*, id: int = 1) -> TraceEvent:
    return TraceEvent(id, 1, "filter", "f", TraceKind.RULE, 4, TraceVerdict.DROP)


ASKED = packet((POD, 40000), (CLUSTER_IP, 80))
LED = packet((POD, 40000), (ENDPOINT, 8080))
ANSWER = packet((ENDPOINT, 8080), (POD, 40000), flags=SYN_ACK, sequence=9)


def taken(*events: TraceEvent) -> list[TracedConnection]:
    connections = TracedConnections()
    for number, event in enumerate(events):
        connections.take(event, number / 10)
    return list(connections)


def test_a_packet_and_its_answer_are_one_connection() -> None:
    """The answer has another id, and the endpoint's address."""
    (one,) = taken(
        at(Waypoint.PREROUTING, ASKED),
        at(Waypoint.TRANSLATED, LED),
        at(Waypoint.FORWARD, LED),
        at(Waypoint.POSTROUTING, LED),
        at(Waypoint.SENT, LED),
        at(Waypoint.TRANSLATED, ANSWER, id=2),
        at(Waypoint.FORWARD, ANSWER, id=2),
        at(Waypoint.POSTROUTING, ANSWER, id=2),
        at(Waypoint.SENT, packet((CLUSTER_IP, 80), (POD, 40000), flags=SYN_ACK), id=2),
    )
    assert (one.client, one.asked, one.destination) == (
        PacketPeer(POD, 40000),
        PacketPeer(CLUSTER_IP, 80),
        PacketPeer(ENDPOINT, 8080),
    )
    assert ending_of(one) is TraceEnding.ANSWERED
    assert one.is_over
    assert one.answered_s == 0.5


def test_an_answer_with_the_id_of_an_earlier_one_is_its_own_connection_s() -> None:
    """All answers to new SCTP associations leave by one socket, and look alike for the kernel."""
    later = packet((POD, 40001), (CLUSTER_IP, 80))
    led = packet((POD, 40001), (ENDPOINT, 8080))
    answer = packet((ENDPOINT, 8080), (POD, 40001), flags=SYN_ACK, sequence=9)
    first, second = taken(
        at(Waypoint.PREROUTING, ASKED),
        at(Waypoint.SENT, LED),
        at(Waypoint.TRANSLATED, ANSWER, id=2),
        at(Waypoint.SENT, ANSWER, id=2),
        at(Waypoint.PREROUTING, later, id=3),
        at(Waypoint.SENT, led, id=3),
        at(Waypoint.TRANSLATED, answer, id=2),
        at(Waypoint.SENT, answer, id=2),
    )
    assert [ending_of(one) for one in (first, second)] == [TraceEnding.ANSWERED] * 2
    assert second.answered_s == 0.6


def test_a_packet_that_a_bridge_copied_is_the_same() -> None:
    """It has a new id from there on."""
    (one,) = taken(
        at(Waypoint.PREROUTING, ASKED),
        at(Waypoint.TRANSLATED, LED),
        at(Waypoint.FORWARD, LED, id=5),
        dropped(id=5),
    )
    assert ending_of(one) is TraceEnding.DROPPED_BY_OTHERS
    assert one.way.place is Waypoint.FORWARD


def test_a_first_packet_that_is_sent_again_begins_again_in_the_same_connection() -> None:
    """The first one was lost; the second one is what counts."""
    again = packet((POD, 40000), (CLUSTER_IP, 80), identification=8)
    (one,) = taken(
        at(Waypoint.PREROUTING, ASKED),
        at(Waypoint.TRANSLATED, LED),
        at(Waypoint.PREROUTING, again, id=3),
        at(Waypoint.TRANSLATED, packet((POD, 40000), (ENDPOINT, 8080), identification=8), id=3),
        at(Waypoint.FORWARD, id=3),
    )
    assert one.packets == 2
    assert ending_of(one) is TraceEnding.LOST
    assert (lost_between(one.way).after, lost_between(one.way).before) == ("forward", "postrouting")


def test_a_packet_over_loopback_is_one_packet() -> None:
    """A process asks; the packet comes back by interface lo."""
    (one,) = taken(
        at(Waypoint.OUTPUT, ASKED),
        at(Waypoint.OUTPUT_TRANSLATED, LED),
        at(Waypoint.POSTROUTING, LED),
        at(Waypoint.SENT, LED),
        at(Waypoint.TRANSLATED, LED, id=2),
        at(Waypoint.INPUT, LED, id=2),
        at(Waypoint.DELIVERED, LED, id=2),
    )
    assert one.packets == 1
    assert ending_of(one) is TraceEnding.UNANSWERED


def test_a_refusal_is_an_answer() -> None:
    """By a reset of the endpoint."""
    reset = packet((ENDPOINT, 8080), (POD, 40000), flags=RST)
    (one,) = taken(
        at(Waypoint.PREROUTING, ASKED),
        at(Waypoint.TRANSLATED, LED),
        at(Waypoint.SENT, LED),
        at(Waypoint.TRANSLATED, reset, id=2),
        at(Waypoint.SENT, reset, id=2),
    )
    assert ending_of(one) is TraceEnding.REFUSED_BY_ENDPOINT


def test_messages_about_nothing_known_are_left_alone() -> None:
    """Without headers, or of a packet whose beginning was not seen."""
    assert taken(at(Waypoint.FORWARD), dropped(), at(Waypoint.FORWARD, ASKED, id=9)) == []


def test_headers_that_are_cut_short_or_of_another_protocol() -> None:
    """They are no error."""
    network, transport = ASKED
    for cut in range(len(network)):
        assert read_headers(network[:cut], transport) is None
    for cut in range(4):
        assert read_headers(network, transport[:cut]) is None
    icmp = network[:9] + b"\x01" + network[10:]
    assert read_headers(icmp, transport) is None
    later_fragment = network[:6] + b"\0\x10" + network[8:]
    assert read_headers(later_fragment, transport) is None
    headers = read_headers(network, transport)
    assert headers is not None
    assert headers.protocol == Protocol.TCP


def test_the_rules_in_a_listing_of_a_chain() -> None:
    """A long set spans lines; head, policy and comment are no rules."""
    text = """\
table inet filter {
  chain forward {
    comment "all of it"
    type filter hook forward priority filter; policy drop;
    ip daddr { 10.0.0.1, 10.0.0.2,
               10.0.0.3 } drop
    ct state vmap { established : accept, related : accept } comment "a } b"
    accept
  }
}
"""
    assert list(rules_in(text.splitlines())) == [
        "ip daddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } drop",
        'ct state vmap { established : accept, related : accept } comment "a } b"',
        "accept",
    ]
