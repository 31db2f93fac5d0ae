"""
The way of one resource into the object cache: counted, reported, and whether it is complete.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from msgspec import Raw

from nfproxy.apiserver.connection import Connection
from nfproxy.clock import monotonic_s
from nfproxy.kube.cache import CacheChange, ObjectCache
from nfproxy.kube.identity import Kind
from nfproxy.kube.source import Report
from nfproxy.metrics import Metrics
from nfproxy.model.changes import Problem

log = logging.getLogger(__name__)


class Troubles:
    """
    What keeps resources from being followed, reported once for all of them.

    Use from the event loop.
    """

    def __init__(self, connection: Connection, report: Report) -> None:
        self._connection = connection
        self._report = report
        self._current: dict[Kind, tuple[str, str]] = {}  # what and remedy
        self._since: dict[Kind, float] = {}  # when a kind's first trouble in a row came

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong now."""
        return tuple(self._problem(*trouble) for trouble in self._current.values())

    def set(self, kind: Kind, what: str, remedy: str) -> None:
        """Take what keeps a kind from being followed; report it unless another kind has it too."""
        trouble = what, remedy
        is_known = trouble in self._current.values()
        self._current[kind] = trouble
        self._since.setdefault(kind, monotonic_s())
        if not is_known:
            self._report(self._problem(what, remedy))

    def clear(self, kind: Kind) -> None:
        """Take it that a kind is followed; log it when no other kind has the same trouble left."""
        trouble = self._current.pop(kind, None)
        if trouble is None:
            return
        lasted_s = monotonic_s() - self._since.pop(kind)
        if trouble not in self._current.values():
            line = "API server %s: reachable again after %.0f s (was: %s)"
            log.info(line, self._connection.host, lasted_s, trouble[0])

    def _problem(self, what: str, remedy: str) -> Problem:
        subject = f"API server {self._connection.host}".rstrip()
        return Problem("", subject, "", what, remedy, "API")


class Feed:
    """
    Takes what a reflector receives of one kind, in this order: begin, put …, end, put, remove …

    `listed` is set by the first complete list; `settled` then too, or when the API server says
    that there will be none. `changed` is called when there is something to take from the cache.
    Use from the event loop.
    """

    def __init__(
        self,
        kind: Kind,
        cache: ObjectCache,
        metrics: Metrics,
        report: Report,
        troubles: Troubles,
        changed: Callable[[], None],
    ) -> None:
        self.kind = kind
        self.listed = asyncio.Event()
        self.settled = asyncio.Event()
        self._cache = cache
        self._metrics = metrics
        self._report = report
        self._troubles = troubles
        self._changed = changed
        #: Take an object as it is now, or that it is gone; the caller passes the answer to `count`.
        self.put: Callable[[Raw], CacheChange] = partial(cache.put, kind)
        self.remove: Callable[[Raw], CacheChange] = partial(cache.remove, kind)

    def begin_list(self) -> None:
        """A list begins, or begins again."""
        self._cache.begin_list(self.kind)

    def end_list(self) -> None:
        """The list is complete: what it did not hold is gone."""
        for outcome in self._cache.end_list(self.kind):
            self.count(outcome)
        self.listed.set()
        self.settled.set()

    def count(self, outcome: CacheChange) -> None:
        """Count an event, report what is wrong with the object, and wake the reader."""
        if self.kind is Kind.SERVICE:
            self._metrics.service_event()
        elif self.kind is Kind.ENDPOINT_SLICE:
            self._metrics.slice_event(outcome.changed)
        if outcome.changed:
            self._changed()
        if outcome.problems and not outcome.is_usable:
            self._metrics.undecodable(self.kind, outcome.name, outcome.problems)
        elif outcome.problems and outcome.name is not None:
            self._metrics.fields_ignored(self.kind, outcome.name, outcome.problems)
        for problem in outcome.problems:
            self._report(problem)

    def trouble(self, what: str, remedy: str) -> None:
        """The kind cannot be followed at the moment; may be called again and again."""
        self._troubles.set(self.kind, what, remedy)

    def well(self) -> None:
        """The kind is followed."""
        self._troubles.clear(self.kind)

    def unavailable(self) -> None:
        """The API server does not have the kind, or does not let us read it."""
        self.settled.set()
