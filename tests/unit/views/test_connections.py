"""Connections by service port, added up from counters that may start again at 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import Claim, ObjectName, Protocol
from nfproxy.nft import schema
from nfproxy.plan.frontends import FrontendKey
from nfproxy.views.connections import (
    ConnectionTotals,
    Counted,
    Deletion,
    Map,
    PortName,
    Reading,
)

WEB, DNS = ObjectName("default", "web"), ObjectName("kube-system", "dns")
V4, V6 = Family.IPV4, Family.IPV6


class Counter(NamedTuple):
    """An element, by its map and its key."""

    map: Map
    key: bytes


def at(address: str, port: int, protocol: int = Protocol.TCP) -> Counter:
    """Return the element of a frontend with an address."""
    packed = parse_address(address)
    key = packed + schema.protocol_bytes(protocol) + schema.port_bytes(port)
    return Counter(Map(V4 if len(packed) == 4 else V6, schema.FRONTENDS), key)


def node_port(port: int, protocol: int = Protocol.TCP, family: Family = V4) -> Counter:
    """Return the element of a node port."""
    key = schema.protocol_bytes(protocol) + schema.port_bytes(port)
    return Counter(Map(family, schema.NODE_PORTS), key)


def frontend(counter: Counter) -> FrontendKey | None:
    """Return the frontend of an element."""
    return FrontendKey.of_element(*counter.map, counter.key)


CLUSTER, CLUSTER_V6, NODE_PORT = at("10.96.0.1", 80), at("fd00::1", 80), node_port(30080)
DNS_UDP = at("10.96.0.10", 53, Protocol.UDP)
OWNERS = {
    frontend(CLUSTER): Claim("", WEB, "http"),
    frontend(CLUSTER_V6): Claim("", WEB, "http"),
    frontend(NODE_PORT): Claim("", WEB, "http"),
    frontend(DNS_UDP): Claim("", DNS, "dns"),
}
HTTP = PortName(WEB, "http", Protocol.TCP)
MAPS = [Map(family, name) for family in (V4, V6) for name in schema.COUNTED]

#: The last number of a generation; the next one is 0.
LAST = 0xFFFF


class Node:
    """A kernel's counters and their reader, after a first reading."""

    def __init__(self, first: int = 0, generation: int = LAST) -> None:
        self.services = {WEB, DNS}
        self.connections = ConnectionTotals()
        self.generation = generation
        self.read({CLUSTER: first})

    def read(
        self, counters: Mapping[Counter, int], *deletions: tuple[int, Counter, int]
    ) -> dict[PortName, int]:
        """
        Read counters and deletions: generations after the current one, element, its count.

        Return the totals.
        """
        readings = {
            where: Reading(
                self.generation,
                [Counted(c.key, n) for c, n in counters.items() if c.map == where and n],
            )
            for where in MAPS
        }
        reported = [
            Deletion((self.generation + after) & 0xFFFF, c.map, Counted(c.key, n))
            for after, c, n in deletions
        ]
        self.connections.read(readings, reported, OWNERS.get, self.services.__contains__)
        return dict(self.connections.totals)

    def commit(self) -> None:
        """Begin a new generation."""
        self.generation = (self.generation + 1) & 0xFFFF


def test_what_was_counted_before_the_first_reading_is_not_ours() -> None:
    """A new process finds the counters of the one before, and does not know its totals."""
    node = Node(first=1000)

    assert node.read({CLUSTER: 1000}) == {}
    assert node.read({CLUSTER: 1003}) == {HTTP: 3}


def test_all_frontends_of_a_service_port_are_one() -> None:
    """Both families, cluster IP and node port."""
    assert Node().read({CLUSTER: 1, CLUSTER_V6: 2, NODE_PORT: 3}) == {HTTP: 6}


def test_an_element_that_was_replaced_counts_from_the_beginning() -> None:
    """The total never decreases, whether or not the deletion is reported."""
    node = Node()
    node.read({CLUSTER: 10})

    assert node.read({CLUSTER: 4}) == {HTTP: 14}
    assert node.read({}) == {HTTP: 14}
    assert node.read({CLUSTER: 5}) == {HTTP: 19}


def test_what_an_element_counted_before_its_deletion_is_added() -> None:
    """Also that of an element that came and went between two readings."""
    node = Node()
    node.read({CLUSTER: 10})
    node.commit()

    assert node.read({CLUSTER: 20}, (0, CLUSTER, 15)) == {HTTP: 35}
    node.commit()
    node.commit()
    assert node.read({}, (-1, CLUSTER, 22), (0, NODE_PORT, 3)) == {HTTP: 40}


