"""What a daemon gives commands on its node: planned again, it says the same."""

import msgspec
import pytest
from support.insight import codes, shop, sight

from nfproxy.insight.explain import explain
from nfproxy.insight.nodeobjects import NodeObjects, objects_for, sight_of
from nfproxy.insight.question import parse_question
from nfproxy.insight.sight import Sight

DAEMON = Sight(sight(*shop()).planner)
QUESTIONS = (
    *("shop/web", "shop/orders", "shop/search", "shop/audit", "shop/logs", "shop/jobs"),
    *("shop/mail", "team-b/mail2", "203.0.113.120:80", "10.96.0.10:81", "10.96.0.77:80"),
    *(":30080", "192.168.77.11:30080", "127.0.0.1:30080", "10.244.1.15", "10.244.2.99"),
)


@pytest.mark.parametrize("what", QUESTIONS)
def test_the_answer_is_the_same(what: str) -> None:
    """After its way through JSON; others' claims included."""
    question = parse_question(what)
    body = msgspec.json.encode(objects_for(DAEMON, question))
    seen = sight_of(msgspec.json.decode(body, type=NodeObjects))
    here, there = explain(seen, question), explain(DAEMON, question)

    assert (here.conclusion, codes(here), here.ports) == (
        there.conclusion,
        codes(there),
        there.ports,
    )


def test_it_is_a_part_of_the_cluster() -> None:
    """One Service and its slices; none for what the daemon does not proxy."""
    one = objects_for(DAEMON, parse_question("shop/web"))
    none = objects_for(DAEMON, parse_question("shop/peers"))

    assert [str(service.name) for service in one.services] == ["shop/web"]
    assert [str(piece.name) for piece in one.slices] == ["shop/web-abcde"]
    assert none.services == ()
