"""Kubernetes objects as a renderer leaves them: plain data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]


def named(item: Object) -> tuple[str, str, str]:
    """
    Return what distinguishes an object: kind, namespace and name.

    What is not there, or not as it should be, is "".
    """
    metadata = item.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    return item.get("kind", ""), metadata.get("namespace", ""), metadata.get("name", "")


def find(objects: Iterable[Object], kind: str, name: str = "nfproxy") -> Object:
    """Return the only object of that kind and name. Raises LookupError."""
    found = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} objects are {kind} {name}")
    return found[0]
