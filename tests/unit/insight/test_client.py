"""What happens to one client: the verdict, the steps, and what the other addresses would do."""

from typing import Any

import pytest
from support.insight import changed, codes, shop, sight

from nfproxy.errors import InputError
from nfproxy.insight.client import explain_client
from nfproxy.insight.clientidentity import client_of
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import ClientPath, ClientTarget, Explanation
from nfproxy.insight.expressions import Held
from nfproxy.insight.question import parse_question
from nfproxy.insight.sight import Sight
from nfproxy.model.addresses import Family
from nfproxy.nft.schema import SOURCE_RANGES
from nfproxy.reconcile.script import fresh_elements

SHOP = sight(*shop())
OUTSIDE = "192.168.77.100"


def asked(what: str, by: str, seen: Sight = SHOP, **more: Any) -> Explanation:
    """Return the explanation of what happens to a client."""
    question = parse_question(what)
    client = client_of(seen, by, "shop")
    return explain_client(seen, question, explain(seen, question), client, **more)


def path_of(explanation: Explanation) -> ClientPath:
    """Return the client's path, which is there."""
    assert explanation.client is not None
    return explanation.client


def target_of(explanation: Explanation) -> ClientTarget:
    """Return what the client gets at what was asked about."""
    target = path_of(explanation).target
    assert target is not None
    return target


def steps(explanation: Explanation) -> list[str]:
    """Return the steps, a line each."""
    return [
        " | ".join(filter(None, (one.at, one.rule, one.result, "here" if one.is_end else "")))
        for one in path_of(explanation).steps
    ]


def test_a_client_in_no_source_range() -> None:
    """Where it ends, what others get, and which addresses are not guarded."""
    found = asked("203.0.113.80:80", OUTSIDE)

    assert found.title == (
        "192.168.77.100 (no pod, no node) → 203.0.113.80:80/tcp, "
        "a load-balancer IP of shop/api:http"
    )
    assert (found.conclusion, codes(found)) == ("dropped", ["fail SourceRange"])
    assert found.findings[0].message == (
        "192.168.77.100 is in none of loadBalancerSourceRanges: 10.0.0.0/8, 192.168.77.101/32"
    )
    assert "node port 30081, cluster IP 10.96.0.80" in found.findings[0].because[0]
    assert steps(found) == [
        "prerouting | 203.0.113.80:80/tcp found, guarded by source ranges",
        "prerouting | source in no allowed range | DROP | here",
        "one of 2 endpoints; source becomes the node's | other clients get this far",
    ]
    assert [one.answer for one in path_of(found).elsewhere] == ["endpoints", "endpoints"]


def test_a_client_in_a_source_range() -> None:
    """It gets an endpoint, and nothing is wrong."""
    found = asked("203.0.113.80:80", "10.1.2.3")

    assert (found.conclusion, codes(found)) == ("works", [])
    assert target_of(found).source_changed
    assert target_of(found).endpoints == ("10.244.1.19:8080", "10.244.2.19:8080")
    assert steps(found)[1:] == [
        "prerouting | source in an allowed range",
        "postrouting | one of 2 endpoints; source becomes the node's | endpoint | here",
    ]


@pytest.mark.parametrize(
    ("what", "by", "first", "conclusion"),
    [
        ("shop/api", OUTSIDE, "203.0.113.80:80/tcp", "dropped"),
        ("shop/api", "10.244.1.50", "10.96.0.80:80/tcp", "works"),
        ("shop/api", "192.168.77.11", "10.96.0.80:80/tcp", "works"),
        ("shop/web", OUTSIDE, "192.168.77.11:30080/tcp", "works"),
        (":30080", OUTSIDE, "192.168.77.11:30080/tcp", "works"),
        ("shop/audit", OUTSIDE, "203.0.113.60:80/tcp", "dropped"),
        ("shop/audit", "10.244.1.50", "10.96.0.60:80/tcp", "works"),
        ("shop/logs", "10.244.1.50", "10.96.0.70:80/tcp", "dropped"),
        ("shop/orders", "10.244.1.50", "10.96.0.20:80/tcp", "refused"),
        ("10.96.0.10:81", "10.244.1.50", "10.96.0.10:81/tcp", "refused"),
        ("10.96.0.77:80", "10.244.1.50", "10.96.0.77:80/tcp", "dropped"),
        ("127.0.0.1:30080", "127.0.0.1", "127.0.0.1:30080/tcp", "refused"),
        ("8.8.8.8:53", "10.244.1.50", "8.8.8.8:53/tcp", "unknown"),
    ],
)
def test_what_is_asked_for_first(what: str, by: str, first: str, conclusion: str) -> None:
    """The address that was named; of a Service the one that such a client uses."""
    found = asked(what, by)
    assert (target_of(found).asked, found.conclusion) == (first, conclusion)


