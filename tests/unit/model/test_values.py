"""Claims, nodes, changes and problems."""

import pytest

from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import LocalPods
from nfproxy.model.service import Claim, ObjectName, Protocol


def claim(created: str, name: str = "web", port: str = "") -> Claim:
    return Claim(created, ObjectName("default", name), port)


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        (claim("2026-01-01T00:00:00Z", "z"), claim("2026-01-02T00:00:00Z", "a")),
        (claim("", "z"), claim("2026-01-01T00:00:00Z", "a")),
        (claim("", "a"), claim("", "b")),
        (claim("", port="a"), claim("", port="b")),
    ],
)
def test_the_older_claim_wins_then_the_lower_name(winner: Claim, loser: Claim):
    """Age first; objects without a time, such as manifests, are the oldest of all."""
    assert winner < loser


def test_the_node_ip_of_a_family_is_its_first_address():
    """Further addresses of the family do not count."""
    addresses = tuple(map(parse_address, ("192.0.2.1", "192.0.2.2", "fd00::1")))
    node = Node("node-1", addresses)

    assert node.address(Family.IPV4) == addresses[0]
    assert node.address(Family.IPV6) == addresses[2]
    assert Node("node-1").address(Family.IPV6) is None


def test_local_pods_are_recognised_in_the_families_that_have_a_way_to():
    """An interface recognises pods of both families, a prefix those of its family."""
    only_v4 = LocalPods(prefixes={Family.IPV4: parse_prefix("10.244.0.0/16")})

    assert only_v4.exists(Family.IPV4)
    assert not only_v4.exists(Family.IPV6)
    assert LocalPods(bridge="cni0").exists(Family.IPV6)
    assert LocalPods(interface_prefix="veth").exists(Family.IPV4)
    assert not LocalPods().exists(Family.IPV4)


def test_changes_are_true_if_anything_changed():
    """A deletion is a change, too."""
    assert not Changes()
    assert Changes(slices={ObjectName("default", "web"): None})
    assert Changes(node=Node("node-1"))


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("a.yaml", "Service default/web", "spec.ports", "none"),
         "a.yaml: Service default/web: spec.ports: none"),
        (Problem("", "", "", "nothing to read"), "nothing to read"),
        (Problem("a.yaml", "", "", "not YAML"), "a.yaml: not YAML"),
        (Problem("", "API server x", "", "closed", "check x"), "API server x: closed; check x"),
    ],
)  # fmt: skip
def test_a_problem_is_one_line_that_says_where(problem: Problem, line: str):
    """File, object, field, what is wrong and what to do, as far as known."""
    assert line == str(problem)


def test_protocols_are_known_by_number_and_word():
    """The value is what keys hold, the word what nft reads."""
    assert {p.word: int(p) for p in Protocol} == {"tcp": 6, "udp": 17, "sctp": 132}
