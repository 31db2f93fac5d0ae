"""Which endpoints serve which traffic."""

import pytest
from support.objects.model import endpoint, endpoint_slice

from nfproxy.model.addresses import Family, format_address
from nfproxy.model.endpoints import Endpoint, SlicePort
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import port_of
from nfproxy.plan.endpoints import Selection, Topology, candidates, left_out, select

HERE, ELSEWHERE = "node-1", "node-2"
TCP = Protocol.TCP
V4 = Family.IPV4


def listed(destinations: tuple[bytes, ...]) -> list[str]:
    return [f"{format_address(d[:4])}:{port_of(d, 4)}" for d in destinations]


def last(destinations: tuple[bytes, ...]) -> list[int]:
    """Return the last octet of each address: 1 for 10.0.0.1."""
    return [d[3] for d in destinations]


def chosen(*endpoints: Endpoint, zone: str = "", cluster: bool = True, local: bool = True):
    found = candidates([endpoint_slice("web", *endpoints)], "", TCP, V4)
    return select(found, HERE, zone, uses_cluster=cluster, uses_local=local)


def going(address: str, node: str = HERE) -> Endpoint:
    return endpoint(address, node, ready=False, terminating=True)


def gone(address: str, node: str = HERE) -> Endpoint:
    return endpoint(address, node, ready=False, serving=False, terminating=True)


def starting(address: str, node: str = HERE) -> Endpoint:
    return endpoint(address, node, ready=False)


# (endpoints, cluster list, local list, whether any could serve)
TABLE = [
    ([], [], [], False),
    ([endpoint("10.0.0.1", HERE), endpoint("10.0.0.2", ELSEWHERE)], [1, 2], [1], True),
    ([endpoint("10.0.0.1", HERE), starting("10.0.0.2")], [1], [1], True),
    ([starting("10.0.0.1"), starting("10.0.0.2")], [], [], False),
    ([going("10.0.0.1"), endpoint("10.0.0.2", HERE)], [2], [2], True),
    ([going("10.0.0.1"), endpoint("10.0.0.2", ELSEWHERE)], [2], [1], True),
    ([going("10.0.0.1"), going("10.0.0.2", ELSEWHERE)], [1, 2], [1], True),
    ([going("10.0.0.1"), starting("10.0.0.2")], [1], [1], True),
    ([gone("10.0.0.1")], [], [], False),
    ([gone("10.0.0.1"), endpoint("10.0.0.2", ELSEWHERE)], [2], [], True),
    ([endpoint("10.0.0.1", None), endpoint("10.0.0.2", HERE)], [1, 2], [2], True),
]


@pytest.mark.parametrize(("endpoints", "cluster", "local", "exists"), TABLE)
def test_ready_endpoints_serve_and_terminating_ones_where_none_is_ready(
    endpoints: list[Endpoint], cluster: list[int], local: list[int], exists: bool
):
    """Decided apart for all endpoints and for those of this node (KEP-1669)."""
    selection = chosen(*endpoints)

    assert cluster == last(selection.cluster)
    assert local == last(selection.local)
    assert exists == selection.exists


def test_lists_without_traffic_are_empty():
    """Whether any endpoint could serve is known all the same."""
    selection = chosen(endpoint("10.0.0.1", HERE), cluster=False, local=False)

    assert selection == Selection((), (), exists=True)


A, B = ("here",), ("there",)


@pytest.mark.parametrize(
    ("endpoints", "zone", "expected", "topology"),
    [
        ([endpoint("10.0.0.1", zones=A), endpoint("10.0.0.2", zones=B)], "here", [1], "same zone"),
        ([endpoint("10.0.0.1", zones=A + B), endpoint("10.0.0.2", zones=B)], "there", [1, 2],
         "same zone"),
        ([endpoint("10.0.0.1", zones=A), endpoint("10.0.0.2", zones=B)], "nowhere", [1, 2], "none"),
        ([endpoint("10.0.0.1", zones=A), endpoint("10.0.0.2")], "here", [1, 2], "none"),
        ([endpoint("10.0.0.1", zones=A), endpoint("10.0.0.2", zones=B)], "", [1, 2], "none"),
        ([endpoint("10.0.0.1", zones=B, nodes=(HERE,)),
          endpoint("10.0.0.2", zones=A, nodes=(ELSEWHERE,))], "here", [1], "same node"),
        ([endpoint("10.0.0.1", zones=A, nodes=(ELSEWHERE,)),
          endpoint("10.0.0.2", zones=B, nodes=(ELSEWHERE,))], "here", [1], "same zone"),
        ([endpoint("10.0.0.1", nodes=(HERE,)), endpoint("10.0.0.2")], "here", [1, 2], "none"),
        ([endpoint("10.0.0.1", zones=A), starting("10.0.0.2")], "here", [1], "same zone"),
        ([endpoint("10.0.0.1", ready=False, terminating=True, zones=B),
          endpoint("10.0.0.2", ready=False, terminating=True, zones=A)], "here", [1, 2], "none"),
    ],
)  # fmt: skip
def test_hints_count_if_every_ready_endpoint_has_one_and_one_names_us(
    endpoints: list[Endpoint], zone: str, expected: list[int], topology: str
):
    """Node hints before zone hints; otherwise all endpoints serve (KEP-2433, KEP-3015)."""
    selection = chosen(*endpoints, zone=zone)

    assert expected == last(selection.cluster)
    assert topology == selection.topology


