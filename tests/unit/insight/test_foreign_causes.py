"""What rules of other programs and the node's ways say of a Service, by values."""

from __future__ import annotations

import msgspec
import pytest
from support.insight import explained, sight
from support.onnode import (
    CLIENT,
    DESIRED,
    NEXT_HOP,
    REMOTE,
    SHOP,
    UPLINK,
    WEB,
    codes,
    end,
    healthy,
    held,
    joined,
    result,
    routes,
    rule_of,
    traffic,
)
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.insight.client import asked_by, explain_client
from nfproxy.insight.clientidentity import client_of
from nfproxy.insight.nodefacts import (
    ConnectionCounts,
    FailedWay,
    HeldState,
    PacketStage,
    ProbeAnswer,
    ProbeResult,
    Route,
    RuleEffect,
)
from nfproxy.insight.onnode import _probe_causes, on_node
from nfproxy.insight.question import parse_question
from nfproxy.model.addresses import FAMILIES, parse_address


def test_rules_of_others_that_drop() -> None:
    rule = rule_of(packets=7, comment="deny all", is_named=True)
    others = traffic(local=ConnectionCounts(open=1))
    found = joined(rules=(rule,), connections=others)
    assert result(found) == ("partly", ["fail DroppedByOthers"])
    assert 'inet policy, chain forward, handle 3 "deny all", 7 packets' in found.findings[0].message
    assert codes(joined(rules=(rule,), arrived={WEB: 2}))[0] == "fail DroppedByOthers"
    # Nothing is there just now: it may have dropped what it should, days ago.
    assert codes(joined(rules=(rule,))) == ["warn DroppedByOthers"]
    unused = HeldState(frozenset(FAMILIES), held().observed, {}, {})
    assert codes(joined(rules=(rule,), held=unused)) == ["note DroppedByOthers"]
    assert codes(joined(rules=(msgspec.structs.replace(rule, packets=0),))) == []
    uncounted = (msgspec.structs.replace(rule, packets=None),)
    assert codes(joined(rules=uncounted)) == ["note DroppedByOthers"]
    assert codes(joined(rules=uncounted, connections=others)) == ["warn DroppedByOthers"]
    # It drops some clients, and others get through.
    works = traffic(remote=ConnectionCounts(open=1))
    assert codes(joined(rules=(rule,), connections=works)) == ["note DroppedByOthers"]
    other = msgspec.structs.replace(rule, endpoint=end("10.244.2.99"))
    assert codes(joined(rules=(other,))) == []


@pytest.mark.parametrize(
    ("effect", "stage", "found"),
    [
        (RuleEffect.DROP, PacketStage.ASKED, "fail DroppedByOthers"),
        (RuleEffect.NOT_TRACKED, PacketStage.ASKED, "fail NotTracked"),
        (RuleEffect.NOT_TRACKED, PacketStage.ANSWER, "fail NotTracked"),
        (RuleEffect.TRANSLATED, PacketStage.ASKED, "fail TranslatedByOthers"),
        (RuleEffect.TRANSLATED, PacketStage.OWN_ASKED, "warn TranslatedByOthers"),
        (RuleEffect.DROP, PacketStage.OWN_SENT, "warn DroppedByOthers"),
    ],
)
def test_what_rules_of_others_do_surely(effect: RuleEffect, stage: PacketStage, found: str) -> None:
    assert codes(joined(rules=(rule_of(effect, stage, is_sure=True),))) == [found]
    # Other clients get through, and its counter says that it has met none.
    open_ = traffic(local=ConnectionCounts(open=1), remote=ConnectionCounts(open=1))
    unused = rule_of(effect, stage, is_sure=True, packets=0)
    assert codes(joined(rules=(unused,), connections=open_)) == []


def test_what_a_named_client_asks_for_decides() -> None:
    """The rule drops what comes to the cluster IP; the Service has other frontends."""
    facts = healthy(rules=(rule_of(RuleEffect.DROP, PacketStage.ASKED, is_sure=True),))
    question, client = parse_question("shop/web"), client_of(SHOP, "10.244.1.12", "shop")
    plain = explained("shop/web", SHOP)
    asked = asked_by(SHOP, question, plain, client)
    assert asked == WEB
    for key, verdict in ((asked, "dropped"), (None, "partly")):
        found = on_node(plain, facts, DESIRED, SHOP.config, key)
        assert found.ports[0].conclusion.value == verdict
        assert explain_client(SHOP, question, found, client).conclusion.value == verdict


@pytest.mark.parametrize("stage", [PacketStage.ASKED, PacketStage.SENT])
@pytest.mark.parametrize(
    ("packets", "found"),
    [(7, ["warn DroppedByOthers"]), (None, ["note DroppedByOthers"]), (0, [])],
)
def test_a_limit_drops_some_packets(
    stage: PacketStage, packets: int | None, found: list[str]
) -> None:
    answer = joined(rules=(rule_of(RuleEffect.DROP, stage, is_some=True, packets=packets),))
    assert codes(answer) == found
    assert all("by a limit, or by chance" in one.message for one in answer.findings)


