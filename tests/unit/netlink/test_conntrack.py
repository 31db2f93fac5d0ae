"""Conntrack messages: entries with layouts that no kernel here makes."""

import struct

import pytest
from support.kernel.entries import destination

from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.netlink.conntrack import Flow, entry_key, read_flow
from nfproxy.netlink.messages import attribute

V4 = Family.IPV4
NESTED = 0x8000
CLIENT = "192.0.2.1:1024"


def nest(kind: int, *inner: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(inner))


def direction(
    kind: int, source: str, target: str, *more: bytes, number: int = 17, first_address: int = 1
) -> bytes:
    """Return one direction's tuple as the kernel writes it."""
    ends = []
    for text in (source, target):
        address, _, port = text.rpartition(":")
        ends.append((parse_address(address), struct.pack("!H", int(port))))
    (from_address, from_port), (to_address, to_port) = ends
    return nest(
        kind,
        nest(1, attribute(first_address, from_address), attribute(first_address + 1, to_address)),
        nest(2, attribute(1, bytes((number,))), attribute(2, from_port), attribute(3, to_port)),
        *more,
    )


def entry(*attributes: bytes) -> bytes:
    return bytes((V4, 0, 0, 0)) + b"".join(attributes)


ORIGINAL = direction(1, CLIENT, "10.96.0.1:53")
REPLY = direction(2, "10.244.1.1:5353", CLIENT)
FLOW = Flow(Protocol.UDP, destination("10.96.0.1:53"), destination("10.244.1.1:5353"))
IN_ZONE = direction(1, CLIENT, "10.96.0.1:53", attribute(3, b"\0\7"))


def read(data: bytes) -> Flow | None:
    return read_flow(data, 0, len(data), V4)


@pytest.mark.parametrize("original", [ORIGINAL, IN_ZONE])
def test_a_flow_is_read(original):
    """Also if one direction has a conntrack zone of its own, which moves the parts behind it."""
    assert read(entry(original, REPLY, attribute(3, b"\0\0\0\x0e"))) == FLOW


def test_other_protocols_are_no_flows():
    """Whatever their tuples hold."""
    icmp = nest(
        2, attribute(1, b"\1"), attribute(4, b"\0\7"), attribute(5, b"\x08"), attribute(6, b"\0")
    )
    addresses = nest(1, attribute(1, bytes(4)), attribute(2, bytes(4)))
    tcp = entry(direction(1, CLIENT, "10.96.0.1:53", number=6), REPLY)

    assert read(tcp) is None
    assert read(entry(nest(1, addresses, icmp), nest(2, addresses, icmp))) is None


@pytest.mark.parametrize(
    "data",
    [
        entry(),
        entry(ORIGINAL),
        entry(ORIGINAL, REPLY[:-4]),
        entry(attribute(3, b"\0\0\0\x0e"), ORIGINAL, REPLY),
        entry(ORIGINAL, attribute(3, b"\0\0\0\x0e"), REPLY),
        entry(direction(1, CLIENT, "10.96.0.1:53", first_address=3), REPLY),
    ],
)
def test_an_unknown_layout_is_refused(data):
    """
    Else nfproxy would read other bytes as an address, and delete entries of other connections.
    """
    with pytest.raises(DataplaneError, match="layout"):
        read(data)


def test_an_entry_is_identified_by_reply_zone_and_id():
    """The kernel gets no other attribute back."""
    number, zone = attribute(12, b"\1\2\3\4"), attribute(18, b"\0\7")
    data = entry(ORIGINAL, REPLY, attribute(3, b"\0\0\0\x0e"), number, zone)

    assert entry_key(data, 0, len(data)) == REPLY + number + zone
