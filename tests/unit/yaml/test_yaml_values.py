"""YAML as Kubernetes reads it, and what hostile YAML gets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfproxy.errors import InputError
from nfproxy.yaml import Document, Limits, documents, dump, first_document

LIMITS = Limits()


def values(text: str) -> list[Any]:
    """Return the values of a stream without errors."""
    found = list(documents(text))
    assert not [d for d in found if isinstance(d, InputError)]
    return [d.value for d in found if not isinstance(d, InputError)]


def value(text: str) -> Any:
    (only,) = values(text)
    return only


def error(text: str) -> str:
    """Return the message of a stream's one error."""
    (only,) = [str(d) for d in documents(text) if isinstance(d, InputError)]
    return only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None), ("~", None), ("null", None), ("Null", None), ("nil", "nil"),
        ("true", True), ("yes", True), ("On", True), ("FALSE", False), ("no", False),
        ("off", False), ("nO", "nO"), ("y", True), ("N", False),
        ("0", 0), ("80", 80), ("+5", 5), ("-7", -7), ("1_000", 1000), ("0644", 420),
        ("0o17", 15), ("0x1F", 31), ("0b101", 5), ("-010", -8), ("0_7", 7), ("08", 8),
        ("131_072", 131072), ("1_000.5", 1000.5), ("_1", "_1"), ("._5", "._5"),
        ("10:30", "10:30"), ("1:2:3", "1:2:3"), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000),
        ("1.0", 1), ("1e22", 1e22), ("1e400", "1e400"), ("18446744073709551616", 1 << 64),
        ("1.2.3", "1.2.3"), ("10.96.0.1", "10.96.0.1"), ("-", [None]), (".", "."), ("0_", 0),
        ("2024-01-01", "2024-01-01"), ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00Z"),
        ("'80'", "80"), ('"true"', "true"), ("!!str 80", "80"), ("! 80", "80"),
        ("!!int 80", 80), ("!!bool yes", True), ("!!null ''", None), ("!!float 1", 1),
        ("!!timestamp 2024-01-01", "2024-01-01"), ("!!str .inf", ".inf"), ("'.nan'", ".nan"),
        ("9" * 5000, "9" * 5000), ("0x" + "_" * 5, "0x_____"), ("fd00::1", "fd00::1"),
    ],
)  # fmt: skip
def test_scalars(text, expected):
    found = value(f"- {text}")[0]

    assert (expected, type(expected)) == (found, type(found))


def test_keys_become_text_as_in_json():
    assert value("on: 1\n0x50: 2\n'null': 3\n1.5: 4\n'on': 5\n") == {
        "true": 1,
        "80": 2,
        "null": 3,
        "1.5": 4,
        "on": 5,
    }


def test_of_a_duplicate_key_the_last_counts_and_it_is_reported():
    (document,) = documents("a: 1\nb: 2\na: 3\n")

    assert document.value == {"a": 3, "b": 2}
    assert document.duplicates == ("key 'a' twice, the last counts, line 3",)


def test_merge_keys():
    text = "x: &x {a: 1, b: 2}\nw: {<<: *x, b: 3}\nz: {b: 4, <<: [{c: 5}, *x]}\nq: {'<<': 1}\n"

    assert value(text) == {
        "x": {"a": 1, "b": 2},
        "w": {"a": 1, "b": 3},
        "z": {"a": 1, "b": 4, "c": 5},
        "q": {"<<": 1},
    }


def test_aliases():
    assert value("- {a: &a [1]}\n- *a\n- &b 5\n- *b\n") == [{"a": [1]}, [1], 5, 5]


def test_an_anchor_may_be_used_again():
    assert value("[&a 1, *a, &a 2, *a]") == [1, 1, 2, 2]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\n---\nb: 2\n",
        "---\na: 1\n--- # second\nb: 2\n",
        "a: 1\r\n---\r\nb: 2\r\n",
        "a: 1\n...\n---\nb: 2\n...\n",
        "%YAML 1.1\n---\na: 1\n---\nb: 2\n",
        "# comment\n%YAML 1.1\n# more\n---\na: 1\n---  \nb: 2",
        "--- {a: 1}\n--- {b: 2}\n",
        "\ufeffa: 1\n---\nb: 2\n",
    ],
)
def test_documents(text):
    assert values(text) == [{"a": 1}, {"b": 2}]


def test_a_block_of_text_may_hold_dashes():
    assert values("a: |\n  x\n   ---\n  ---y\n") == [{"a": "x\n ---\n---y\n"}]


