"""What is traced for a question."""

from __future__ import annotations

import pytest
from support.insight import explained, sight
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.errors import InputError
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.question import parse_question
from nfproxy.model.addresses import Family, parse_address
from nfproxy.tools.trace.subject import targets_of
from nfproxy.tools.trace.table import table_text

NODE_PORT = parse_question(":30080")  # of both families
CLIENT, CLIENT_6 = parse_address("10.244.1.5"), parse_address("fd00::5")


def test_a_client_asks_in_its_own_family() -> None:
    """No rule matches its address in packets of another."""
    (target,) = targets_of(NODE_PORT, Explanation(asked=":30080"), [CLIENT])
    assert target.family is Family.IPV4
    assert "ip6" not in table_text([target])
    assert len(targets_of(NODE_PORT, Explanation(asked=":30080"), [CLIENT, CLIENT_6])) == 2
    assert len(targets_of(NODE_PORT, Explanation(asked=":30080"))) == 2


def test_a_client_of_another_family_is_refused() -> None:
    """It cannot ask."""
    question = parse_question("10.96.0.1:80")
    with pytest.raises(InputError, match="fd00::5 cannot ask"):
        targets_of(question, Explanation(asked="10.96.0.1:80"), [CLIENT_6])


def test_endpoints_here_count_for_what_other_nodes_translated() -> None:
    """But not for probes, which this node's own processes send."""
    slices = [
        endpoint_slice("web", "10.244.1.5"),
        endpoint_slice("web", "10.244.2.5", name="web-far", node="node-2"),
    ]
    found = explained("default/web", sight(service("web", "10.96.0.10"), *slices, node_object()))
    frontend, endpoint = targets_of(parse_question("default/web"), found)

    assert (frontend.address, frontend.arriving) == (parse_address("10.96.0.10"), False)
    assert (endpoint.address, endpoint.arriving) == (parse_address("10.244.1.5"), True)
    text = table_text([frontend, endpoint])
    assert "nfproxy-trace prerouting ip daddr 10.244.1.5" in text
    assert "nfproxy-trace output ip daddr 10.244.1.5" not in text
