"""
The protocol of LIST and WATCH, without a socket.

Source: "Kubernetes API Concepts" (resource versions, watch bookmarks, streaming lists,
KEP-956 and KEP-3157), ``metav1.WatchEvent``, ``metav1.Status`` and ``metav1.ListMeta``. A watch
is one JSON object a line, of any length, in chunks cut anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import UNSET, Raw, UnsetType, field

from nfproxy.errors import InputError
from nfproxy.mismatch import UNREADABLE, mismatch

MAX_FRAME_BYTES = 8 << 20  # etcd takes objects of 1.5 MB; encoding them as JSON adds to it
GONE = 410  # the resource version, or the continue token, is too old


class StreamError(InputError):
    """An answer is not what the protocol says; it has to be asked for again."""


class Status(msgspec.Struct, frozen=True):
    """A ``metav1.Status``: what the API server says instead of an answer."""

    code: int = 0
    reason: str = ""
    message: str = ""
    retry_after_s: float | None = None

    @property
    def expired(self) -> bool:
        """Tell whether what was asked for is too old to be told, so that a new list is due."""
        return self.code == GONE or self.reason in ("Expired", "Gone")


class Put(msgspec.Struct, frozen=True):
    """An object appeared or changed."""

    object: Raw
    version: str


class Removed(msgspec.Struct, frozen=True):
    """An object went, or no longer fits the selectors; `object` is how it was last."""

    object: Raw
    version: str


class Bookmark(msgspec.Struct, frozen=True):
    """Everything up to `version` has been told; `complete` ends the initial state."""

    version: str
    complete: bool


Event = Put | Removed | Bookmark | Status


class Page(msgspec.Struct, frozen=True):
    """A part of a list; `rest` is the token to ask for the next with, "" in the last."""

    version: str
    rest: str
    items: tuple[Raw, ...]


class FrameSplitter:
    """Cuts a stream of chunks into lines."""

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        """Take lines of up to `limit` bytes."""
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """
        Yield the lines that `chunk` ends, without empty ones. Must be used up before the next.

        Raises StreamError at a line beyond the limit; nothing can be read after that.
        """
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._hold(chunk[start:end])
            start = end + 1
            line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts, self._held = [], 0
            if line.strip():
                yield line
        if start < len(chunk):
            self._hold(chunk[start:])

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        if self._held > self._limit:
            raise StreamError(f"a watch event is longer than {self._limit} bytes")
        self._parts.append(part)


class _Frame(msgspec.Struct):
    type: str
    object: Raw


class _Annotations(msgspec.Struct):
    initial_events_end: str | None = field(name="k8s.io/initial-events-end", default=None)


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str | None = None
    annotations: _Annotations | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata | None = None


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float | None = None


class _Status(msgspec.Struct):
    kind: str | None = None
    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str | None = None
    rest: str | None = field(name="continue", default=None)


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[Raw] | UnsetType | None = UNSET


_frame = msgspec.json.Decoder(_Frame)
_object = msgspec.json.Decoder(_Object)
_status = msgspec.json.Decoder(_Status)
_list = msgspec.json.Decoder(_List)


def read_event(frame: bytes) -> Event | None:
    """
    Return what a line of a watch tells, None for a type of event nobody knows yet.

    The object inside is not judged here. Raises StreamError if the line is no event.
    """
    try:
        found = _frame.decode(frame)
    except UNREADABLE:
        raise StreamError(f"a watch event cannot be read: {mismatch(frame, _Frame)}") from None
    match found.type:
        case "ADDED" | "MODIFIED":
            return Put(found.object, _metadata(found.object).resource_version or "")
        case "DELETED":
            return Removed(found.object, _metadata(found.object).resource_version or "")
        case "BOOKMARK":
            return _bookmark(_metadata(found.object))
        case "ERROR":
            return read_status(found.object) or Status(message="an error without a Status")
    return None


def _bookmark(metadata: _Metadata) -> Bookmark:
    annotations = metadata.annotations or _Annotations()
    complete = annotations.initial_events_end == "true"
    if complete and not metadata.resource_version:
        raise StreamError("the bookmark that ends the initial events has no resourceVersion")
    return Bookmark(metadata.resource_version or "", complete)


def _metadata(data: Raw) -> _Metadata:
    """Return what an object says of its place in history; nothing if that cannot be read."""
    try:
        return _object.decode(data).metadata or _Metadata()
    except UNREADABLE:
        return _Metadata()


def read_status(data: bytes | Raw) -> Status | None:
    """Return a Status, None for anything else, such as a proxy's page of HTML."""
    try:
        found = _status.decode(data)
    except UNREADABLE:
        return None
    if found.kind != "Status":
        return None
    retry_after_s = found.details.retry_after_seconds if found.details else None
    return Status(found.code or 0, found.reason or "", found.message or "", retry_after_s)


def read_page(body: bytes) -> Page:
    """Return a page of a list. Raises StreamError if it is none."""
    try:
        found = _list.decode(body)
    except UNREADABLE:
        raise StreamError(f"a list cannot be read: {mismatch(body, _List)}") from None
    if found.items is UNSET:
        raise StreamError("a list without items")
    version = found.metadata.resource_version or ""
    rest = found.metadata.rest or ""
    if not version:
        raise StreamError("a list without resourceVersion, so that nothing can be watched from it")
    return Page(version, rest, tuple(found.items or ()))
