"""
Objects, their versions, and what has happened to them: etcd and the watch cache in one.

Nothing here knows of HTTP. An object is encoded once per version, in two parts: its body is
``{"metadata":{"resourceVersion":"N"`` and a tail, so that another version (a DELETED event
carries that of the deletion) costs nothing.
"""

from __future__ import annotations

import bisect
import datetime
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from support.apiserver.resources import RESOURCES, Resource
from support.apiserver.selectors import Selection
from support.apiserver.status import StatusError, conflict

_FIRST_VERSION = 1_000_000
_SNAPSHOTS = 8  # lists in pages that may be under way at a time

_encode = msgspec.json.Encoder(order="deterministic").encode


class Record(msgspec.Struct, frozen=True):
    """One version of an object. `labels` and `fields` are what selectors look at."""

    key: str
    namespace: str
    name: str
    version: int
    labels: dict[str, str]
    fields: dict[str, str]
    tail: bytes

    def body(self, version: int = 0) -> bytes:
        """Return it as a list holds it: without its kind; at another version if one is given."""
        return b'{"metadata":{"resourceVersion":"%d"%b' % (version or self.version, self.tail)

    def document(self, resource: Resource, version: int = 0) -> bytes:
        """Return it as it stands alone."""
        kind = b'{"kind":"%b","apiVersion":"%b",'
        words = resource.kind.encode(), resource.api_version.encode()
        return kind % words + self.body(version)[1:]

    def selected(self, selection: Selection) -> bool:
        """Return whether a selection has it."""
        return selection.matches(self.namespace, self.labels, self.fields)


class Change(msgspec.Struct, frozen=True):
    """An object came, changed or went. One that is `withheld` is never sent to a watch."""

    version: int
    before: Record | None
    after: Record | None
    withheld: bool


class Collection:
    """
    The objects of one resource.

    `floor` is the version from which on changes are known; watches from before are expired.
    """

    def __init__(self, resource: Resource, floor: int) -> None:
        self.resource = resource
        self.records: dict[str, Record] = {}
        self.floor = floor
        self.listeners: dict[object, Callable[[Change], None]] = {}
        self._keys: list[str] = []
        self._log: list[Change] = []
        self._snapshots: dict[int, list[Record]] = {}
        self._token_floor = 0

    def commit(self, change: Change, history: int) -> None:
        """Make a change, and call the listeners; all but the last `history` are forgotten."""
        if change.after is not None:
            if change.before is None:
                bisect.insort(self._keys, change.after.key)
            self.records[change.after.key] = change.after
        elif change.before is not None:
            self._keys.pop(bisect.bisect_left(self._keys, change.before.key))
            del self.records[change.before.key]
        self._log.append(change)
        if len(self._log) > history:
            self.floor = self._log[len(self._log) - history].version - 1
            del self._log[: len(self._log) - history]
        for listener in list(self.listeners.values()):
            listener(change)

    def since(self, version: int) -> list[Change]:
        """Return the changes after a version, which is not below `floor`."""
        return self._log[bisect.bisect_right(self._log, version, key=lambda c: c.version) :]

    def current(self) -> list[Record]:
        """Return what is there, in the order of keys."""
        return [self.records[key] for key in self._keys]

    def at(self, version: int) -> list[Record] | None:
        """Return what was there at a version, in the order of keys; None if that is forgotten."""
        found = self._snapshots.get(version)
        if found is None:
            if version < self.floor:
                return None
            found = self._snapshots[version] = self._rewind(version)
            while len(self._snapshots) > _SNAPSHOTS:
                del self._snapshots[next(iter(self._snapshots))]
        return found

    def continued(self, version: int) -> list[Record] | None:
        """Return the same for a list that goes on."""
        return None if version < self._token_floor else self.at(version)

    def _rewind(self, version: int) -> list[Record]:
        changes = self.since(version)
        if not changes:
            return self.current()
        records = dict(self.records)
        for change in reversed(changes):
            if change.before is not None:
                records[change.before.key] = change.before
            elif change.after is not None:
                records.pop(change.after.key, None)
        return [records[key] for key in sorted(records)]

    def restore(self, records: dict[str, Record], version: int) -> None:
        """Have these objects at a version, and know no change after it."""
        self.records, self._keys = dict(records), sorted(records)
        self._log = [change for change in self._log if change.version <= version]
        self._snapshots.clear()

    def compact(self, version: int) -> None:
        """Forget what was before a version."""
        self.floor = version
        self._log.clear()
        self._snapshots.clear()

    def expire_tokens(self, version: int) -> None:
        """Let lists that began before a version not go on."""
        self._token_floor = version

    def renumber(self, base: int) -> int:
        """Give the objects new versions, in the order of the old ones; return the last."""
        self._token_floor = 0
        for record in sorted(self.records.values(), key=lambda r: r.version):
            base += 1
            self.records[record.key] = msgspec.structs.replace(record, version=base)
        return base


