"""A list and watch as a state machine, and the lines and pages that an API server sends it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nfproxy.kube.listwatch import ListWatch
from nfproxy.kube.protocol import (
    WatchTimeouts,
)
from nfproxy.kube.resources import resources
from nfproxy.kube.watch import Put, Removed

SERVICES, SLICES, CIDRS, _ = resources("n1")
TIMES = WatchTimeouts()


def machine(resource: Any = SERVICES) -> ListWatch:
    """Return a machine without jitter."""
    return ListWatch(resource, TIMES, lambda: 0.0)


def line(type_: str, name: str, version: int | str) -> bytes:
    """Return an event of an object."""
    obj = {"metadata": {"name": name, "resourceVersion": str(version)}}
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


def bookmark(version: int | str, is_complete: bool = False) -> bytes:
    """Return a bookmark; one that `is_complete` ends a streaming list."""
    annotations = {"k8s.io/initial-events-end": "true"} if is_complete else {}
    metadata = {"resourceVersion": str(version), "annotations": annotations}
    return json.dumps({"type": "BOOKMARK", "object": {"metadata": metadata}}).encode() + b"\n"


def error_line(code: int) -> bytes:
    """Return an event that carries an error."""
    status = {"kind": "Status", "code": code}
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


def page(version: int | str, names: Iterable[str], token: str = "") -> bytes:
    """Return a page of a list; `token` asks for the next one."""
    items = [{"metadata": {"name": name}} for name in names]
    metadata = {"resourceVersion": str(version), "continue": token}
    return json.dumps({"metadata": metadata, "items": items}).encode()


def name_of(event: Put | Removed) -> str:
    """Return the name of an event's object."""
    return str(json.loads(bytes(event.object))["metadata"]["name"])


def watching(resource: Any = SERVICES, at_s: float = 0.0) -> ListWatch:
    """Return a machine that watches from version 10, with a stream that has not lasted yet."""
    protocol = machine(resource)
    protocol.next_request(at_s)
    protocol.opened(at_s)
    protocol.received(bookmark(10, is_complete=True), at_s)
    return protocol


def is_list(request: Any) -> bool:
    """Return whether a request asks for a streaming list."""
    return "sendInitialEvents" in request.query
