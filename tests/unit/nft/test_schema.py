"""How keys and values are laid out, and written as nft text."""

import re

import pytest
from support.kernel.nfttext import parse_element

from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.nft.schema import (
    DROP,
    SCHEMAS,
    Value,
    format_element,
    format_span,
    goto,
    jump,
    length,
)

V4, V6 = Family.IPV4, Family.IPV6
IP = parse_address("10.96.0.1")
POD = parse_address("10.244.1.5")
IP6 = parse_address("fd00:96::1")
TCP = b"\x06\0\0\0"
PORT = b"\0\x50\0\0"
LIST = schema.number_bytes(4_000_000_000) + schema.number_bytes(7)


def wide(text: str) -> bytes:
    return schema.prefix_key(parse_prefix(text))


def ranged(text: str) -> bytes:
    return schema.source_range_key(parse_prefix(text), schema.number_bytes(7) + bytes(4))


ROWS: list[tuple[str, Family, bytes, Value, str]] = [
    ("frontends", V4, IP + TCP + PORT, DROP, "10.96.0.1 . tcp . 80 : drop"),
    ("frontends", V6, IP6 + b"\x84\0\0\0" + PORT, goto("reject-connection"),
     "fd00:96::1 . sctp . 80 : goto reject-connection"),
    ("loopback-rejects", V4, b"\x11\0\0\0" + b"\x75\x30\0\0", None, "udp . 30000"),
    ("equal-hashes", V6, 2 * schema.number_bytes(15), None, "15 . 15"),
    ("node-ports", V4, b"\x11\0\0\0" + b"\x75\x30\0\0", goto("node-port-external-udp-3"),
     "udp . 30000 : goto node-port-external-udp-3"),
    ("cluster-ips", V6, IP6, None, "fd00:96::1"),
    ("service-cidrs", V4, wide("10.96.0.0/12"), None, "10.96.0.0/12"),
    ("service-cidrs", V4, wide("0.0.0.0/0"), None, "0.0.0.0/0"),
    ("service-cidrs", V6, wide("8000::/1"), None, "8000::/1"),
    ("node-port-addresses", V4, wide("192.0.2.7/32"), None, "192.0.2.7"),
    ("source-ranges", V4, ranged("10.0.0.0/8"), None, "10.0.0.0 . 7 . 0 . 8"),
    ("source-ranges", V6, ranged("::/0"), None, ":: . 7 . 0 . 0"),
    ("guarded-frontends", V4, IP + TCP + PORT, DROP, "10.96.0.1 . tcp . 80 : drop"),
    ("endpoints-tcp", V4, IP + PORT + schema.number_bytes(32770), POD + b"\x1f\x90\0\0",
     "10.96.0.1 . 80 . 32770 : 10.244.1.5 . 8080"),
    ("node-port-endpoints-sctp", V6, PORT + schema.number_bytes(0), IP6 + PORT,
     "80 . 0 : fd00:96::1 . 80"),
    ("list-endpoints-udp-0", V4, schema.number64_bytes(7 << 32) + bytes(4), POD + PORT,
     "7 . 0 . 0 : 10.244.1.5 . 80"),
    ("record-frontends-tcp", V4, IP + TCP + PORT, jump("record-0123456789abcdef"),
     "10.96.0.1 . tcp . 80 : jump record-0123456789abcdef"),
    ("record-node-ports-tcp", V4, TCP + PORT, jump("record-0123456789abcdef"),
     "tcp . 80 : jump record-0123456789abcdef"),
    ("sticky-frontends", V4, IP + TCP + PORT, goto("cluster-tcp-3"),
     "10.96.0.1 . tcp . 80 : goto cluster-tcp-3"),
    ("sticky-node-ports", V4, TCP + PORT, goto("node-port-external-tcp-3"),
     "tcp . 80 : goto node-port-external-tcp-3"),
    ("affinity-endpoints-tcp-e", V4, LIST + schema.number_bytes(0x4001_000A), POD + PORT,
     "4000000000 . 7 . 4001:a : 10.244.1.5 . 80"),
    ("affinity-local", V6, LIST + schema.number_bytes(0x4001_000A), None,
     "4000000000 . 7 . 1073807370"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "family", "key", "value", "text"), ROWS)
def test_elements_are_written_as_nft_writes_them(
    name: str, family: Family, key: bytes, value: Value, text: str
):
    """And what is written can be read back."""
    assert text == format_element(SCHEMAS[name], key, value, family)
    assert (key, value) == parse_element(SCHEMAS[name], text)


@pytest.mark.parametrize(("name", "family", "key", "value", "text"), ROWS)
def test_keys_have_the_length_of_their_fields(
    name: str, family: Family, key: bytes, value: Value, text: str
):
    """A range has two of them."""
    ends = 1 if SCHEMAS[name].interval is schema.Interval.NO else 2

    assert ends * length(SCHEMAS[name].key, family) == len(key)


def test_every_managed_set_has_an_example_here():
    """A set that is added to the schema is added to the table above."""
    kinds = {re.sub("-(tcp|udp|sctp)(-[0-9a-f])?$", "", name) for name in SCHEMAS}

    assert kinds == {re.sub("-(tcp|udp|sctp)(-[0-9a-f])?$", "", row[0]) for row in ROWS}


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        ("10.0.0.0", "10.0.0.0", "10.0.0.0"),
        ("10.0.0.0", "10.0.0.1", "10.0.0.0/31"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.1-10.0.0.2"),
        ("10.0.0.0", "10.0.0.2", "10.0.0.0-10.0.0.2"),
        ("0.0.0.0", "255.255.255.255", "0.0.0.0/0"),
        ("128.0.0.0", "255.255.255.255", "128.0.0.0/1"),
        ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
    ],
)
def test_a_range_is_a_prefix_where_it_can_be(first: str, last: str, text: str):
    """A stranger's ranges need not be prefixes."""
    assert text == format_span(parse_address(first), parse_address(last))


def test_ports_are_in_network_order_and_numbers_in_host_order():
    """A port is what a packet holds, a slot what numgen makes."""
    assert schema.port_bytes(443) == b"\x01\xbb\0\0"
    assert schema.port_of(b"xxxx\x01\xbb\0\0", 4) == 443
    assert schema.number_of(schema.number_bytes(0xDEADBEEF), 0) == 0xDEADBEEF
    assert schema.protocol_bytes(Protocol.SCTP) == b"\x84\0\0\0"


def test_an_unknown_protocol_is_written_as_a_number():
    """A stranger's element is shown, too."""
    key = IP + b"\x88\0\0\0" + PORT

    assert format_element(SCHEMAS["frontends"], key, DROP, V4) == "10.96.0.1 . 136 . 80 : drop"
