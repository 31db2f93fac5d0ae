"""The configuration file as data, also when it is broken or hostile."""

import os

import pytest

from nfproxy.config.document import MAX_BYTES, parse_document, read_document
from nfproxy.errors import ConfigError


def parse(text):
    return parse_document(text.encode(), "kp.yaml")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: 1\nb: [x, z]\n", {"a": 1, "b": ["x", "z"]}),
        ('{"a": 1,\n\t"b": ["x", "y"]}', {"a": 1, "b": ["x", "y"]}),
        ("{a: 1, b: yes}", {"a": 1, "b": True}),
        ("\ufeffa: 1", {"a": 1}),
        ("---\na: null\n", {"a": None}),
        ("a: 2001-01-01\nb: 1:30\n", {"a": "2001-01-01", "b": "1:30"}),
        ("a: 0x10\nb: 010\nc: 1e3\nd: 1.5\n", {"a": 16, "b": 8, "c": 1000.0, "d": 1.5}),
        (
            "a: &x {m: 1}\nb: *x\nc: {<<: *x, o: 2}",
            {"a": {"m": 1}, "b": {"m": 1}, "c": {"m": 1, "o": 2}},
        ),
        ("a: " + "9" * 5000, {"a": "9" * 5000}),
        ("", None),
    ],
)
def test_yaml_and_json_become_plain_data(text, data):
    """Both are read; scalars are those of Kubernetes' YAML library."""
    assert (data, ()) == parse(text)


@pytest.mark.parametrize("text", ["mode: a\nx: 1\nmode: b\n", '{"mode": "a", "x": 1, "mode": "b"}'])
def test_the_last_of_duplicate_keys_counts_and_a_warning_names_it(text):
    """kube-proxy logs duplicates and goes on; so does nfproxy."""
    data, warnings = parse(text)

    assert data["mode"] == "b"
    assert len(warnings) == 1
    assert "'mode'" in warnings[0]


def test_a_duplicate_key_is_found_by_its_line():
    """The warning of YAML names the line of the second one."""
    assert "line 3" in parse("a:\n  b: 1\n  b: 2\n").warnings[0]


def test_of_several_documents_the_first_counts():
    """A warning says that the others are not read."""
    data, warnings = parse("a: 1\n---\na: 2\n")

    assert data == {"a": 1}
    assert warnings == ("kp.yaml: only the first of several documents is read",)


BOMB = "\n".join(
    ["a0: &a0 {k: v}"]
    + [f"a{n}: &a{n} {{l: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
)
MERGE_BOMB = "\n".join(
    ["a0: &a0 {k: v}"]
    + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
)


BROKEN = {
    "alias bomb": (BOMB.encode(), "more than 100,000 values"),
    "merge key bomb": (MERGE_BOMB.encode(), "more than 100,000 values"),
    "many values": (b"[" + b"a," * 110_000 + b"]", "more than 100,000 values"),
    "recursive alias": (b"a: &a [*a]", "names nothing, or what it is a part of"),
    "deep lists": (b"[" * 1000, "nested more than 50 levels deep"),
    "deep mappings": (b"{" * 5000, "nested more than 50 levels deep"),
    "deep JSON": (b'{"a":' * 40_000, "nested more than 50 levels deep"),
    "open list": (b"a: [1, 2\nb: 3", "not valid YAML at ': 3', line 2"),
    "open string": (b"a: 'x", "not valid YAML: it ends too early, line 1"),
    "tab": (b"\tx: 1", "a tab in place of spaces, line 1"),
    "alias 'nowhere' names nothing": (b"a: *nowhere", "alias 'nowhere' names nothing"),
    "Python object": (b"a: !!python/object/apply:os.system [id]", "is not supported, line 1"),
    "list as key": (b"? [1]\n: 2", "a key must be a plain value, line 1"),
    "wrong tag": (b"a: !!int x", "'x' is not of type int, line 1"),
    "control characters": (b"\x00\x01\x02", "holds control characters"),
    "not UTF-8": (b"\x80\x81", "is not UTF-8 text"),
    "too large": (b"a" * (MAX_BYTES + 1), "larger than"),
}


@pytest.mark.parametrize(("raw", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_and_hostile_texts_are_config_errors(raw, message):
    """Every one names the file and what is wrong, and none takes long or much memory."""
    with pytest.raises(ConfigError, match=message) as caught:
        parse_document(raw, "kp.yaml")

    assert str(caught.value).startswith("kp.yaml")
    assert len(str(caught.value)) < 400


def test_files_that_cannot_be_read_are_config_errors(tmp_path):
    """Missing, a directory, no valid path: the path and the reason are named."""
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match=f"^{path}: cannot read"):
            read_document(str(path))
    with pytest.raises(ConfigError, match="cannot read"):
        read_document("a\0b")


def test_a_file_is_read(tmp_path):
    """The content of the file comes back as data."""
    path = tmp_path / "kp.yaml"
    path.write_text("a: 1" + os.linesep)

    assert read_document(str(path)).data == {"a": 1}
