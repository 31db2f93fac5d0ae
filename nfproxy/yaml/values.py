"""
YAML events → plain values, with limits.

The rules are those of ``sigs.k8s.io/yaml``, which turns YAML 1.1 into JSON by way of goyaml.v2:
``yes``, ``off`` and ``n`` are booleans, ``0644`` and ``0o644`` are octal, ``131_072`` is a number,
keys become text, ``<<`` merges. Dates stay text, and so do numbers with colons such as ``10:30``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import yaml

from nfproxy.errors import InputError
from nfproxy.text import quoted

MAX_DUPLICATES = 10  # reported of one document


class Limits(msgspec.Struct, frozen=True):
    """
    How much one document may hold.

    `depth` is that of nesting, `nodes` counts mappings, lists and scalars, and `aliased` those that
    aliases stand for. Four million nodes take some seconds and half a gigabyte; Kubernetes objects
    have one in about 12 bytes.
    """

    depth: int = 200
    nodes: int = 4_000_000
    aliased: int = 100_000

    @property
    def too_deep(self) -> str:
        """The message for what is nested deeper."""
        return f"nested more than {self.depth} levels deep"


_TAG = "tag:yaml.org,2002:"
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS = {
    spelling: value
    for value, words in ((True, ("true", "yes", "on", "y")), (False, ("false", "no", "off", "n")))
    for word in words
    for spelling in (word, word.title(), word.upper())
}
_NO_JSON = frozenset(
    sign + spelling for sign in ("", "+", "-") for spelling in (".inf", ".Inf", ".INF")
) | {".nan", ".NaN", ".NAN"}
_TAGGED: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "timestamp": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}
_NUMBER_STARTS = frozenset("0123456789+-.")
_MAX_DIGITS = 1000  # a longer number stays text, so that converting it costs nothing
_INT = re.compile(
    r"([-+]?)(?:0b([01]+)|0o?([0-7]+)|0x([0-9a-f]+)|(0|[1-9][0-9]*))", re.ASCII | re.IGNORECASE
)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:e[-+]?[0-9]+)?", re.ASCII | re.I)
_MAX_INTEGRAL = 1e21  # Go writes floats from here on with an exponent
_MERGE = object()


class Document(msgspec.Struct, frozen=True):
    """A YAML document: its value, None when empty, and a message for each duplicate key."""

    value: Any
    duplicates: tuple[str, ...] = ()


class _Frame:
    """A mapping or sequence under construction."""

    __slots__ = ("anchor", "before", "key", "merges", "value")

    def __init__(self, value: Any, anchor: str | None, before: int) -> None:
        self.value = value
        self.anchor = anchor
        self.before = before  # nodes counted before this one
        self.key: Any = None  # of a mapping, while its value is awaited
        self.merges: list[Any] = []


class Builder:
    """
    Builds one document out of a parser's events.

    An alias gives the same object as its anchor, so it costs nothing here. But a caller that walks
    the value walks it every time: so the nodes that aliases stand for are counted, nested ones
    included, and limited.
    """

    def __init__(self, next_event: Callable[[], Any], line: int, limits: Limits) -> None:
        self._next_event = next_event
        self._limits = limits
        self._line = line
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0
        self._aliased = 0
        self._duplicates: list[str] = []

    def document(self) -> Document:
        """
        Return the document whose start event has been read, up to its end event.

        Raises InputError for what Kubernetes would refuse and beyond the limits, and
        lets the parser's YAMLError through.
        """
        root: Any = None
        while True:
            event = self._next_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                value = self._scalar(event)
            elif kind is yaml.MappingStartEvent:
                self._open(event, {}, "map")
                continue
            elif kind is yaml.SequenceStartEvent:
                self._open(event, [], "seq")
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                value = self._close()
            elif kind is yaml.AliasEvent:
                value = self._alias(event)
            else:
                return Document(root, tuple(self._duplicates))
            if self._stack:
                self._add(value, event)
            else:
                root = value

    def _open(self, event: Any, value: Any, tag: str) -> None:
        """Begin a mapping or sequence."""
        if len(self._stack) >= self._limits.depth:
            raise self._error(event, self._limits.too_deep)
        if event.tag not in (None, "!", _TAG + tag):
            raise self._error(event, f"tag {quoted(event.tag)} is not supported")
        if self._awaits_key():
            raise self._error(event, "a key must be a plain value")
        if event.anchor:
            self._anchors.pop(event.anchor, None)
        self._count_node(event)
        self._stack.append(_Frame(value, event.anchor, self._nodes))

    def _count_node(self, event: Any) -> None:
        """Count a node of the text."""
        self._nodes += 1
        if self._nodes > self._limits.nodes:
            raise self._error(event, f"more than {self._limits.nodes:,} values; split the file")

    def _close(self) -> Any:
        """End the innermost mapping or sequence and return it."""
        frame = self._stack.pop()
        for merged in frame.merges:
            for key, value in merged.items():
                frame.value.setdefault(key, value)
        if frame.anchor:
            self._anchors[frame.anchor] = frame.value, self._nodes - frame.before + 1
        return frame.value

    def _add(self, value: Any, event: Any) -> None:
        """Put a finished value into the innermost mapping or sequence."""
        frame = self._stack[-1]
        if type(frame.value) is list:
            frame.value.append(value)
        elif frame.key is None:
            if value is not _MERGE and type(value) is not str:
                raise self._error(event, "a key must be a plain value")
            frame.key = value
        elif frame.key is _MERGE:
            frame.key = None
            self._merge(frame, value, event)
        else:
            if frame.key in frame.value:
                self._duplicate(frame.key, event)
            frame.value[frame.key] = value
            frame.key = None

    def _merge(self, frame: _Frame, value: Any, event: Any) -> None:
        """Take the mappings that ``<<`` names; a mapping's own keys go before theirs."""
        mappings = value if isinstance(value, list) else [value]
        for mapping in mappings:
            if not isinstance(mapping, dict):
                raise self._error(event, "'<<' needs a mapping or a list of mappings")
            self._count(len(mapping), event)
        frame.merges += mappings

    def _alias(self, event: Any) -> Any:
        """Return what an alias stands for."""
        if event.anchor not in self._anchors:
            raise self._error(
                event, f"alias {quoted(event.anchor)} names nothing, or what it is a part of"
            )
        value, nodes = self._anchors[event.anchor]
        self._count(nodes, event)
        self._nodes += nodes  # a copy of them, as far as the anchors around it are concerned
        return value

    def _count(self, nodes: int, event: Any) -> None:
        """Charge nodes that are reached through an alias."""
        self._aliased += nodes
        if self._aliased > self._limits.aliased:
            raise self._error(
                event,
                f"aliases stand for more than {self._limits.aliased:,} values; write them out",
            )

    def _scalar(self, event: Any) -> Any:
        """Return the value of a scalar; a mapping's key becomes text."""
        self._count_node(event)
        text: str = event.value
        plain = event.implicit[0] and event.tag is None
        value: Any
        if plain and text == "<<" and self._awaits_key():
            value = _MERGE
        elif event.tag is None or event.tag == "!":
            value = self._plain(event, text) if plain else text
        else:
            value = self._tagged(event, text)
        if value is not _MERGE and self._awaits_key():
            value = self._key(event, text, value)
        if event.anchor:
            self._anchors[event.anchor] = value, 1
        return value

    def _key(self, event: Any, text: str, value: Any) -> str:
        """Return a key as JSON has it: ``on`` is ``"true"``, ``0x10`` is ``"16"``."""
        match value:
            case None:
                raise self._error(event, "a key must not be null")
            case bool():
                return "true" if value else "false"
            case int():
                return str(value)
        return text

    def _plain(self, event: Any, text: str) -> Any:
        """Return what a scalar without quotes and tag means."""
        if text in _NO_JSON:
            raise self._error(event, f"{text} is not a number that JSON has")
        return plain_value(text)

    def _tagged(self, event: Any, text: str) -> Any:
        """Return the value of a scalar with an explicit tag."""
        name = event.tag.removeprefix(_TAG)
        value = text if name in ("str", "timestamp") else self._plain(event, text)
        expected = _TAGGED.get(name)
        if expected is None:
            raise self._error(event, f"tag {quoted(event.tag)} is not supported")
        if not isinstance(value, expected):
            raise self._error(event, f"{quoted(text)} is not of type {name}")
        return value

    def _awaits_key(self) -> bool:
        """Return whether the next value is a key of a mapping."""
        if not self._stack:
            return False
        frame = self._stack[-1]
        return type(frame.value) is dict and frame.key is None

    def _duplicate(self, key: str, event: Any) -> None:
        """Report that a mapping has a key twice; the last one counts, as in kube-proxy."""
        if len(self._duplicates) < MAX_DUPLICATES:
            line = event.start_mark.line + self._line + 1
            self._duplicates.append(f"key {quoted(key)} twice, the last counts, line {line}")

    def _error(self, event: Any, message: str) -> InputError:
        return InputError(f"YAML: {message}, line {event.start_mark.line + self._line + 1}")


def plain_value(text: str) -> Any:
    """Return what a scalar without quotes and tag means: null, a boolean, a number or text."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _MAX_DIGITS:
        return text
    # Underscores may stand anywhere in a number, but not in a fraction without a digit before.
    digits = text if text[0] == "." else text.replace("_", "")
    if match := _INT.fullmatch(digits):
        sign, *by_base = match.groups()
        base, found = next((b, d) for b, d in zip((2, 8, 16, 10), by_base, strict=True) if d)
        return int(sign + found, base)
    if _FLOAT.fullmatch(digits) and not math.isinf(number := float(digits)):
        # In JSON 1000.0 and 1000 are one number, so an integer field takes ``1e3``.
        return int(number) if number.is_integer() and abs(number) < _MAX_INTEGRAL else number
    return text
