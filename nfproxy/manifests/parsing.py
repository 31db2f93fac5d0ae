"""
The content of one manifest file: its objects, and what is wrong with it.

Pure: bytes in, values out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from nfproxy.errors import InputError
from nfproxy.kube.decode import Value, decode
from nfproxy.kube.heldfiles import FileContent, ObjectKey, UnusableObject
from nfproxy.kube.identity import DEFAULT_NAMESPACE, Identity, Kind, identify, objection, read_as
from nfproxy.manifests.files import MAX_YAML_MIB, MIB, Text
from nfproxy.mismatch import UNREADABLE, json_error, mismatch
from nfproxy.model.changes import Problem
from nfproxy.yaml import decode_text, documents

_MAX_LISTS_IN_LISTS = 5
_MAX_PROBLEMS = 200  # reported of one file
_MAX_REFUSED = 10_000  # after so many, a file is no file of objects and not read any further
_MAX_EMPTY = 100_000  # `{}` in a list; each would take twenty times its room
_Data = msgspec.Raw | Mapping[str, Any]
OnObject = Callable[[Kind, _Data], None]


def parse(
    text: Text, source_file: str, node_name: str, on_object: OnObject = lambda kind, data: None
) -> FileContent:
    """
    Return the content of a file.

    Of Nodes only the one called `node_name` is read. `on_object` gets each object of a kind that
    nfproxy reads, other Nodes too, as it is written. Never raises for bad input.
    """
    reader = _Reader(source_file, node_name, on_object)
    try:
        if not (text.json_only or text.data.strip()):
            # An empty file is what a full disk leaves of an edited one: it may have held anything.
            # To remove objects, remove the file.
            reader.blank()
        elif not (text.json and reader.read_json(text)):
            reader.read_yaml(decode_text(text.data))  # of which JSON is a part
    except InputError as error:
        reader.fail(error)
    return reader.content()


class _Head(msgspec.Struct, frozen=True):
    """What differs between a list and an object."""

    kind: Any = ""
    items: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_head = msgspec.json.Decoder(_Head)
_raw_items = msgspec.json.Decoder(list[msgspec.Raw] | None)


class _Reader:
    """Gathers the content of one file."""

    def __init__(self, source_file: str, node_name: str, on_object: OnObject) -> None:
        self._source_file = source_file
        self._node_name = node_name
        self._on_object = on_object
        self._objects: dict[ObjectKey, Value | None] = {}
        self._problems: list[Problem] = []
        self._more_problems = 0
        self._unusable: set[UnusableObject] = set()
        self._unknown: set[tuple[str, str]] = set()
        self._parsed = True
        self._serviceless = 0
        self._has_nameless = False
        self._is_useful = False  # it holds an object of a kind that nfproxy reads

    def content(self) -> FileContent:
        """Return everything gathered."""
        if self._parsed and not (self._is_useful or self._problems):
            kinds = ", ".join(kind.word for kind in Kind)
            what = f"holds no object of a kind that nfproxy reads ({kinds})"
            self._problems.append(Problem(self._source_file, "", "", what))
        if self._more_problems:
            more = f"and {self._more_problems:,} more problems"
            self._problems.append(Problem(self._source_file, "", "", more))
            self._more_problems = 0
        return FileContent(
            self._objects,
            tuple(self._problems),
            self._parsed,
            frozenset(self._unusable),
            self._has_nameless,
            self._serviceless,
        )

    def blank(self) -> None:
        """The file holds nothing at all."""
        self._has_nameless = True

    def fail(self, error: InputError) -> None:
        """The file, or a part of it, cannot be read."""
        self._parsed = False
        self._problems.append(Problem(self._source_file, "", "", error.what, error.remedy))

    def read_json(self, text: Text) -> bool:
        """
        Read a JSON file; return false for one that may be YAML.

        Raises InputError for one that is neither.
        """
        try:
            raw = msgspec.json.decode(text.data, type=msgspec.Raw)
        except UNREADABLE as error:
            if text.json_only or len(text.data) > MAX_YAML_MIB * MIB:
                is_deep = isinstance(error, RecursionError)
                what = "is nested too deeply" if is_deep else json_error(text.data)
                raise InputError(what) from None
            return False
        self._read(raw, "", 0)
        return True

    def read_yaml(self, text: str) -> None:
        """Read a file of YAML documents."""
        for number, document in enumerate(documents(text), 1):
            if isinstance(document, InputError):
                self.fail(document)
                continue
            where = f"document {number}"
            for message in document.duplicates:
                identity = identify(document.value)
                self._problem(identity.subject or where, message, identity.shown_kind)
            if document.value is not None:
                self._read(document.value, where, 0)

    def _read(
        self, data: object, where: str, level: int, api_version: str = "", kind: str = ""
    ) -> None:
        """
        Read one object or list of them.

        `where` stands for an object without a name in messages; `api_version` and
        `kind` are those of an item of a typed list, which has none of its own.
        """
        if not _is_object(data):
            self._has_nameless = True
            self._problem(where, "is not an object (a mapping with apiVersion and kind); ignored")
            return
        identity = identify(data)
        if not identity.kind and kind:
            identity = msgspec.structs.replace(identity, api_version=api_version, kind=kind)
        if identity.kind.endswith("List") and (items := _items(data)) is not None:
            self._read_list(items, identity, where, level)
        elif (used := read_as(identity)) is not None:
            self._read_object(used, data, identity)
        elif message := objection(identity):
            self._refuse(identity, where, message)

    def _read_list(
        self, items: list[Any] | str, identity: Identity, where: str, level: int
    ) -> None:
        """Read the items of a list; those of a typed list need not repeat their kind."""
        if isinstance(items, str) or level >= _MAX_LISTS_IN_LISTS:
            self._has_nameless = True
            problem = items if isinstance(items, str) else "holds lists in lists in lists; ignored"
            self._problem(" ".join(filter(None, (where, identity.kind))), problem)
            return
        kind = identity.kind.removesuffix("List")
        for index, item in enumerate(items):
            place = " ".join(filter(None, (where, f"items[{index}]")))
            self._read(item, place, level + 1, identity.api_version, kind)

    def _read_object(self, kind: Kind, data: _Data, identity: Identity) -> None:
        """Read one object of a kind that is used."""
        self._is_useful = True
        self._on_object(kind, data)
        if kind is Kind.NODE and identity.name and identity.name != self._node_name:
            return
        decoded = decode(kind, data, self._source_file)
        self._add(decoded.problems)
        if not decoded.usable or decoded.name is None:
            self._add_unusable(kind, identity, named=decoded.name is not None)
            return
        key = ObjectKey(kind, decoded.name)
        if key in self._objects:
            self._problem(str(key), "is in the file twice; the first one counts", kind.word)
            return
        self._objects[key] = decoded.value
        self._serviceless += decoded.has_no_service

    def _refuse(self, identity: Identity, where: str, message: str) -> None:
        """Add an object that is not read; an unknown kind is one problem per file."""
        self._add_unusable(None, identity)
        kind = identity.api_version, identity.kind
        if kind in self._unknown:
            return
        if all(kind):
            self._unknown.add(kind)
        self._problem(identity.subject or where, message, identity.shown_kind)

    def _add_unusable(self, kind: Kind | None, identity: Identity, named: bool = True) -> None:
        """An object is in the file but cannot be used."""
        if named and identity.name:
            namespace = identity.namespace or DEFAULT_NAMESPACE
            self._unusable.add(UnusableObject(kind, namespace, identity.name))
        else:
            self._has_nameless = True

    def _problem(self, subject: str, what: str, kind: str = "") -> None:
        self._add((Problem(self._source_file, subject, "", what, kind=kind),))

    def _add(self, problems: Sequence[Problem]) -> None:
        room = _MAX_PROBLEMS - len(self._problems)
        self._problems += problems[:room]
        self._more_problems += len(problems[room:])
        if self._more_problems > _MAX_REFUSED:
            raise InputError("is hardly a file of Kubernetes objects; the rest of it is not read")


def _is_object(data: object) -> TypeGuard[_Data]:
    """Return whether data is a JSON object or a YAML mapping."""
    if isinstance(data, msgspec.Raw):
        return bytes(memoryview(data)[:32]).lstrip().startswith(b"{")
    return isinstance(data, Mapping)


def _items(data: _Data) -> list[Any] | str | None:
    """Return the items of a list, what is wrong with them, or None where there are none."""
    items: Any = msgspec.UNSET
    try:
        if isinstance(data, Mapping):
            if "items" not in data:
                return None
            items = data["items"]
            return msgspec.convert(items, list[Any] | None) or []
        items = _head.decode(data).items
        if items is not msgspec.UNSET and bytes(items).count(b"{}") > _MAX_EMPTY:
            return f"holds more than {_MAX_EMPTY:,} empty objects; ignored"
        return None if items is msgspec.UNSET else _raw_items.decode(items) or []
    except UNREADABLE:
        return f"items: {mismatch(items, list[Any] | None)}"