def test_a_deletion_during_a_reading_waits_for_the_next() -> None:
    """The reading found the element as it was before."""
    node = Node()
    assert node.read({CLUSTER: 12}, (1, CLUSTER, 15)) == {HTTP: 12}
    node.commit()

    assert node.read({CLUSTER: 4}) == {HTTP: 19}
    assert node.read({CLUSTER: 5}) == {HTTP: 20}


def test_a_deletion_that_is_reported_late_is_not_counted() -> None:
    """The reading before it found the new element, and took its count for more of the old one's."""
    node = Node()
    node.read({CLUSTER: 1000})
    node.commit()
    assert node.read({CLUSTER: 2}) == {HTTP: 1002}

    assert node.read({CLUSTER: 3}, (0, CLUSTER, 1010)) == {HTTP: 1003}


def test_deletions_before_the_first_reading_are_not_ours() -> None:
    """They are of the time before the start."""
    node = Node.__new__(Node)
    node.services, node.connections, node.generation = {WEB}, ConnectionTotals(), 5

    assert node.read({CLUSTER: 1}, (0, CLUSTER, 100)) == {}
    assert node.read({CLUSTER: 2}) == {HTTP: 1}


def test_without_a_table_what_it_had_counted_stays() -> None:
    """Another process flushed the ruleset, and nfproxy makes it again."""
    node = Node()
    node.read({CLUSTER: 10})
    gone = dict.fromkeys(MAPS, Reading(None, ()))
    node.connections.read(gone, (), OWNERS.get, node.services.__contains__)
    node.commit()

    assert node.read({CLUSTER: 4}) == {HTTP: 14}


#: Connections, a replacement of the element, a reading, and a replacement during a reading.
STEPS = st.lists(st.sampled_from(["connect", "replace", "read", "read, then replace"]))


@given(STEPS, st.integers(0, LAST))
def test_every_connection_is_counted_whatever_happens(steps: list[str], generation: int) -> None:
    """Exactly once, as long as all deletions are reported."""
    node = Node(generation=generation)
    made = count = 0
    deleted: list[tuple[int, int]] = []  # generation, count

    def replace() -> None:
        nonlocal count
        node.commit()
        if count:
            deleted.append((node.generation, count))
        count = 0

    def read() -> dict[PortName, int]:
        now = node.generation
        seen = [((number - now + 0x8000) % 0x10000 - 0x8000, CLUSTER, n) for number, n in deleted]
        deleted.clear()
        return node.read({CLUSTER: count}, *seen)

    for step in [*steps, "read"]:
        if step == "connect":
            made, count = made + 1, count + 1
        elif step == "replace":
            replace()
        elif step == "read":
            read()
        else:  # the map is read, then comes the deletion, then deletions are
            seen, generation_read = count, node.generation
            replace()
            after = node.generation
            node.generation, count = generation_read, seen
            read()
            node.generation, count = after, 0

    assert read().get(HTTP, 0) == made


def test_ports_differ_by_protocol() -> None:
    """Two ports of a Service may have one number and no name."""
    node = Node()

    assert {PortName(DNS, "dns", Protocol.UDP): 7} == node.read({DNS_UDP: 7})


def test_a_deleted_service_loses_its_totals() -> None:
    """A new one with its name starts at 0."""
    node = Node()
    node.read({CLUSTER: 10, DNS_UDP: 1})
    node.services.discard(WEB)
    assert {DNS} == {name.service for name in node.read({DNS_UDP: 1})}
    node.services.add(WEB)

    assert node.read({CLUSTER: 2, DNS_UDP: 1})[HTTP] == 2


@pytest.mark.parametrize(
    "counter",
    [
        at("10.96.0.99", 80),
        node_port(31000),
        Counter(CLUSTER.map, b"short"),
        node_port(30080, 99),
        Counter(CLUSTER_V6.map, CLUSTER.key),
    ],
    ids=["unknown", "unknown node port", "another layout", "a protocol", "another family"],
)
def test_elements_without_a_service_are_not_counted(counter: Counter) -> None:
    """It is about to be deleted, or another process made it."""
    assert Node().read({counter: 5}) == {}


@pytest.mark.parametrize(
    ("counter", "expected"),
    [
        (CLUSTER, FrontendKey(V4, parse_address("10.96.0.1"), Protocol.TCP, 80)),
        (CLUSTER_V6, FrontendKey(V6, parse_address("fd00::1"), Protocol.TCP, 80)),
        (
            node_port(65535, Protocol.SCTP, V6),
            FrontendKey(V6, b"", Protocol.SCTP, 65535),
        ),
    ],
)
def test_an_elements_key_names_its_frontend(counter: Counter, expected: FrontendKey) -> None:
    """The same key as the planner's."""
    assert expected == frontend(counter)
