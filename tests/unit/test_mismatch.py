"""Why data does not fit: texts that are nfproxy's own, whatever msgspec is installed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfproxy.mismatch import UNREADABLE, json_error, mismatch


class Inner(msgspec.Struct):
    port: int
    name: str | None = None


class Outer(msgspec.Struct):
    ports: list[Inner] | None = None
    labels: dict[str, str] = {}
    on: bool = False
    share: float = 0.0
    anything: Any = None
    absent: str | msgspec.UnsetType = msgspec.UNSET


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ([], "is a list, not a mapping"),
        ({"ports": {}}, "ports: is a mapping, not a list"),
        ({"ports": ["x"]}, "ports[0]: is a string, not a mapping"),
        ({"ports": [{"port": 1}, {}]}, "ports[1].port: is missing"),
        ({"ports": [{"port": "http"}]}, "ports[0].port: is a string, not a whole number"),
        ({"ports": [{"port": None}]}, "ports[0].port: is null, not a whole number"),
        ({"ports": [{"port": True}]}, "ports[0].port: is true or false, not a whole number"),
        (
            {"ports": [{"port": 1.5}]},
            "ports[0].port: is a number with a fraction, not a whole number",
        ),
        ({"ports": [{"name": 5}]}, "ports[0].name: is a whole number, not a string"),
        ({"labels": {"a": 1}}, "labels[...]: is a whole number, not a string"),
        ({"on": "yes"}, "on: is a string, not true or false"),
        ({"share": "1"}, "share: is a string, not a number"),
        ({"absent": 1}, "absent: is a whole number, not a string"),
    ],
)
def test_the_first_field_that_does_not_fit_is_named(data, line):
    """The same from JSON as from what a YAML file held."""
    with pytest.raises(UNREADABLE):
        msgspec.convert(data, Outer)
    assert str(mismatch(data, Outer)) == line
    assert str(mismatch(msgspec.json.encode(data), Outer)) == line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not valid JSON: ends too early, line 1, column 1"),
        (b'{"a":\n', "is not valid JSON: ends too early, line 2, column 1"),
        (b'{"a": nope}', "is not valid JSON, line 1, column 7"),
        (b'"\xff"', "holds text that is not UTF-8"),
        (b"[" * 200_000, "is not valid JSON"),
        (b"9" * 10_000, "is not valid JSON"),
    ],
)
def test_json_that_does_not_parse(data, message):
    """With the line, where it is known."""
    assert json_error(data) == message


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
close = st.fixed_dictionaries(
    {},
    optional={
        "ports": st.lists(
            st.fixed_dictionaries({}, optional={"port": plain, "name": plain}) | plain
        ),
        "labels": st.dictionaries(st.text(), plain) | plain,
        "on": plain,
        "share": plain,
    },
)


@given(close)
def test_what_cannot_be_decoded_has_a_field(data):
    """Wherever msgspec fails, the walk finds a field; wherever it does not, the walk finds none."""
    found = mismatch(data, Outer)
    try:
        msgspec.convert(data, Outer)
    except UNREADABLE:
        assert found.field
        assert found.what != "cannot be decoded"
    else:
        assert found.what == "cannot be decoded"
