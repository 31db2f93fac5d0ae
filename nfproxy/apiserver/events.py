"""
Tells the API server of Events, when it finds the time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Protocol

from asyncio_throttle.throttler import Throttler

from nfproxy.apiserver.connection import Request
from nfproxy.apiserver.failures import RequestError, forbidden_events
from nfproxy.apiserver.occurrences import (
    Event,
    Occurrence,
    Occurrences,
    Regarding,
    event_object,
    series,
)
from nfproxy.backoff import delay_s
from nfproxy.kube.source import Report
from nfproxy.model.changes import Problem

__all__ = ["Event", "EventPoster", "Regarding"]

log = logging.getLogger(__name__)

_RATE, _PERIOD_S = 10, 10.0  # requests: Events are the least important of them
_PARTING_S = 1.0  # for what is queued, at the end
_TRANSIENT = (0, 401, 429)  # and all of 500 and above


class _Asks(Protocol):
    async def read(self, request: Request) -> bytes: ...


class EventPoster:
    """
    Posts Events in the background; at most `MOST` are remembered, others are dropped.

    Nothing depends on an Event: a failure is reported when it begins, and that is all. Use it as
    a context manager; on leaving, what is queued gets a second.
    """

    def __init__(self, connection: _Asks, instance: str, report: Report) -> None:
        """Take the connection, and ``reportingInstance``: ``kube-proxy-<OS host name>``."""
        self._connection = connection
        self._report = report
        self._instance = instance
        self._occurrences = Occurrences()
        self._throttle = Throttler(_RATE, period=_PERIOD_S)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    def post(self, event: Event) -> None:
        """Take an Event to be told. Never blocks, never raises."""
        if not self._occurrences.note(event, time.time()):
            log.debug("too many Events at once, dropped: %s", event)
            return
        self._idle.clear()
        self._wake.set()

    async def __aenter__(self) -> EventPoster:
        """Begin to post."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give what is queued a short while, and stop."""
        try:
            async with asyncio.timeout(_PARTING_S):
                await self._idle.wait()
        except TimeoutError:
            log.debug("leaving with Events untold")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failures = 0
        while True:
            occurrence = self._occurrences.due(time.time())
            if occurrence is None:
                self._idle.set()
                await self._pause()
                continue
            await self._throttle.acquire()  # type: ignore[no-untyped-call]
            try:
                await self._tell(occurrence)
            except RequestError as error:
                failures += 1
                await self._failed(error, occurrence, failures)
            else:
                failures = 0
                self._failing = False

    async def _pause(self) -> None:
        """Wait until something is due."""
        self._wake.clear()
        next_s = self._occurrences.next_s()
        try:
            async with asyncio.timeout(None if next_s is None else max(0, next_s - time.time())):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _tell(self, occurrence: Occurrence) -> None:
        """Create the Event, or tell of its repeats. Raises RequestError."""
        count = occurrence.count
        if occurrence.told and await self._patched(occurrence):
            occurrence.told, occurrence.told_s = count, time.time()
            return
        path = f"/apis/events.k8s.io/v1/namespaces/{occurrence.event.namespace}/events"
        body = event_object(occurrence, self._instance)
        await self._connection.read(Request(path, method="POST", body=body, counted=False))
        occurrence.told, occurrence.told_s = count, time.time()

    async def _patched(self, occurrence: Occurrence) -> bool:
        """Update the series of an Event; False if the API server has forgotten the Event."""
        namespace = occurrence.event.namespace
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/{occurrence.name}"
        request = Request(
            path,
            method="PATCH",
            body=series(occurrence),
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

    async def _failed(self, error: RequestError, occurrence: Occurrence, failures: int) -> None:
        """Report the first failure; drop what will never be taken, wait where it may be."""
        code = error.status.code
        if not self._failing:
            text = forbidden_events(error.status.message) if code == 403 else str(error)
            self._report(Problem("", "Events", "", f"cannot be posted: {text}"))
        self._failing = True
        if code not in _TRANSIENT and code < 500:
            self._occurrences.drop(occurrence)
            return
        await asyncio.sleep(delay_s(failures, random.random(), error.status.retry_after_s))  # noqa: S311