def test_hints_do_not_narrow_the_local_list():
    """externalTrafficPolicy Local looks at nodes only."""
    selection = chosen(
        endpoint("10.0.0.1", HERE, zones=B), endpoint("10.0.0.2", ELSEWHERE, zones=A), zone="here"
    )

    assert last(selection.cluster) == [2]
    assert last(selection.local) == [1]


def test_a_port_is_matched_by_name_and_protocol_and_has_the_number_of_its_slice():
    """Two slices may give one name different numbers; another protocol is another port."""
    slices = [
        endpoint_slice("web", "10.0.0.1", name="one", port=8080, port_name="http"),
        endpoint_slice("web", "10.0.0.2", name="two", port=9090, port_name="http"),
        endpoint_slice("web", "10.0.0.3", name="three", port=53, port_name="dns"),
        endpoint_slice("web", "10.0.0.4", name="four", port_name="http", protocol=Protocol.UDP),
        endpoint_slice("web", "fd00::5", name="five", port_name="http"),
    ]

    assert listed(tuple(candidates(slices, "http", TCP, V4))) == ["10.0.0.1:8080", "10.0.0.2:9090"]


def test_a_slice_with_two_numbers_for_a_port_gives_each_address_both():
    """An endpoint is an address and a port number."""
    ports = (SlicePort("", TCP, 80), SlicePort("", TCP, 81))
    slices = [endpoint_slice("web", "10.0.0.1", ports=ports)]

    assert listed(tuple(candidates(slices, "", TCP, V4))) == ["10.0.0.1:80", "10.0.0.1:81"]


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (endpoint("10.0.0.1", "one"), endpoint("10.0.0.1", "two"), "one"),
        (starting("10.0.0.1", "one"), endpoint("10.0.0.1", "two"), "two"),
        (going("10.0.0.1", "one"), starting("10.0.0.1", "two"), "two"),
        (endpoint("10.0.0.1", "one"), going("10.0.0.1", "two"), "one"),
    ],
)
def test_of_duplicates_the_one_that_lives_longest_counts(
    first: Endpoint, second: Endpoint, winner: str
):
    """One that does not terminate, then a ready one, then the first."""
    for names in (("one", "two"),):
        slices = [
            endpoint_slice("web", e, name=n) for n, e in zip(names, (first, second), strict=True)
        ]
        (found,) = candidates(slices, "", TCP, V4).values()
        assert winner == found.node


def test_why_endpoints_are_left_out():
    """For people: each endpoint that is not on the list has a reason."""
    endpoints = {
        "not ready": starting("10.0.0.1"),
        "terminating, and others are ready": going("10.0.0.2"),
        "terminating and no longer serving": gone("10.0.0.3"),
        "hinted for other zones": endpoint("10.0.0.4", HERE, zones=B),
    }
    serving = endpoint("10.0.0.9", HERE, zones=A)
    found = candidates([endpoint_slice("web", *endpoints.values(), serving)], "", TCP, V4)
    selection = select(found, HERE, "here", uses_cluster=True, uses_local=False)
    reasons = left_out(found, selection, HERE, local=False)

    assert selection.topology is Topology.ZONE
    assert list(endpoints) == [reasons[d] for d in sorted(reasons)]


def test_why_endpoints_are_not_on_the_local_list():
    """Being elsewhere comes first."""
    away, nowhere = endpoint("10.0.0.1", ELSEWHERE), endpoint("10.0.0.2", None)
    found = candidates([endpoint_slice("web", away, nowhere)], "", TCP, V4)
    selection = select(found, HERE, "", uses_cluster=True, uses_local=True)
    reasons = left_out(found, selection, HERE, local=True)

    assert [reasons[d] for d in sorted(reasons)] == ["not on this node", "has no nodeName"]
