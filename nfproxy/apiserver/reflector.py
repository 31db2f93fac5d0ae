"""
The task that lists and watches one resource: it asks, reads, and sleeps.

What to ask, when to list again, how long to wait and what to report is decided by
:class:`~nfproxy.kube.listwatch.ListWatch`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.feed import Feed
from nfproxy.apiserver.transport import WITHOUT_MANAGED_FIELDS, ApiRequest
from nfproxy.clock import monotonic_s
from nfproxy.kube.apistatus import RequestError
from nfproxy.kube.listwatch import ListWatch
from nfproxy.kube.pagedlist import ListRequest
from nfproxy.kube.protocol import WatchRequest, WatchTimeouts
from nfproxy.kube.resources import Resource

log = logging.getLogger(__name__)


class Reflector:
    """Feeds the objects of one resource to the object cache, until cancelled."""

    def __init__(
        self,
        connection: Connection,
        resource: Resource,
        feed: Feed,
        timeouts: WatchTimeouts | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Prepare; nothing is asked before :meth:`run`. `chance` returns numbers from 0 to 1."""
        self._connection = connection
        self._resource = resource
        self._feed = feed
        self._reading: asyncio.Timeout | None = None  # while it waits for a stream
        self.heard_at_s: float | None = None  # by the monotonic clock, something of the API server
        self._protocol = ListWatch(resource, timeouts or WatchTimeouts(), chance)

    async def run(self) -> None:
        """Follow the resource for ever; report what goes wrong and try again."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._protocol.wait_s)
            try:
                await self._ask(now)
            except Exception:  # a fault of nfproxy: installed rules stay, and the log shows it
                log.exception("following %s failed", self._resource.plural)
                await self._feed.act(self._protocol.crashed())

    def list_again(self) -> None:
        """List soon, although the watch works: the API server may have another history by now."""
        now_s = asyncio.get_running_loop().time()
        self._protocol.list_again(now_s)
        if self._reading is not None and self._protocol.deadline_at is not None:
            self._reading.reschedule(self._protocol.deadline_at)

    async def _ask(self, now: Callable[[], float]) -> None:
        """Make the next request, and act on the answer to its end."""
        request = self._protocol.next_request(now())
        try:
            if isinstance(request, ListRequest):
                path, counted = self._resource.path, request.is_first
                asked = ApiRequest(
                    path,
                    request.query,
                    accept=WITHOUT_MANAGED_FIELDS,
                    max_bytes=request.max_bytes,
                    counted=counted,
                )
                body = await self._connection.read(asked)
                self.heard_at_s = monotonic_s()
                await self._feed.act(self._protocol.page(body, now()))
            else:
                await self._watch(request, now)
        except RequestError as error:
            await self._feed.act(self._protocol.failed(error, now()))

    async def _watch(self, watch: WatchRequest, now: Callable[[], float]) -> None:
        """Read a stream until it ends, or the protocol gives it up. Raises RequestError."""
        protocol = self._protocol
        request = ApiRequest(
            self._resource.path,
            watch.query,
            accept=WITHOUT_MANAGED_FIELDS,
            silence_s=watch.silence_s,
        )
        async with self._connection.ask(request) as response:
            self.heard_at_s = monotonic_s()
            await self._feed.act(protocol.opened(now()))
            while protocol.is_open:
                try:
                    async with asyncio.timeout_at(protocol.deadline_at) as deadline:
                        self._reading = deadline
                        chunk = await response.content.readany()
                except TimeoutError:
                    if not deadline.expired():  # `silence_s` without a byte: the stream is dead
                        raise
                    outputs = protocol.time_passed(now())
                else:
                    self.heard_at_s = monotonic_s()
                    outputs = protocol.received(chunk, now()) if chunk else protocol.closed(now())
                finally:
                    self._reading = None
                await self._feed.act(outputs)
