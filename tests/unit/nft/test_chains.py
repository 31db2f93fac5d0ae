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
    Shape,
    clients_maps,
    is_clients_map,
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
        (Shape(Policy.LOCAL, TCP, cluster=5, local=2), "local-tcp-2-of-5"),
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
        list=st.integers(0, 2**64 - 1),
    ),
    st.builds(
        Shape,
        policy=st.just(Policy.LOCAL),
        protocol=st.sampled_from(Protocol),
        cluster=counts,
        local=st.integers(0, 32768),
        node_port=st.booleans(),
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


PORT = "default/web/tcp/"
CLUSTER, LOCAL = AffinityList(PORT, "cluster"), AffinityList(PORT, "local")


def test_nfproxy_knows_its_own_chains():
    """Fixed chains, shapes and the chains of affinity, former ones too; nothing else."""
    ours = [
        *FIXED_CHAINS,
        Shape(Policy.CLUSTER, TCP, cluster=1).name,
        FindChain(PORT, TCP, Policy.LOCAL).name,
        FindChain(PORT, TCP, Policy.CLUSTER, internal_local=True).name,
        RecordChain(PORT, TCP, (CLUSTER,), 30).name,
        *("cluster-tcp-3-sticky", "affinity-0123456789abcdef-external"),
        "record-0123456789abcdef-both",
    ]

    assert all(map(is_ours, ours))
    assert not any(
        map(is_ours, ["evil", "record-", "affinity-xyz-local", "record-0123456789ABCDEF"])
    )


@pytest.mark.parametrize(
    ("policy", "internal_local", "lists"),
    [
        (Policy.CLUSTER, False, (CLUSTER,)),
        (Policy.CLUSTER, True, (LOCAL,)),
        (Policy.EXTERNAL, False, (CLUSTER,)),
        (Policy.LOCAL, False, (CLUSTER, LOCAL)),
    ],
)
def test_a_find_chain_searches_the_lists_that_its_clients_are_balanced_over(
    policy: Policy, internal_local: bool, lists: tuple[AffinityList, ...]
):
    """A client is never sent to a remembered endpoint that the policy rules out."""
    chain = FindChain(PORT, TCP, policy, internal_local)

    assert chain.lists == lists
    assert clients_maps(chain.name, chain) == tuple(one.name for one in lists)


def test_the_maps_of_a_chain_with_unknown_rules_follow_from_its_name():
    """They stay as long as it does."""
    for chain in (FindChain(PORT, TCP, Policy.LOCAL), RecordChain(PORT, TCP, (CLUSTER,), 30)):
        maps = clients_maps(chain.name, None)
        assert set(maps) == {CLUSTER.name, LOCAL.name}
        assert all(map(is_clients_map, maps))
    assert clients_maps("cluster-tcp-3", None) == ()


def test_a_list_s_name_and_number_stay_the_same():
    """Clients remembered by an older version are still known: the hashes must not change."""
    item = AffinityList("default/web/tcp/http", "cluster")

    assert item.name == "clients-95253a1d69eb4914-cluster"
    assert item.halves == (3892273941, 1674407829)
    assert item.number == struct.pack("=II", *item.halves)


def test_lists_differ_by_service_port_and_kind():
    """Each has a name and a number of its own."""
    items = [
        AffinityList(port, which)
        for port in ("default/web/tcp/", "default/web/udp/", "default/other/tcp/")
        for which in ("cluster", "local")
    ]

    assert len({item.name for item in items}) == len({item.number for item in items}) == 6
