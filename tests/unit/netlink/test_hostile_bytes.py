"""Whatever bytes a netlink socket gives, reading ends, with values or with a DataplaneError."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfproxy.dataplane import deletions, notifications
from nfproxy.errors import DataplaneError
from nfproxy.host.addresschanges import LocalAddresses
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.netlink import (
    conntrack,
    elements,
    nftables,
    routing,
    rtnetlink,
    sockets,
    tracked,
    trafficcontrol,
)
from nfproxy.netlink.messages import HEADER, attribute, error_number, generic, messages, string
from nfproxy.nft import schema
from nfproxy.nft.schema import SCHEMAS, TABLE
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.transition import Operation

IP, PORT = parse_address("10.96.0.1"), schema.port_bytes(80)
ENDPOINT = IP + PORT
TABLES = b"".join(attribute(kind, b"\1\0\0\0") for kind in range(1, 12))


def good() -> list[bytes]:
    """Return messages as the kernel sends them: of every kind that is read."""
    operations = [
        Operation(True, Family.IPV4, "endpoints-tcp", ENDPOINT + bytes(4), ENDPOINT),
        Operation(True, Family.IPV4, "frontends", IP + bytes(8), schema.goto("cluster-tcp-1")),
        Operation(True, Family.IPV4, "service-cidrs", IP + IP),
    ]
    payloads = [generic(r.family) + r.payload for r in elements.element_requests(operations)]
    payloads.append(generic(2) + string(1, TABLE) + string(2, "frontends") + TABLES)
    payloads.append(struct.pack("=BBBBI", 2, 24, 0, 0, 1) + attribute(1, IP) + attribute(2, IP))
    payloads.append(struct.pack("=i", -2))
    tuple_ = attribute(0x8001, attribute(1, IP) + attribute(2, IP)) + attribute(
        0x8002, attribute(1, b"\x11") + attribute(2, b"\0\1") + attribute(3, b"\0\1")
    )
    payloads.append(generic(2) + attribute(0x8001, tuple_) + attribute(0x8002, tuple_))
    hook = attribute(1, b"\0\0\0\1") + attribute(2, b"\xff\xff\xff\x9c")
    payloads.append(generic(2) + string(1, TABLE) + string(3, "services") + attribute(4, hook))
    # Two points of ranges.
    keys = (attribute(1, attribute(1, attribute(1, key))) for key in (IP, ENDPOINT[:4]))
    payloads.append(generic(2) + string(1, TABLE) + attribute(3, b"".join(keys)))
    return payloads


kinds = st.sampled_from(
    [2, 3, 16, 20, 21, 0x100, *(nftables.SUBSYSTEM << 8 | kind for kind in range(30))]
)


#: Values that no kernel sends, but that have the right layout.
ODD = [
    generic(2) + string(3, "services") + attribute(4, attribute(1, b"\0\0\0\xff")),
    generic(2)
    + attribute(
        3,
        b"".join(
            attribute(1, attribute(1, attribute(1, key)))
            for key in (bytes(4), b"\xff" * 8, b"\xff" * 4)
        ),
    ),
]


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Return a payload: random, or one of the kernel's with some bytes changed, and cut."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=60) | st.sampled_from(ODD))
    data = bytearray(draw(st.sampled_from(good())))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@st.composite
def buffers(draw: st.DrawFn) -> bytes:
    """Return what one `recv` gives: messages, some of which lie about their length."""
    data = b""
    for payload in draw(st.lists(payloads(), max_size=4)):
        size = draw(st.just(HEADER.size + len(payload)) | st.integers(0, 200))
        data += HEADER.pack(size, draw(kinds), 0, 1, 7) + payload
    return data + draw(st.binary(max_size=20))


def read_all(data: bytes) -> list[Any]:
    """Read the messages in a buffer, and errors in them."""
    found = list(messages(data))
    return [error_number(data, start) for _, _, _, start, _, _ in found]


def flows(data: bytes) -> list[Any]:
    return [
        (
            conntrack.read_flow(data, 0, len(data), family),
            conntrack.entry_key(data, 0, len(data)),
            conntrack.has_zone(data, 0, len(data)),
        )
        for family in FAMILIES
    ]


def joined(data: bytes) -> list[Any]:
    return [
        list(elements.join_ranges(elements.raw_elements(data), one)) for one in SCHEMAS.values()
    ]


def expressions(data: bytes) -> list[Any]:
    return list(nftables.expressions_of(nftables.RuleRow.read(data)))


#: Everything that reads one payload.
READERS: list[Callable[[bytes], Any]] = [
    nftables.TableRow.read,
    lambda data: nftables.ChainRow.read(data).ip_hook,
    nftables.SetRow.read,
    nftables.ObjectRow.read,
    expressions,
    joined,
    flows,
    rtnetlink.listed_address,
    nftables.generation,
    elements.set_of,
    lambda data: list(elements.counted_elements(data)),
    lambda data: list(elements.listed_elements(data)),
    lambda data: [tracked.read_tracked(data, 0, len(data), family) for family in FAMILIES],
    routing.read_route,
    routing.read_link,
    trafficcontrol.read_queue,
    trafficcontrol.read_filter,
    routing.read_hardware_address,
    routing.read_bridge_port,
    lambda data: list(deletions._deleted(data)),
    lambda data: nftables.changing_process(data, 0, len(data)),
    lambda data: nftables.chain_of(nftables.DELETE_CHAIN, data, 0, len(data)),
    lambda data: nftables.is_dormant(data, 0, len(data)),
]


@given(payloads())
@pytest.mark.parametrize("read", READERS)
def test_any_payload_is_read_or_refused(read: Callable[[bytes], Any], data: bytes) -> None:
    with suppress(DataplaneError):
        read(data)


@given(buffers())
@pytest.mark.parametrize(
    "read", [read_all, lambda data: list(rtnetlink.address_changes(data))], ids=["all", "addresses"]
)
def test_any_buffer_is_read_or_refused(read: Callable[[bytes], Any], data: bytes) -> None:
    with suppress(DataplaneError):
        read(data)


class Talker:
    """A socket that gives some buffers, and then says that nothing more is there."""

    def __init__(self, given: list[bytes]) -> None:
        self.given = iter(given)

    def recv(self, *_: object) -> bytes:
        for data in self.given:
            return data
        raise BlockingIOError(11, os.strerror(11))

    def send(self, data: bytes) -> int:
        return len(data)

    def getsockname(self) -> tuple[int, int]:
        return 7, 0

    def setsockopt(self, *_: object) -> None: ...
    def close(self) -> None: ...


@given(st.lists(buffers(), max_size=4))
def test_foreign_changes_that_cannot_be_read_count_as_lost(given: list[bytes]) -> None:
    """The event loop reads them: nothing is raised there, and all of them are read."""
    with mock.patch.object(notifications, "listen", return_value=Talker(given)):
        changes = notifications.ForeignChanges(7)
    with mock.patch.object(deletions, "listen", return_value=Talker(given)):
        counted = deletions.CountedDeletions(7)
    changes.read()
    list(counted.read())


@given(st.lists(buffers(), max_size=4))
def test_addresses_that_cannot_be_read_are_listed_again(given: list[bytes]) -> None:
    """The event loop reads these, too."""
    local = LocalAddresses.__new__(LocalAddresses)
    local._listening = Talker(given)  # type: ignore[assignment]
    local._assigned, local._lost = set(), False
    local._read_changes()


@given(st.lists(buffers(), max_size=4))
def test_a_commit_and_a_listing_end(given: list[bytes]) -> None:
    with mock.patch.object(sockets, "open_socket", return_value=Talker(given)):
        netlink = sockets.NftSocket.__new__(sockets.NftSocket)
        sockets.NetlinkSocket.__init__(netlink)
    netlink._send_buffer = 1 << 20
    for call in (
        lambda: netlink.commit([nftables.delete_table(2, TABLE)]),
        lambda: netlink.request(1, b"", "do it"),
        lambda: netlink.tables(2),
    ):
        with suppress(DataplaneError):
            call()


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=20), st.none() | st.binary(max_size=20) | st.just(schema.DROP)
        ),
        max_size=4,
    )
)
def test_elements_of_any_layout_are_strays_at_worst(found: list[tuple[bytes, Any]]) -> None:
    """Tables of another layout have keys and values of other lengths."""

    def listing(family: Family, name: str) -> Iterator[tuple[bytes, Any]]:
        return iter(found)

    observed = observe(listing, FAMILIES)
    assert observed.elements.total() == 2 * len(found) * len(schema.SCHEMAS)