def test_an_address_that_the_node_has_itself() -> None:
    """A cache for DNS on each node answers at the cluster IP, without connection tracking."""
    rule = rule_of(RuleEffect.NOT_TRACKED, PacketStage.ASKED, is_sure=True, packets=9, is_here=True)
    assert result(joined(rules=(rule,))) == ("works", ["note NotTracked"])


def test_another_zone_of_connections_is_named_where_answers_are_missing() -> None:
    zone = rule_of(RuleEffect.ZONE, PacketStage.ASKED, packets=3)
    waiting = ConnectionCounts(unanswered=1, overdue=1, waiting={CLIENT: 1})
    assert codes(joined(rules=(zone,))) == []
    found = joined(rules=(zone,), connections=traffic(remote=waiting))
    assert codes(found) == ["fail Unanswered", "fail NotTracked"]


def test_clients_that_appear_at_an_address_of_another_machine() -> None:
    source = parse_address("203.0.113.200")
    lost = ConnectionCounts(*(0, 1, 1), source_changed=1, waiting={CLIENT: 1}, sources={source: 1})
    own = frozenset({parse_address("192.168.77.11")})
    found = joined(connections=traffic(remote=lost), own_addresses=own)
    assert codes(found) == ["fail Unanswered", "fail SourceChanged"]
    assert "203.0.113.200" in found.findings[1].message


def test_pods_that_another_program_masquerades() -> None:
    node = parse_address("192.168.77.11")
    lost = ConnectionCounts(open=2, source_changed=2, masqueraded={CLIENT: 2}, sources={node: 2})
    rule = rule_of(RuleEffect.SOURCE, packets=2)
    found = joined(connections=traffic(local=lost), rules=(rule,), own_addresses=frozenset({node}))
    assert codes(found) == ["warn SourceChanged"]


def test_nothing_answers_on_the_link() -> None:
    ways = {**routes(), parse_address(REMOTE): Route(UPLINK, NEXT_HOP, 1500, is_answered=False)}
    assert result(joined(routes=ways)) == ("works", ["warn NoNeighbour"])
    waiting = traffic(remote=ConnectionCounts(unanswered=1))
    assert result(joined(routes=ways, connections=waiting)) == ("partly", ["fail NoNeighbour"])


def test_an_interface_that_is_down() -> None:
    down = msgspec.structs.replace(UPLINK, has_carrier=False)
    ways = {**routes(), parse_address(REMOTE): Route(down, NEXT_HOP, 1500)}
    assert result(joined(routes=ways)) == ("partly", ["fail NoRoute"])


@pytest.mark.parametrize(
    ("error", "clients", "found"),
    [
        ("blackhole", "", "fail NoRoute"),
        ("rp_filter", "", "fail ReversePath"),
        ("unreachable", "clients from outside", "fail NoRoute"),
    ],
)
def test_packets_that_the_node_does_not_forward(error: str, clients: str, found: str) -> None:
    way = FailedWay(CLIENT, parse_address(REMOTE), "veth2", error, clients)
    assert result(joined(failed_ways=(way,))) == ("partly", [found])
    answer = FailedWay(parse_address(REMOTE), CLIENT, "eth0", error, "answers")
    assert result(joined(failed_ways=(answer, answer))) == ("partly", [found])


def test_udp_endpoints() -> None:
    """A refusal is clear; silence is not, where no endpoint has answered."""
    port = explained("shop/web", SHOP).ports[0]
    udp = msgspec.structs.replace(port, protocol="UDP")
    refused = healthy(udp_probes={end(REMOTE): ProbeAnswer(ProbeResult.REFUSED)})
    assert [one.finding.code.value for one in _probe_causes(refused, udp)] == ["EndpointRefuses"]
    assert list(_probe_causes(refused, port)) == []


def test_endpoints_that_are_services_explain_what_becomes_of_packets() -> None:
    piece = endpoint_slice("web", "10.96.0.2", port=80)
    seen = sight(node_object(), service(), service("other", "10.96.0.2"), piece)
    end_ = parse_address("10.96.0.2")
    facts = healthy(routes={end_: Route(error="no route")})
    assert codes(on_node(explained("web", seen), facts, None, seen.config)) == [
        "fail EndpointIsService"
    ]


def test_an_endpoint_gets_no_connection_beside_a_rule_that_is_not_followed() -> None:
    rule = rule_of(packets=7)
    many = traffic(local=ConnectionCounts(closing=16))
    (found,) = joined(rules=(rule,), connections=many).findings
    assert (found.level, found.code) == ("warn", "DroppedByOthers")
    assert "none of the last 16 connections went to 10.244.2.11" in found.message
    few = traffic(local=ConnectionCounts(closing=3))
    both = traffic(local=ConnectionCounts(closing=16), remote=ConnectionCounts(closing=1))
    unused = msgspec.structs.replace(rule, packets=0)
    for rules, connections in (((rule,), few), ((rule,), both), ((unused,), many), ((), many)):
        assert codes(joined(rules=rules, connections=connections)) == []
