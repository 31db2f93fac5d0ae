"""POST, PUT, PATCH and DELETE. There is no validation, and nothing is allocated."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
from support.apiserver.resources import Resource, Target
from support.apiserver.status import StatusError, deleted, exists, not_found
from support.apiserver.store import Record, Store, join_key

_MERGES = ("application/merge-patch+json", "application/strategic-merge-patch+json")


def create(store: Store, resource: Resource, target: Target, body: bytes) -> Record:
    """Carry out a POST. Raises StatusError."""
    item = _item(resource, target, body)
    metadata = item["metadata"]
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = f"{metadata['generateName']}{secrets.token_hex(3)[:5]}"
    if metadata.get("resourceVersion"):
        raise StatusError(
            500,
            "resourceVersion should not be set on objects to be created",
            reason="InternalError",
        )
    if _found(store, resource, item):
        raise exists(resource, metadata["name"])
    return store.put(resource, item)


def replace(store: Store, resource: Resource, target: Target, body: bytes) -> tuple[Record, bool]:
    """Carry out a PUT; return the object, and whether it is new. Raises StatusError."""
    item = _item(resource, target, body)
    there = _found(store, resource, item)
    if not there and not resource.created_by_put:
        raise not_found(resource, target.name)
    return store.put(resource, item, item["metadata"].get("resourceVersion", "")), not there


def patch(store: Store, resource: Resource, target: Target, kind: str, body: bytes) -> Record:
    """
    Carry out a PATCH: a merge (RFC 7396), a strategic one too. Raises StatusError.

    Strategic merges differ in lists, which are replaced here.
    """
    if kind not in _MERGES:
        text = f"the stand-in takes {' and '.join(_MERGES)}, not {kind}"
        raise StatusError(415, text)
    before = store.collections[resource.plural].records.get(
        join_key(resource, target.namespace, target.name)
    )
    if before is None:
        raise not_found(resource, target.name)
    change = _decoded(body)
    wanted = (change.get("metadata") or {}).get("resourceVersion") or ""
    merged = _merge(msgspec.json.decode(before.body()), change)
    return store.put(resource, merged, wanted)


def delete(store: Store, resource: Resource, target: Target) -> dict[str, Any]:
    """Carry out a DELETE; return the Status. Raises StatusError."""
    before = store.remove(resource, join_key(resource, target.namespace, target.name))
    if before is None:
        raise not_found(resource, target.name)
    uid = msgspec.json.decode(before.body())["metadata"]["uid"]
    return deleted(resource, target.name, uid)


def without_writing(
    store: Store, resource: Resource, target: Target, verb: str, body: bytes
) -> dict[str, Any]:
    """Answer as if something had been written (``dryRun=All``). Raises StatusError."""
    item = _decoded(body) if verb == "patch" else _item(resource, target, body)
    there = join_key(resource, target.namespace, target.name) in _records(store, resource)
    if verb != "create" and not there:
        raise not_found(resource, target.name)
    if verb == "create" and _found(store, resource, item):
        raise exists(resource, item["metadata"]["name"])
    return item


def _item(resource: Resource, target: Target, body: bytes) -> dict[str, Any]:
    item = _decoded(body)
    if item.get("kind", resource.kind) != resource.kind:
        text = f'{item["kind"]} in version "{item.get("apiVersion")}" cannot be handled as a '
        raise StatusError(400, text + resource.kind)
    metadata = item.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise StatusError(400, "metadata is no object")
    given = metadata.setdefault("namespace", target.namespace) if resource.namespaced else ""
    if given != target.namespace:
        text = "the namespace of the provided object does not match the namespace sent on the "
        raise StatusError(400, text + "request")
    if target.name and metadata.setdefault("name", target.name) != target.name:
        text = f"the name of the object ({metadata['name']}) does not match the name on the URL "
        raise StatusError(400, f"{text}({target.name})")
    return item


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise StatusError(400, f"the body of the request is no object in JSON: {error}") from error


def _found(store: Store, resource: Resource, item: dict[str, Any]) -> bool:
    metadata = item["metadata"]
    key = join_key(resource, metadata.get("namespace", ""), metadata.get("name", ""))
    return key in _records(store, resource)


def _records(store: Store, resource: Resource) -> Mapping[str, Record]:
    return store.collections[resource.plural].records


def _merge(old: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged
