"""
A watch: which events it gets, and the stream that carries them.

Source: k8s.io/apiserver pkg/storage/cacher, cache_watcher.go, Kubernetes 1.36.
"""

from __future__ import annotations

import asyncio
import random

import msgspec
from aiohttp import web
from support.apiserver.listing import Options, drop_managed_fields
from support.apiserver.resources import Resource
from support.apiserver.store import Change, Collection, Record, Store

_BATCH = 1 << 18  # bytes written at a time
_PARTING_S = 2.0  # so long before it ends a watch gets a last bookmark
_DEFAULT_TIMEOUT_S = 1800  # --min-request-timeout: up to twice that where nothing is asked for


def line(kind: str, document: bytes) -> bytes:
    """Return an event as it is sent."""
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), document)


def event_for(change: Change, resource: Resource, asked: Options) -> bytes | None:
    """
    Return what a watch gets of a change.

    An object that begins to match its selectors is ADDED to it, one that ceases to is DELETED:
    as it was when it last matched, at the version of the change.
    """
    before = change.before if change.before and change.before.selected(asked.selection) else None
    after = change.after if change.after and change.after.selected(asked.selection) else None
    if change.withheld:
        return None
    if after:
        return line("MODIFIED" if before else "ADDED", after.document(resource))
    if before:
        return line("DELETED", before.document(resource, change.version))
    return None


def added(record: Record, resource: Resource) -> bytes:
    """Return the event that makes up for an object's creation."""
    return line("ADDED", record.document(resource))


def bookmark(resource: Resource, version: int, ends_initial: bool = False) -> bytes:
    """Return a BOOKMARK."""
    metadata: dict[str, object] = {"resourceVersion": str(version)}
    if ends_initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    head = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return line("BOOKMARK", msgspec.json.encode({**head, **resource.empty}))


class Stream:
    """
    An open watch.

    It listens to its collection from the start, so nothing is missed while the initial events
    are sent. `gate` is closed while the server is frozen.
    """

    def __init__(
        self, collection: Collection, asked: Options, version: int, gate: asyncio.Event
    ) -> None:
        self.resource = collection.resource
        self.muted = False
        self.cut_next = False
        self._collection = collection
        self._asked = asked
        self._gate = gate
        self._pending: list[bytes] = []
        self._wake = asyncio.Event()
        self._ending: str = ""
        self._seen = self._begin(version)
        self._initial = len(self._pending)  # lines that are no live events: never cut
        collection.listeners[self] = self._take

    def _begin(self, version: int) -> int:
        """Queue what comes before the live events; return the version they make up."""
        collection, asked, resource = self._collection, self._asked, self.resource
        if asked.initial or (asked.initial is None and asked.version in ("", "0")):
            for record in collection.current():
                if record.selected(asked.selection):
                    self.push(added(record, resource))
            if asked.initial and asked.bookmarks:
                self.push(bookmark(resource, version, ends_initial=True))
            return version
        start = int(asked.version) or version
        changes = collection.since(start)
        for change in changes:
            if data := event_for(change, resource, asked):
                self.push(data)
        return changes[-1].version if changes else start

    def _take(self, change: Change) -> None:
        if change.version <= self._seen:  # a watch from a version that is not there yet
            return
        if data := event_for(change, self.resource, self._asked):
            self.push(data)

    def push(self, data: bytes) -> None:
        """Send something, as it is but for managedFields that the client declines."""
        if self._asked.drops_managed_fields and b'"managedFields"' in data:
            data = drop_managed_fields(data) + b"\n"
        self._pending.append(data)
        self._wake.set()

    def end(self, how: str) -> None:
        """End the stream: "cleanly", or by "abort" (RST)."""
        self._ending = how
        self._wake.set()

    def close(self) -> None:
        """Listen no more."""
        self._collection.listeners.pop(self, None)

    async def run(self, response: web.StreamResponse, store: Store, bookmark_s: float) -> str:
        """Send until the end; return how: "cleanly", "abort" or "cut"."""
        loop = asyncio.get_running_loop()
        span_s = self._asked.timeout_s or random.uniform(1, 2) * _DEFAULT_TIMEOUT_S
        deadline = loop.time() + span_s
        next_bookmark = self._next_bookmark(deadline, bookmark_s)
        while not self._ending:
            await self._gate.wait()
            if self._pending and not self.muted:
                if await self._send(response):
                    return "cut"
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout_at(min(deadline, next_bookmark)):
                    await self._wake.wait()
            except TimeoutError:
                if loop.time() >= deadline and not self.muted:
                    break
                if self._asked.bookmarks:
                    store.version += 1  # as in any cluster, where leases are renewed all the time
                    self.push(bookmark(self.resource, store.version))
                next_bookmark = self._next_bookmark(deadline, bookmark_s)
        return self._ending or "cleanly"

    def _next_bookmark(self, deadline: float, every_s: float) -> float:
        time = asyncio.get_running_loop().time()
        parting = deadline - _PARTING_S
        usual = time + every_s
        return parting if time < parting < usual else usual

    async def _send(self, response: web.StreamResponse) -> bool:
        """Send what is pending; return whether an event was cut."""
        size = count = 0
        while count < len(self._pending) and size < _BATCH:
            size += len(self._pending[count])
            count += 1
        batch, self._pending = self._pending[:count], self._pending[count:]
        if self.cut_next and self._initial <= 0:
            await response.write(batch[0][: len(batch[0]) // 2])
            return True
        self._initial -= count
        await response.write(b"".join(batch))
        return False
