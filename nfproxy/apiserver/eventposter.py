"""Posting Events to the API server, in the background."""

from __future__ import annotations

import asyncio
import logging
import random

from asyncio_throttle.throttler import Throttler

from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.eventseries import (
    Event,
    EventQueue,
    EventSeries,
    event_object,
    series_patch,
)
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.backoff import Backoff
from nfproxy.clock import unix_s
from nfproxy.kube.apistatus import RequestError, forbidden_events
from nfproxy.kube.source import Report
from nfproxy.model.changes import Problem

log = logging.getLogger(__name__)

_RATE, _PERIOD_S = 10, 10.0  # requests: Events matter least
_FINAL_S = 1.0  # for the Events that wait when the program stops
SPREAD_S = 30.0  # within which the nodes of a fleet post a shared Event
_EXISTS = 409
_TRANSIENT = (0, 401, 429)  # codes after which another attempt may work, as after 500 and above


class EventPoster:
    """
    Posts Events, as a context manager. For the event loop's thread.

    Nothing depends on an Event: the poster reports a failure when it begins, and drops Events when
    too many wait. On leaving, Events that wait get a second.
    """

    def __init__(self, connection: Connection, instance: str, report: Report) -> None:
        """Prepare; `instance` is the ``reportingInstance``, ``kube-proxy-<OS host name>``."""
        self._connection = connection
        self._report = report
        self._instance = instance
        self._queue = EventQueue()
        self._throttle = Throttler(_RATE, period=_PERIOD_S)
        self._backoff = Backoff(jitter=random.random)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_failing = False
        self._task: asyncio.Task[None] | None = None

    def post(self, event: Event) -> None:
        """Queue an Event. Never blocks, never raises."""
        delay_s = random.uniform(0, SPREAD_S) if event.shared_key else 0.0  # noqa: S311 - no secret
        if not self._queue.add(event, unix_s(), delay_s):
            log.debug("too many Events wait; dropped: %s", event)
            return
        self._idle.clear()
        self._wake.set()

    async def __aenter__(self) -> EventPoster:
        """Begin to post."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give the Events that wait a second, and stop."""
        try:
            async with asyncio.timeout(_FINAL_S):
                await self._idle.wait()
        except TimeoutError:
            log.debug("stopping before all Events are posted")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            series = self._queue.due(unix_s())
            if series is None:
                self._idle.set()
                await self._wait()
                continue
            await self._throttle.acquire()  # type: ignore[no-untyped-call]
            try:
                await self._post(series)
            except RequestError as error:
                await self._failed(error, series)
            else:
                self._backoff.reset()
                self._is_failing = False

    async def _wait(self) -> None:
        """Wait until something is due."""
        self._wake.clear()
        next_at = self._queue.next_at()
        try:
            async with asyncio.timeout(None if next_at is None else max(0, next_at - unix_s())):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _post(self, series: EventSeries) -> None:
        """Create the Event, or update its series. Raises RequestError."""
        count = series.count  # it may rise while the request is under way
        if not (series.posted_count and await self._patched(series)):
            path = f"/apis/events.k8s.io/v1/namespaces/{series.event.namespace}/events"
            body = event_object(series, self._instance)
            await self._connection.read(ApiRequest(path, method="POST", body=body, counted=False))
        series.posted_count, series.posted_at = count, unix_s()

    async def _patched(self, series: EventSeries) -> bool:
        """Update the series of an Event; return False if the API server no longer has the Event."""
        path = f"/apis/events.k8s.io/v1/namespaces/{series.event.namespace}/events/{series.name}"
        request = ApiRequest(
            path,
            method="PATCH",
            body=series_patch(series),
            content_type="application/merge-patch+json",
            counted=False,
        )
        try:
            await self._connection.read(request)
        except RequestError as error:
            if error.status.code == 404:
                return False
            raise
        return True

    async def _failed(self, error: RequestError, series: EventSeries) -> None:
        """Report the first failure; drop what the server refuses, wait where it may be accepted."""
        code = error.status.code
        if code == _EXISTS and series.event.shared_key:
            # Another node has posted it, or this one before it was started again.
            series.posted_count, series.posted_at = series.count, unix_s()
            return
        if not self._is_failing:
            what, remedy = error.what, error.remedy
            if code == 403:
                what, remedy = forbidden_events(error.status.message)
            text = "; ".join(filter(None, (f"cannot be posted: {what}", remedy)))
            self._report(Problem("", "Events", "", text))
        self._is_failing = True
        wait_s = self._backoff.next_s(error.status.retry_after_s)
        if code not in _TRANSIENT and code < 500:
            self._queue.drop(series)
            return
        await asyncio.sleep(wait_s)