class Store:
    """All objects, under one sequence of versions."""

    def __init__(self, history: int) -> None:
        self.history = history
        self.version = _FIRST_VERSION
        self.withheld: set[str] = set()
        self._backup: tuple[int, dict[str, dict[str, Record]]] = (self.version, {})
        self.collections = {
            name: Collection(resource, self.version) for name, resource in RESOURCES.items()
        }

    def put(self, resource: Resource, item: dict[str, Any], wanted: str = "") -> Record:
        """
        Create or replace an object; its version may be missing.

        What a server sets it sets here too: uid, creationTimestamp, generation. A replacement
        that changes nothing makes no version. `wanted` is the version the client has seen.
        Raises StatusError, 409.
        """
        collection = self.collections[resource.plural]
        key = key_of(resource, item)
        before = collection.records.get(key)
        if before is not None and wanted not in ("", str(before.version)):
            raise conflict(resource, before.name)
        tail, labels, fields = _encoded(resource, item, before)
        if before is not None and before.tail == tail:
            return before
        self.version += 1
        metadata = item["metadata"]
        namespace = metadata.get("namespace", "") if resource.namespaced else ""
        after = Record(key, namespace, metadata["name"], self.version, labels, fields, tail)
        self._commit(collection, before, after)
        return after

    def remove(self, resource: Resource, key: str) -> Record | None:
        """Delete an object, and return how it was; None if there is none."""
        collection = self.collections[resource.plural]
        before = collection.records.get(key)
        if before is not None:
            self.version += 1
            self._commit(collection, before, None)
        return before

    def compact(self) -> None:
        """Forget history: all versions clients have seen so far are too old."""
        self.version += 1
        for collection in self.collections.values():
            collection.compact(self.version)

    def expire_tokens(self) -> None:
        """Let no list under way go on."""
        self.version += 1
        for collection in self.collections.values():
            collection.expire_tokens(self.version)

    def reset_versions(self) -> None:
        """Begin again at a lower version, as an etcd does that was restored from a backup."""
        self.version //= 2
        for collection in self.collections.values():
            self.version = collection.renumber(self.version)
        for collection in self.collections.values():
            collection.compact(self.version)

    def back_up(self) -> None:
        """Keep what there is now for `restore`."""
        records = {name: dict(one.records) for name, one in self.collections.items()}
        self._backup = self.version, records

    def restore(self) -> None:
        """Begin again where the backup was made; versions that were given come again."""
        self.version, records = self._backup
        for name, collection in self.collections.items():
            collection.restore(records[name], self.version)

    def _commit(self, collection: Collection, before: Record | None, after: Record | None) -> None:
        hidden = collection.resource.plural in self.withheld
        collection.commit(Change(self.version, before, after, hidden), self.history)


def key_of(resource: Resource, item: dict[str, Any]) -> str:
    """Return an object's key. Raises StatusError, 422, without a name."""
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise StatusError(422, f"{resource.kind} is invalid: metadata.name: Required value")
    return join_key(resource, metadata.get("namespace", ""), metadata["name"])


def join_key(resource: Resource, namespace: str, name: str) -> str:
    """Return the key of the object of that name."""
    return f"{namespace}/{name}" if resource.namespaced else name


def _encoded(
    resource: Resource, item: dict[str, Any], before: Record | None
) -> tuple[bytes, dict[str, str], dict[str, str]]:
    """Return an object's tail, and what selectors look at."""
    rest = {k: v for k, v in item.items() if k not in ("kind", "apiVersion", "metadata")}
    for name in resource.nullable:
        rest[name] = rest.get(name) or None  # etcd keeps no difference
    metadata = {k: v for k, v in item["metadata"].items() if k != "resourceVersion"}
    old: dict[str, Any] = msgspec.json.decode(before.body()) if before else {}
    if before:
        metadata |= {k: old["metadata"][k] for k in ("uid", "creationTimestamp")}
    else:
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", _now())
    if resource.generations:
        generation = old["metadata"]["generation"] if before else 0
        old.pop("metadata", None)
        changed = not before or _encode(old) != _encode(rest)
        metadata["generation"] = generation + changed
    tail = b"," + _encode(metadata)[1:]
    if rest:
        tail += b"," + _encode(rest)[1:]
    else:
        tail += b"}"
    return tail, _labels(metadata), _fields(resource, metadata, rest)


def _labels(metadata: dict[str, Any]) -> dict[str, str]:
    found = metadata.get("labels")
    return found if isinstance(found, dict) else {}


def _fields(resource: Resource, metadata: dict[str, Any], rest: dict[str, Any]) -> dict[str, str]:
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", ""),
    }
    for path in resource.fields:
        value: Any = rest
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        fields[path] = value if isinstance(value, str) else "true" if value is True else ""
    return fields


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
