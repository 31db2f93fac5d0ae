"""
Label and field selectors.

Source: k8s.io/apimachinery/pkg/labels and fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from support.apiserver.resources import Resource
from support.apiserver.status import StatusError

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)$")
_COMPARE = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<word>==|=|!=)\s*(?P<value>[^\s!=,()]*)$")
_FIELD = re.compile(r"^(?P<key>[^\s!=,]+)(?P<word>==|=|!=)(?P<value>(?:[^=,\\]|\\.)*)$")
_FIELD_COMMA = re.compile(r"(?<!\\),")
_EXISTS = re.compile(r"^(?P<no>!?)\s*(?P<key>[^\s!=,()]+)$")
_COMMA = re.compile(r",(?![^(]*\))")


class Requirement(msgspec.Struct, frozen=True):
    """
    One part of a selector.

    It holds where the key has one of `values`, or just is there (None); `negated` turns that
    round. A key that is absent is unlike every value.
    """

    key: str
    values: frozenset[str] | None
    negated: bool = False

    def holds(self, has: Mapping[str, str]) -> bool:
        """Return whether something with these labels, or fields, is selected."""
        value = has.get(self.key)
        found = value is not None and (self.values is None or value in self.values)
        return found is not self.negated


class Selection(msgspec.Struct, frozen=True):
    """What a list or a watch is about."""

    namespace: str = ""
    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether there is no selector; a namespace is none."""
        return not self.labels and not self.fields

    def matches(self, namespace: str, labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
        """Return whether an object is selected."""
        return (
            (not self.namespace or namespace == self.namespace)
            and all(part.holds(labels) for part in self.labels)
            and all(part.holds(fields) for part in self.fields)
        )


def label_requirements(text: str) -> tuple[Requirement, ...]:
    """Parse ``labelSelector``. Raises StatusError, 400."""
    return tuple(_label(part.strip()) for part in _COMMA.split(text)) if text.strip() else ()


def _label(part: str) -> Requirement:
    if found := _SET.match(part):
        values = frozenset(value.strip() for value in found["values"].split(","))
        return Requirement(found["key"], values, found["word"] == "notin")
    if found := _EXISTS.match(part):
        return Requirement(found["key"], None, bool(found["no"]))
    if found := _COMPARE.match(part):
        return Requirement(found["key"], frozenset([found["value"]]), found["word"] == "!=")
    raise StatusError(400, f"unable to parse requirement: {part!r} is not understood")


def field_requirements(text: str, resource: Resource) -> tuple[Requirement, ...]:
    """Parse ``fieldSelector``. Raises StatusError, 400."""
    known = {"metadata.name", *resource.fields}
    if resource.namespaced:
        known.add("metadata.namespace")
    made = []
    for part in _FIELD_COMMA.split(text) if text else ():
        found = _FIELD.match(part)
        if not found:
            raise StatusError(400, f"invalid selector: '{text}'; can't understand '{part}'")
        if found["key"] not in known:
            raise StatusError(400, _unknown(found["key"], resource))
        value = re.sub(r"\\(.)", r"\1", found["value"])
        made.append(Requirement(found["key"], frozenset([value]), found["word"] == "!="))
    return tuple(made)


def _unknown(key: str, resource: Resource) -> str:
    """Return the words for a field that cannot be selected by: the core has words of its own."""
    if resource.group:
        return f'"{key}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    return f"field label not supported: {key}"
