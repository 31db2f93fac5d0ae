"""What is traced for a question."""

from __future__ import annotations

import pytest

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
