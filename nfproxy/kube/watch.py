"""
The wire forms of LIST and WATCH: lines of a stream, watch events, pages of a list.

Source: "Kubernetes API Concepts" (resource versions, watch bookmarks, streaming lists, KEP-956 and
KEP-3157), ``metav1.WatchEvent`` and ``metav1.ListMeta``. A watch sends one JSON object a line, of
any length; the chunks that arrive may end anywhere.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType, field

from nfproxy.errors import InputError
from nfproxy.kube.apistatus import Status, read_status
from nfproxy.mismatch import UNREADABLE, mismatch

MAX_FRAME_BYTES = 8 << 20  # etcd takes objects of 1.5 MB; encoding them as JSON adds to it


class StreamError(InputError):
    """An answer does not follow the protocol; the client must ask again."""


class _OfObject(msgspec.Struct, frozen=True):
    """An event about an object."""

    object: Raw

    @property
    def version(self) -> str:
        """Its resourceVersion, "" where it cannot be read; decoded at each call."""
        return _metadata(self.object).resource_version or ""


class Put(_OfObject, frozen=True):
    """An object appeared or changed."""


class Removed(_OfObject, frozen=True):
    """An object went, or no longer fits the selectors; `object` is its last state."""


class Bookmark(msgspec.Struct, frozen=True):
    """The stream has sent everything up to `version`; `is_complete` ends the initial events."""

    version: str
    is_complete: bool


class Page(msgspec.Struct, frozen=True):
    """A part of a list; `continue_token` asks for the next page, "" in the last one."""

    version: str
    continue_token: str
    items: tuple[Raw, ...]


class LineSplitter:
    """Cuts a stream of chunks into lines, until one `is_too_long`: then the stream is lost."""

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        """Accept lines of up to `limit` bytes."""
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.is_too_long = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that end in `chunk`, without empty ones, up to one that is too long."""
        lines: list[bytes] = []
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*self._parts, end)) if self._parts else end
            self._parts, self._size = [], 0
            if len(line) > self._limit:
                self.is_too_long = True
                return lines
            if line.strip():
                lines.append(line)
        # Not joined to what came before: a long line in many chunks would be copied each time.
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            self.is_too_long = self._size > self._limit
        return lines


class RawEvent(msgspec.Struct):
    """
    A line of a watch. `object` stays raw: the object cache decodes it, and reports what is wrong.
    """

    type: str
    object: Raw


class _Annotations(msgspec.Struct):
    initial_events_end: str | None = field(name="k8s.io/initial-events-end", default=None)


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str | None = None
    annotations: _Annotations | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata | None = None


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str | None = None
    continue_token: str | None = field(name="continue", default=None)


class _WireList(msgspec.Struct):
    metadata: _ListMetadata
    items: list[Raw] | UnsetType | None = UNSET


#: Decodes a line; raises one of :data:`~nfproxy.mismatch.UNREADABLE` if it is no event.
decode_event = msgspec.json.Decoder(RawEvent).decode
#: The events about objects, by their type.
OBJECT_EVENTS: dict[str, type[Put] | type[Removed]] = {
    "ADDED": Put,
    "MODIFIED": Put,
    "DELETED": Removed,
}
_object = msgspec.json.Decoder(_Object)
_list = msgspec.json.Decoder(_WireList)


def not_an_event(line: bytes) -> StreamError:
    """Return the error for a line that `decode_event` cannot decode."""
    return StreamError(f"a watch event cannot be read: {mismatch(line, RawEvent)}")


def read_control(event: RawEvent) -> Bookmark | Status | None:
    """
    Return an event that is not about an object; None for a type that only later APIs know.

    Raises StreamError for a bookmark that does not say where to continue.
    """
    match event.type:
        case "BOOKMARK":
            return _bookmark(_metadata(event.object))
        case "ERROR":
            return read_status(event.object) or Status(message="an error without a Status")
    return None


def _bookmark(metadata: _Metadata) -> Bookmark:
    annotations = metadata.annotations or _Annotations()
    is_complete = annotations.initial_events_end == "true"
    if is_complete and not metadata.resource_version:
        raise StreamError("the bookmark that ends the initial events has no resourceVersion")
    return Bookmark(metadata.resource_version or "", is_complete)


def _metadata(data: Raw) -> _Metadata:
    """Return an object's version and annotations; nothing if they cannot be read."""
    try:
        return _object.decode(data).metadata or _Metadata()
    except UNREADABLE:
        return _Metadata()


def read_page(body: bytes) -> Page:
    """
    Return a page of a list. Raises StreamError if `body` is none.

    The checks are strict: a body taken for an empty list by mistake would delete every object.
    """
    try:
        found = _list.decode(body)
    except UNREADABLE:
        raise StreamError(f"a list cannot be read: {mismatch(body, _WireList)}") from None
    if found.items is UNSET:
        raise StreamError("a list has no items field")
    version = found.metadata.resource_version or ""
    if not version:
        raise StreamError("a list has no resourceVersion, so it cannot be watched from there")
    return Page(version, found.metadata.continue_token or "", tuple(found.items or ()))
