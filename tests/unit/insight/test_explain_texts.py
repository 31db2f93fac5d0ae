"""What explanations say: one line a message, hostile texts escaped, and what was not read."""

import msgspec
from support.insight import codes, explained, shop, sight
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.insight.diagnosis import Severity
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import to_data
from nfproxy.insight.question import ServiceQuestion

SHOP = sight(*shop())


def test_every_message_is_one_line_for_people() -> None:
    """With a remedy or a place to look at wherever something fails, and a brief for tables."""
    for name in SHOP.details.services:
        for one in explain(SHOP, ServiceQuestion(name)).findings:
            texts = (one.message, one.brief, *one.because, *one.look)
            assert all(text and text.isprintable() for text in texts), one
            assert len(one.brief) <= 60, one.brief
            assert one.look or one.level is not Severity.FAIL, one


def test_hostile_texts_are_escaped() -> None:
    """A pod's or node's name, a selector, a targetPort."""
    evil = "x\x1b]0;y\x07<b>"
    objects = (
        node_object(),
        service(selector={evil: evil}, ports=[{"name": "http", "port": 80, "targetPort": evil}]),
        endpoint_slice("web", "10.244.1.5")
        | {
            "endpoints": [
                {
                    "addresses": ["10.244.1.5"],
                    "nodeName": evil,
                    "zone": evil,
                    "targetRef": {"kind": "Pod", "name": evil},
                }
            ]
        },
    )
    found = explained("web", sight(*objects))

    assert codes(found) == ["fail PortNameDiffers"]
    text = msgspec.json.encode(to_data(found)).decode()
    assert text.isprintable()
    assert r"\u001b" not in text


def test_what_was_not_read_is_said() -> None:
    """Other Services' claims, where only one Service was read."""
    seen = sight(node_object(), service(), endpoint_slice("web", "10.244.1.5"), is_complete=False)

    assert "other Services" in explained("web", seen).seen.missing[0]
    assert SHOP.has_all_services
    assert explained("shop/web", SHOP).seen.missing == ()
