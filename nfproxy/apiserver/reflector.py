"""
Follows one resource: a list, then a watch, for ever.

The list is a streaming one (KEP-3157) where the API server can do that, else one in pages. A
watch that ends is resumed where it was; only a version the API server no longer has asks for
a new list. Source of the rules: "Kubernetes API Concepts", and client-go's reflector.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

import aiohttp
import msgspec

from nfproxy.apiserver import failures
from nfproxy.apiserver.connection import Connection, Request
from nfproxy.apiserver.failures import RequestError
from nfproxy.apiserver.feed import Feed
from nfproxy.apiserver.pages import SLICE, list_in_pages
from nfproxy.apiserver.resources import Resource
from nfproxy.backoff import delay_s
from nfproxy.kube.watch import (
    Bookmark,
    Event,
    FrameSplitter,
    Put,
    Removed,
    Status,
    StreamError,
    read_event,
)
from nfproxy.metrics import Metrics

log = logging.getLogger(__name__)

# Answers to a streaming list that say nothing about whether a list in pages would do. Others may:
# 400 and 422 where the feature gate WatchList is off or the server older, 500 and 504 where its
# etcd is too old to tell of progress.
_SAYS_NOTHING_OF_LISTS = (401, 403, 404, 429, 503)
_BELIEVED_AFTER = 8  # answers, in about 20 s, that an optional resource is not to be had
_AT_ONCE = (
    "the API server ends each watch at once; check that no proxy or load balancer in "
    "between cuts connections"
)


class Pace(msgspec.Struct, frozen=True):
    """
    How long things may take, in seconds.

    A watch gets a bookmark about every minute, so `silence_s` without a byte means that
    nobody is there any more. `healthy_s` is how long a stream must last to count as working.
    """

    silence_s: float = 200.0
    healthy_s: float = 5.0
    initial_silence_s: float = 5.0
    initial_s: float = 60.0
    watch_s: float = 300.0
    rare_s: float = 300.0


class _NotStreamed(Exception):  # noqa: N818 - no error, a finding
    """The API server does not know streaming lists."""


class Reflector:
    """Tells a sink of one resource, until cancelled."""

    def __init__(
        self,
        connection: Connection,
        resource: Resource,
        sink: Feed,
        observer: Metrics,
        pace: Pace | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._connection = connection
        self._resource = resource
        self._sink = sink
        self._observer = observer
        self._pace = pace or Pace()
        self._chance = chance
        self._version = ""  # what has been told up to, "" until a list is complete
        self._broken_at: str | None = None  # the version at which an event could not be read
        self._streams = True
        self._opened = self._healthy = self._heard = False
        self._relisted = False  # for want of a version that the API server still has
        self._failures = 0
        self._absences = 0  # answers in a row that an optional resource is not to be had

    async def run(self) -> None:
        """Follow the resource for ever; whatever goes wrong is told and tried again."""
        while True:
            self._opened = self._healthy = self._heard = False
            try:
                await self._follow()
                await self._ended("closed", _AT_ONCE)
            except _NotStreamed:
                self._streams = False
            except StreamError as error:
                await self._malformed(error)
            except RequestError as error:
                await self._refused(error)
            except Exception:  # a fault of ours: what is known stays, and the log tells
                log.exception("following %s failed", self._resource.plural)
                self._version = ""
                await self._ended("failed")

    async def _follow(self) -> None:
        """List if need be, then watch until the stream ends."""
        if not self._version and not self._streams:
            began = time.monotonic()
            self._version, told = await list_in_pages(self._connection, self._resource, self._sink)
            self._complete(told, began)
            self._streams = True
        await self._watch()

    def _complete(self, told: int, began: float) -> None:
        self._sink.end_list()
        self._absences = 0
        self._observer.listed(self._resource.plural, told, time.monotonic() - began)

    # -- watches ----------------------------------------------------------------------------

    async def _watch(self) -> None:
        """
        Tell events until the stream ends; of all objects first, where there was no list.

        API servers that ignore the request for initial events send the objects, but not the
        bookmark that ends them: hence the bounds on how long that may take.
        """
        if self._version:
            await self._stream()
            return
        try:
            await self._stream()
        except RequestError as error:
            if self._version or not _may_list(error.status):
                raise
            raise _NotStreamed from error  # said in place of a stream, or inside it

    async def _stream(self) -> None:
        initial = not self._version
        began, told = time.monotonic(), 0
        async with self._connection.ask(self._request()) as response:
            self._opened = True
            if initial:
                self._sink.begin_list()
            timer = asyncio.get_running_loop().call_later(self._pace.healthy_s, self._well)
            splitter = FrameSplitter()
            try:
                while chunk := await self._chunk(response, began):
                    self._heard = True
                    for frame in splitter.feed(chunk):
                        self._take(read_event(frame))
                        told += 1
                        if told % SLICE == 0:
                            await asyncio.sleep(0)
                        if initial and self._version:
                            self._complete(told - 1, began)
                            initial = False
            finally:
                timer.cancel()
                if initial:
                    self._streams = False  # this time a list in pages may get through

    async def _chunk(self, response: aiohttp.ClientResponse, began: float) -> bytes:
        """Return what has arrived, b"" at the end. Raises _NotStreamed."""
        if self._version:
            return await response.content.readany()
        left_s = began + self._pace.initial_s - time.monotonic()
        try:
            async with asyncio.timeout(min(left_s, self._pace.initial_silence_s)):
                return await response.content.readany()
        except TimeoutError:
            raise _NotStreamed from None

    def _request(self) -> Request:
        pace = self._pace
        query = {
            **self._resource.selectors,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(round(pace.watch_s * (1 + self._chance()))),
        }
        if self._version:
            query["resourceVersion"] = self._version
        else:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        return Request(self._resource.path, query, silence_s=pace.silence_s)

    def _take(self, event: Event | None) -> None:
        match event:
            case Put():
                self._sink.put(event.object)
            case Removed():
                self._sink.remove(event.object)
            case Bookmark():
                if not self._version and not event.complete:
                    raise _NotStreamed
            case Status():
                raise RequestError(failures.answered(event, event.reason), event)
            case None:
                return
        # before the list is complete, versions of objects say nothing about the whole
        if event.version and (self._version or isinstance(event, Bookmark)):
            self._version = event.version

    # -- what went wrong --------------------------------------------------------------------

    def _well(self) -> None:
        """A stream has lasted: what was wrong before is over."""
        self._healthy = True
        self._relisted = False
        self._failures = 0
        self._sink.well()

    async def _malformed(self, error: StreamError) -> None:
        """Resume before what cannot be read; list anew where that has been tried before."""
        if self._version == self._broken_at:
            self._version = ""
        self._broken_at = self._version
        await self._ended("malformed", f"{error}; something between us and it garbles answers")

    async def _refused(self, error: RequestError) -> None:
        """Take a request that failed, or a stream that broke."""
        status = error.status
        if status.expired:
            self._version = ""
            if not self._relisted:  # the first after a watch: whatever was before is over
                self._failures = 0
            self._relisted = True
            return await self._ended("expired")
        if error.silent and self._opened and not self._heard:
            # Not even a bookmark: a version that this server, restored from a backup, has not
            # reached yet is waited for in silence. A server that cannot be reached says nothing of
            # versions, and after an outage not every node is to list everything.
            self._version = ""
        text, resource = str(error), self._resource
        if status.code == 403:
            text = failures.forbidden(resource.group, resource.plural, status.message)
        if status.code == 403 or (resource.optional and status.code == 404):
            self._sink.unavailable()
            if resource.optional:
                return await self._missing(text)
        return await self._ended("silent" if error.silent else "failed", text, status)

    async def _missing(self, text: str) -> None:
        """
        Wait before asking again for what the API server need not have.

        One that has just started forbids everything for a moment, so not for long at first.
        """
        self._absences += 1
        self._sink.well()
        if self._absences <= _BELIEVED_AFTER:
            await asyncio.sleep(delay_s(self._absences, self._chance()))
            return
        if self._absences == _BELIEVED_AFTER + 1:
            log.info("going on without %s: %s", self._resource.plural, text)
        await asyncio.sleep(self._pace.rare_s * (1 + self._chance()))

    async def _ended(self, reason: str, text: str = "", status: Status | None = None) -> None:
        """
        Wait before the next try: not at all after a stream that lasted.

        One that does not is no news the first time: the next try follows at once. That the
        server is overloaded, or does not let us in, is.
        """
        if self._opened:
            self._observer.watch_ended(self._resource.plural, reason)
        if self._healthy and reason != "failed":
            return
        self._failures += 1
        self._absences = 0
        if text and (self._failures > 1 or (status and status.code)):
            self._sink.trouble(text)
        wish_s = status.retry_after_s if status else None
        await asyncio.sleep(delay_s(self._failures, self._chance(), wish_s))


def _may_list(status: Status) -> bool:
    """Tell whether an answer to a streaming list leaves hope for one in pages."""
    return status.code >= 400 and status.code not in _SAYS_NOTHING_OF_LISTS
