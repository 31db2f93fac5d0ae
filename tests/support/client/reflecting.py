"""A reflector of one resource, on a server that answers what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, ClassVar

import pytest
from support.client.scriptedserver import FOREVER_S, Exchange, ScriptedServer, scripted

from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.reflector import Reflector
from nfproxy.backoff import Backoff
from nfproxy.kube import listwatch
from nfproxy.kube.protocol import (
    BeginList,
    EndList,
    Healthy,
    Output,
    Trouble,
    Unavailable,
    WatchEnded,
    WatchTimeouts,
)
from nfproxy.kube.resources import resources
from nfproxy.kube.watch import Put, Removed

SERVICES, SLICES, CIDRS, NODE = resources("n1")
PATIENT = WatchTimeouts(healthy_s=1000)  # no stream of a test lasts long enough to count as working
PROMPT = WatchTimeouts(healthy_s=0)  # every stream does


class RecordedFeed:
    """Stands for a Feed: writes down what the reflector passes on."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.troubles: asyncio.Queue[str] = asyncio.Queue()
        self.unavailables: asyncio.Queue[bool] = asyncio.Queue()
        self.is_followed = asyncio.Event()
        self.ends: list[str] = []

    async def act(self, outputs: Iterable[Output]) -> None:
        """Note what is found."""
        for output in outputs:
            match output:
                case BeginList():
                    self.lines.put_nowait("begin")
                case EndList():
                    self.lines.put_nowait("end")
                case Put() | Removed():
                    name = json.loads(bytes(output.object))["metadata"]["name"]
                    word = "put" if isinstance(output, Put) else "remove"
                    self.lines.put_nowait(f"{word} {name}")
                case Trouble():
                    self.troubles.put_nowait(f"{output.what}; {output.remedy}")
                case Healthy():
                    self.is_followed.set()
                case Unavailable():
                    self.unavailables.put_nowait(output.is_news)
                case WatchEnded():
                    self.ends.append(output.reason)

    async def next(self, count: int) -> list[str]:
        """Wait for so many lines, and return them."""
        async with asyncio.timeout(FOREVER_S):
            return [await self.lines.get() for _ in range(count)]

    async def next_trouble(self) -> str:
        """Wait for a trouble, and return it."""
        return await asyncio.wait_for(self.troubles.get(), FOREVER_S)

    async def next_unavailable(self) -> bool:
        """Wait until the resource is reported unavailable; return whether that is news."""
        return await asyncio.wait_for(self.unavailables.get(), FOREVER_S)


class RecordedBackoff(Backoff):
    """Records each wait as (failures in a row, Retry-After), and makes it 0."""

    waits: ClassVar[list[tuple[int, float | None]]]

    def next_s(self, retry_after_s: float | None = None) -> float:
        self.failures += 1
        self.waits.append((self.failures, retry_after_s))
        return 0.0


def record_waits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float | None]]:
    """Let no failure of a list or watch wait; return the waits that would have been."""
    RecordedBackoff.waits = []
    monkeypatch.setattr(listwatch, "Backoff", RecordedBackoff)
    return RecordedBackoff.waits


class Case:
    """A running reflector, its server, and what it fed."""

    def __init__(self, server: ScriptedServer, feed: RecordedFeed) -> None:
        self.server = server
        self.feed = feed

    async def watched(self) -> Exchange:
        """Answer the streaming list: no object, version 10. Return the stream."""
        stream = await self.server.asked()
        await stream.send(complete("10"))
        assert await self.feed.next(2) == ["begin", "end"]
        return stream


@contextlib.asynccontextmanager
async def following(
    timeouts: WatchTimeouts = PROMPT, resource: Any = SERVICES, qps: float = -1
) -> AsyncIterator[Case]:
    """Follow a resource on a server of its own."""
    feed = RecordedFeed()
    async with (
        scripted() as server,
        Connection(ClientSettings(master=server.url, qps=qps), lambda problem: None) as connection,
    ):
        task = asyncio.create_task(Reflector(connection, resource, feed, timeouts).run())
        try:
            yield Case(server, feed)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def event(type_: str, name: str, version: str) -> dict[str, Any]:
    """Return an event about an object."""
    return {"type": type_, "object": {"metadata": {"name": name, "resourceVersion": version}}}


def bookmark(version: str) -> dict[str, Any]:
    """Return a bookmark."""
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


def complete(version: str) -> dict[str, Any]:
    """Return the bookmark that ends the initial events."""
    metadata = {
        "resourceVersion": version,
        "annotations": {"k8s.io/initial-events-end": "true"},
    }
    return {"type": "BOOKMARK", "object": {"metadata": metadata}}


def error(code: int, reason: str) -> dict[str, Any]:
    """Return an event that holds a Status."""
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": reason}}


def page(version: str, *names: str, rest: str = "") -> dict[str, Any]:
    """Return a page of a list; `rest` is the token for the next."""
    items = [{"metadata": {"name": name}} for name in names]
    return {"metadata": {"resourceVersion": version, "continue": rest}, "items": items}