def test_a_broken_document_leaves_the_others_readable():
    first, broken, last = documents("a: 1\n---\nb: [\n---\nc: 3\n")

    assert [first.value, last.value] == [{"a": 1}, {"c": 3}]
    assert str(broken).endswith("line 4")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n\na: [b\n", "it ends too early, line 4"),
        ("null: 1", "a key must not be null"),
        ("a: .inf", ".inf is not a number that JSON has"),
        ("a: b: c", "not valid YAML at ': c', line 1"),
        ("\ta: 1", "a tab in place of spaces, line 1"),
        ("a: \x00", "control characters"),
        ("a: \x1b[2J", "control characters"),
        ("a: *nothing", "alias 'nothing' names nothing"),
        ("a: &a [*a]", "names nothing, or what it is a part of"),
        ("a: &a 1\nb: &a [*a]", "what it is a part of"),
        ("<<: 5", "needs a mapping"),
        ("<<: [[1]]", "needs a mapping"),
        ("? [a]\n: b", "a key must be a plain value"),
        ("? {a: 1}\n: b", "a key must be a plain value"),
        ("&a [1]: b", "a key must be a plain value"),
        ("x: &a [1]\n*a : 2", "a key must be a plain value"),
        ("!!python/object/apply:os.system ['id']", "is not supported"),
        ("!!binary aGk=", "is not supported"),
        ("!!int x", "is not of type int"),
        ("!!set {a}", "is not supported"),
        ("--- a\nb: c\n", "line 2"),
        ("[" * 1_000_000, f"nested more than {LIMITS.depth}"),
        ("{a: " * 1_000_000, f"nested more than {LIMITS.depth}"),
        ("- " * 1_000_000, f"nested more than {LIMITS.depth}"),
        ("!" + "x" * 100_000 + " y", "is not supported"),
        ("a: *" + "x" * 100_000, "names nothing"),
    ],
)
def test_what_is_refused(text, words):
    message = error(text)

    assert words in message
    assert len(message) < 300
    assert message.isprintable()


def bomb(levels: int, width: int) -> str:
    rows = [f"l0: &l0 [{', '.join(['x'] * width)}]"]
    for level in range(1, levels):
        rows.append(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * width)}]")
    return "\n".join(rows)


@pytest.mark.parametrize("text", [bomb(12, 9), bomb(40, 2), bomb(3, 400)])
def test_a_bomb_of_aliases_is_refused(text):
    assert f"aliases stand for more than {LIMITS.aliased:,} values" in error(text)


def test_a_bomb_of_merges_is_refused():
    keys = ", ".join(f"k{number}: 1" for number in range(1000))
    text = f"a: &a {{{keys}}}\nb: {{<<: [{', '.join(['*a'] * 200)}]}}"

    assert "aliases stand for more" in error(text)


def test_a_large_document_without_aliases_is_not_taken_for_a_bomb():
    size = LIMITS.aliased + 10

    assert size == len(value("[" + "1," * size + "]"))


@given(st.text(alphabet="ab:-[]{},&*!|>'\"%#? \n\t1.~<", max_size=60))
@settings(deadline=None)
def test_arbitrary_text_gives_documents_or_errors(text):
    for found in documents(text):
        if isinstance(found, InputError):
            assert str(found).isprintable()


texts = st.text(max_size=10) | st.sampled_from("yYnN")
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(plain)
@settings(deadline=None)
def test_what_is_written_as_yaml_comes_back(obj):
    """Text that would be read as something else is quoted, as in Kubernetes."""
    assert [obj] == values(dump(obj))


def test_values_are_counted():
    """
    A file within its limit of size may hold sixteen million numbers, which take half a minute.
    """
    few = Limits(nodes=1000)
    (error,) = documents("[" + "1," * 1000 + "]", few)
    (good,) = documents("[" + "1," * 999 + "]", few)

    assert "more than 1,000 values; split the file" in str(error)
    assert not isinstance(good, InputError)
    assert good.value == [1] * 999


def test_the_first_document_of_a_file():
    """Configuration and kubeconfig are one document; a file without any is empty."""
    assert first_document(b"a: 1") == (Document({"a": 1}), False)
    assert first_document(b"\xef\xbb\xbfa: 1\n---\nb: [")[1]
    assert first_document("a: 1".encode("utf-16")) == (Document({"a": 1}), False)
    assert first_document(b"") == (Document(None), False)
    with pytest.raises(InputError, match="line 1"):
        first_document(b"a: [")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        first_document(b"\x80")