@pytest.mark.parametrize(
    ("by", "what", "name"),
    [
        (OUTSIDE, "outside", "no pod, no node"),
        ("10.244.1.50", "pod", "a pod of this node"),
        ("10.244.1.11", "pod", "a pod of this node"),
        ("10.244.2.50", "outside", "a pod of node node-2"),
        ("10.244.9.50", "outside", "a pod, of a node that is not known"),
        ("192.168.77.11", "node", "node node-1 itself"),
        ("127.0.0.1", "node", "node node-1 itself"),
        ("192.168.77.12", "outside", "node node-2"),
        ("shop/p11", "pod", "pod shop/p11"),
        ("p21", "outside", "pod shop/p21 of node node-2"),
    ],
)
def test_who_a_client_is(by: str, what: str, name: str) -> None:
    """By its address, or by the pod's name in an EndpointSlice."""
    client = client_of(SHOP, by, "shop")
    assert (client.what, client.name) == (what, name)


@pytest.mark.parametrize("by", ["shop/absent", "absent", "1.2.3", "::g", "10.0.0.256"])
def test_a_client_that_is_unknown(by: str) -> None:
    """An error, not a guess."""
    with pytest.raises(InputError):
        client_of(SHOP, by, "shop")


def test_a_pod_that_may_reach_itself() -> None:
    """Then alone its source changes."""
    found = asked("shop/web", "p11")
    assert "source becomes the node's where the client reaches itself" in steps(found)[-1]


def test_interfaces_of_pods() -> None:
    """Where the configuration knows pods by interface, a pod's packets come by one of those."""
    for flags in (
        {"detect_local_mode": "BridgeInterface", "pod_bridge_interface": "cni0"},
        {"detect_local_mode": "InterfaceNamePrefix", "pod_interface_name_prefix": "veth"},
    ):
        seen = sight(*shop(), **flags)
        assert not target_of(asked("shop/web", "10.244.1.11", seen)).rejected_with
        assert "source is kept" in steps(asked("shop/web", "10.244.1.12", seen))[-1]
        assert "source becomes" in steps(asked("10.96.0.10:80", OUTSIDE, seen))[-1]


def test_an_address_of_another_node() -> None:
    """That node's rules decide."""
    assert "--node node-2" in steps(asked("192.168.77.12:30080", OUTSIDE))[0]


def test_a_client_of_another_family() -> None:
    """Nothing to ask for."""
    found = asked("shop/web", "fd00::1")
    assert codes(found) == ["fail FamilyNotServed"]
    assert path_of(found).target is None


def test_elements_of_the_kernel_decide_where_they_are_known() -> None:
    """A source range that is missing there."""
    empty = asked("203.0.113.80:80", "10.1.2.3", finder=lambda family: lambda name, key: None)
    assert target_of(empty).answer == "routed"
    desired = {family: dict(_held(family)) for family in Family}

    def without(family: Family) -> Any:
        return lambda name, key: None if name == SOURCE_RANGES else desired[family].get((name, key))

    assert asked("203.0.113.80:80", "10.1.2.3", finder=without).conclusion == "dropped"


def _held(family: Family) -> Any:
    for name, operations in fresh_elements(SHOP.planner.desired, family).items():
        for one in operations:
            yield (name, one.key), Held(one.value)


def test_session_affinity_is_named() -> None:
    """Whether the client has an endpoint is known where the kernel was asked."""
    seen = sight(*changed(shop(), "web", sessionAffinity="ClientIP"))
    assert (
        "session affinity: clients keep their endpoint"
        in steps(asked("shop/web", "10.244.1.50", seen))[1]
    )
