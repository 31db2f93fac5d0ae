"""The names of chains, and what is read back from them."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfproxy.model.service import Protocol
from nfproxy.nft.chains import (
    FIXED_CHAINS,
    AffinityList,
    Draw,
    FindChain,
    Guard,
    Policy,
    RecordChain,
    Search,
    Shape,
    affinity_list,
    is_ours,
    list_size,
    parse_draw,
    parse_guard,
    parse_shape,
    smaller_size,
)

TCP, UDP = Protocol.TCP, Protocol.UDP


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        (Shape(Policy.CLUSTER, TCP, cluster=3), "cluster-tcp-3"),
        (Shape(Policy.EXTERNAL, UDP, cluster=1, node_port=True), "node-port-external-udp-1"),
        (Shape(Policy.LOCAL, TCP, cluster=5, local=2, sticky=True), "local-tcp-2-of-5-sticky"),
        (Shape(Policy.LOCAL, TCP, cluster=5, node_port=True), "node-port-local-tcp-0-of-5"),
        (Shape(Policy.LOCAL, TCP, cluster=5, routed=True), "routed-local-tcp-0-of-5"),
    ],
)
def test_a_shape_s_name_says_what_it_is(shape: Shape, name: str):
    """The name is all that a person sees in a listing, and all that a new process has."""
    assert name == shape.name
    assert shape == parse_shape(name)


counts = st.integers(1, 100_000)
shapes = st.one_of(
    st.builds(
        Shape,
        policy=st.sampled_from([Policy.CLUSTER, Policy.EXTERNAL]),
        protocol=st.sampled_from(Protocol),
        cluster=counts,
        node_port=st.booleans(),
        sticky=st.booleans(),
        list=st.integers(0, 2**64 - 1),
    ),
    st.builds(
        Shape,
        policy=st.just(Policy.LOCAL),
        protocol=st.sampled_from(Protocol),
        cluster=counts,
        local=st.integers(0, 32768),
        node_port=st.booleans(),
        sticky=st.booleans(),
    ),
)


@given(shapes)
@settings(max_examples=200, deadline=None)
def test_every_shape_is_read_back_from_its_name(shape: Shape):
    """A takeover knows the rules of every chain it finds in use."""
    assert shape == parse_shape(shape.name)
    assert is_ours(shape.name)
    assert len(shape.name) < 128


@pytest.mark.parametrize(
    "name",
    [
        *("", "cluster", "cluster-tcp", "cluster-tcp-03", "cluster-tcp-3-", "cluster-tcp-3\n"),
        *("cluster-icmp-3", "local-tcp-3", "cluster-tcp-1-of-3", "guard-", "cluster-tcp-٣"),
        *("reject-connection", "cluster-tcp-99999999", "Cluster-tcp-3", "reject-tcp-1"),
        *("guarded-cluster-tcp-1", "services"),
    ],
)
def test_what_is_no_shape_s_name_is_not_taken_for_one(name: str):
    """A name that nfproxy would not give is a stranger's."""
    assert parse_shape(name) is None


@given(st.integers(1, 100_000))
@settings(max_examples=200, deadline=None)
def test_a_list_s_size_fits_its_count(count: int):
    """It is as large, and by less than a half too large; the next smaller one is too small."""
    size = list_size(count)

    assert count <= size < 1.5 * count + 1
    assert smaller_size(size) < count or count == 1
    assert list_size(smaller_size(size)) == smaller_size(size)


@given(st.integers(1, 2**64 - 1), st.sampled_from(Protocol), st.booleans(), counts)
@settings(max_examples=200, deadline=None)
def test_every_drawing_chain_is_read_back_from_its_name(
    number: int, protocol: Protocol, local: bool, count: int
):
    """Like shapes: a takeover knows its rules."""
    draw = Draw(number, protocol, local, list_size(count))

    assert draw == parse_draw(draw.name)
    assert is_ours(draw.name)


@given(st.text(), st.sets(st.integers(0, 128), min_size=1))
@settings(max_examples=200, deadline=None)
def test_every_guard_is_read_back_from_its_name(service: str, lengths: set[int]):
    """A takeover knows a guard's rules, too: one for each length of its prefixes."""
    guard = Guard.of(service, lengths)

    assert guard == parse_guard(guard.name)
    assert guard.lengths == tuple(sorted(lengths))
    assert is_ours(guard.name)
    assert len(guard.name) < 128


@pytest.mark.parametrize(
    "name", ["guard-0123456789abcdef-0", "guard-0123456789abcdef-01", "guard-1-1", "guard-", ""]
)
def test_what_is_no_guard_s_name_is_not_taken_for_one(name: str):
    """No lengths, another way to write them, a short number."""
    assert parse_guard(name) is None


def test_nfproxy_knows_its_own_chains():
    """Fixed chains, shapes and the chains of affinity; nothing else."""
    item = affinity_list("default/web/tcp/", "cluster", 8080)
    ours = [
        *FIXED_CHAINS,
        Shape(Policy.CLUSTER, TCP, cluster=1).name,
        FindChain("default/web/tcp/", Search.EXTERNAL, TCP).name,
        RecordChain((item,), 30).name,
        RecordChain((item, item), 30).name,
    ]

    assert all(map(is_ours, ours))
    assert not any(
        map(is_ours, ["evil", "record-", "affinity-xyz-local", "record-0123456789ABCDEF"])
    )


def test_a_list_s_name_stays_the_same():
    """Clients noted under it by an older version are still known: the hash must not change."""
    item = affinity_list("default/web/tcp/http", "cluster", 8080)

    assert item == AffinityList(high=2456415983, low=652402553, endpoint_port=8080)
    assert item.number == struct.pack("=II", item.high, item.low)


def test_lists_differ_by_service_port_kind_and_endpoint_port():
    """Each has a name of its own."""
    names = {
        affinity_list(*args).number
        for args in [
            ("default/web/tcp/", "cluster", 80),
            ("default/web/tcp/", "local", 80),
            ("default/web/tcp/", "cluster", 81),
            ("default/web/udp/", "cluster", 80),
        ]
    }

    assert len(names) == 4
