"""What people may ask about, and how it is read."""

import pytest

from nfproxy.errors import InputError
from nfproxy.insight.question import AddressQuestion, ServiceQuestion, parse_question
from nfproxy.model.service import ObjectName, Protocol

WEB = ObjectName("shop", "web")


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("shop/web", ServiceQuestion(WEB)),
        ("shop/web:http", ServiceQuestion(WEB, "http")),
        ("shop/web:80", ServiceQuestion(WEB, "80")),
        ("web", ServiceQuestion(WEB)),
        (" web:http ", ServiceQuestion(WEB, "http")),
        ("10.96.0.10", AddressQuestion(b"\x0a\x60\x00\x0a")),
        ("10.96.0.10:80", AddressQuestion(b"\x0a\x60\x00\x0a", 80)),
        ("10.96.0.10:53/udp", AddressQuestion(b"\x0a\x60\x00\x0a", 53, Protocol.UDP)),
        ("10.96.0.10:53/UDP", AddressQuestion(b"\x0a\x60\x00\x0a", 53, Protocol.UDP)),
        ("::1", AddressQuestion(b"\0" * 15 + b"\x01")),
        ("[::1]", AddressQuestion(b"\0" * 15 + b"\x01")),
        ("[::1]:80", AddressQuestion(b"\0" * 15 + b"\x01", 80)),
        (":30080", AddressQuestion(b"", 30080)),
        ("web.shop", ServiceQuestion(WEB)),
        ("web.shop.svc:80", ServiceQuestion(WEB, "80")),
        ("web.shop.svc.cluster.local", ServiceQuestion(WEB)),
        ("https://web.shop.svc:443/path?a=b:c", ServiceQuestion(WEB, "443")),
        ("http://user:word@10.96.0.10:80/", AddressQuestion(b"\x0a\x60\x00\x0a", 80)),
        ("http://[::1]:80/x", AddressQuestion(b"\0" * 15 + b"\x01", 80)),
        ("svc/web:http", ServiceQuestion(WEB, "http")),
        ("service/web", ServiceQuestion(WEB)),
        (":30080/sctp", AddressQuestion(b"", 30080, Protocol.SCTP)),
    ],
)
def test_questions(text: str, question: object) -> None:
    """A Service in the namespace of -n, an address, a node port."""
    asked = parse_question(text, "shop")

    assert asked == question
    assert parse_question(str(asked)) == asked


def test_a_namespace_may_be_called_as_kubectl_s_kinds_are() -> None:
    """Without -n the first word is a namespace."""
    assert parse_question("svc/web") == ServiceQuestion(ObjectName("svc", "web"))


def test_a_name_without_a_namespace_is_in_the_default_one() -> None:
    """As with kubectl."""
    assert parse_question("web") == ServiceQuestion(ObjectName("default", "web"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        ("a/b/c", "'b/c'"),
        ("10.96.0.300:80", "10.96.0.300"),
        ("10.96.0.1:http", "'http' is not a port"),
        ("10.96.0.1:0", "'0' is not a port"),
        ("10.96.0.1:99999", "'99999' is not a port"),
        ("10.96.0.1:²", "is not a port"),
        ("10.96.0.1:80/icmp", "'icmp' is not tcp, udp or sctp"),
        (":x", "'x' is not a port"),
        ("[x]:80", "'x' is not an IP address"),
        ("a\x1b[31m/b", r"\x1b"),
        ("x" * 5000, "…"),
    ],
)
def test_texts_that_ask_nothing(text: str, named: str) -> None:
    """The message names the part, and says what to write; control characters are escaped."""
    with pytest.raises(InputError) as caught:
        parse_question(text)

    assert named in caught.value.what
    assert caught.value.what.isprintable()
    assert "NAMESPACE/NAME" in caught.value.remedy
