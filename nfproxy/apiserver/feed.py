"""The way of one resource into the object cache: counted, reported, and whether it is complete."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from nfproxy.apiserver.connection import Connection
from nfproxy.clock import monotonic_s
from nfproxy.kube.cache import CacheChange, ObjectCache
from nfproxy.kube.history import History
from nfproxy.kube.identity import Kind
from nfproxy.kube.protocol import (
    BeginList,
    EndList,
    Healthy,
    Output,
    Trouble,
    Unavailable,
    WatchEnded,
)
from nfproxy.kube.resources import Resource
from nfproxy.kube.source import Report
from nfproxy.kube.watch import Put, Removed
from nfproxy.metrics import Metrics
from nfproxy.model.changes import Problem
from nfproxy.text import one_line

log = logging.getLogger(__name__)

_BATCH = 100  # objects, some milliseconds of work, before other tasks of the event loop run

# With more changed objects than that the feed waits until they are taken, but not for ever.
_MOST_UNTAKEN, _LOOK_S, _MOST_LOOKS = 1000, 0.01, 500


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
        host = self._connection.host
        if host and what.startswith(f"{host} "):  # the sentence names it already
            return Problem("", "", "", f"API server {what}", remedy, "API")
        return Problem("", f"API server {host}".rstrip(), "", what, remedy, "API")


class Feed:
    """
    Acts on what the protocol of lists and watches finds of one resource.

    `listed` is set by the first complete list; `settled` then too, or when the API server says
    that there will be none. `changed` is called when there is something to take from the cache,
    `list_again` when the API server shows another history than before.
    Use from the event loop.
    """

    def __init__(
        self,
        resource: Resource,
        cache: ObjectCache,
        metrics: Metrics,
        report: Report,
        troubles: Troubles,
        changed: Callable[[], None],
        list_again: Callable[[], None],
    ) -> None:
        self.resource = resource
        self.listed = asyncio.Event()
        self.settled = asyncio.Event()
        self._cache = cache
        self._metrics = metrics
        self._report = report
        self._troubles = troubles
        self._changed = changed
        self._list_again = list_again
        self._history = History()
        self._is_suspicious = False
        self._outputs = 0
        self._events = self._changes = 0  # not in the metrics yet: all, and those that changed it

    async def act(self, outputs: Iterable[Output]) -> None:
        """Pass on what the protocol has found, in its order."""
        kind, plural = self.resource.kind, self.resource.plural
        for output in outputs:
            match output:
                case Put():
                    outcome = self._cache.put(kind, output.object)
                    self._count(outcome)
                    if outcome.is_another:
                        self._is_of_another_history(f"{outcome.name} has another uid than before")
                    elif self._history.event(outcome.version):
                        self._is_of_another_history(f"an event has version {outcome.version}")
                case Removed():
                    self._count(self._cache.remove(kind, output.object))
                case BeginList():
                    self._cache.begin_list(kind)
                    self._history.begin_list()
                case EndList():
                    for gone in self._cache.end_list(kind):
                        self._count(gone)
                    self.listed.set()
                    self.settled.set()
                    self._is_suspicious = False
                    if self._history.end_list(output.version):
                        self._is_of_another_history(f"a list has version {output.version}")
                    self._metrics.listed(plural, output.objects, output.seconds)
                case Trouble():
                    self._troubles.set(kind, output.what, output.remedy)
                case Healthy():
                    self._troubles.clear(kind)
                case Unavailable():
                    self.settled.set()
                    if output.is_news:
                        self._log_unavailable(output.status.code)
                case WatchEnded():
                    self._metrics.watch_ended(plural, output.reason)
            self._outputs += 1
            if self._outputs % _BATCH == 0:
                self._count_events()
                await asyncio.sleep(0)
                await self._wait_until_taken()
        self._count_events()

    async def _wait_until_taken(self) -> None:
        """
        Wait while too many changes wait.

        Until a change is planned, the old version and the new one are both in memory. The stream
        is not read meanwhile, so that the API server waits, too.
        """
        for _ in range(_MOST_LOOKS):
            if self._cache.untaken <= _MOST_UNTAKEN:
                return
            await asyncio.sleep(_LOOK_S)

    def _count(self, outcome: CacheChange) -> None:
        """Count an event, report what is wrong with the object, and wake the reader."""
        self._events += 1
        if outcome.changed:
            self._changes += 1
            self._changed()
        if not outcome.problems:
            return
        kind = self.resource.kind
        if not outcome.is_usable:
            self._metrics.undecodable(kind, outcome.name, outcome.problems)
        elif outcome.name is not None:
            self._metrics.fields_ignored(kind, outcome.name, outcome.problems)
        for problem in outcome.problems:
            self._report(problem)

    def _count_events(self) -> None:
        """Let metrics have the events that were counted: many of a list at once."""
        if self.resource.kind is Kind.SERVICE:
            self._metrics.service_events(self._events)
        elif self.resource.kind is Kind.ENDPOINT_SLICE:
            self._metrics.slice_events(self._events, self._changes)
        self._events = self._changes = 0

    def _is_of_another_history(self, sign: str) -> None:
        """Let every resource be listed again: the other ones may have missed changes, too."""
        if not self._is_suspicious:
            line = "%s: %s: was etcd restored from a backup? Listing everything again"
            log.warning(line, self.resource.plural, one_line(sign))
            self._list_again()
        self._is_suspicious = True

    def _log_unavailable(self, code: int) -> None:
        resource = self.resource
        remedy = f"; grant list/watch on {resource.full_name}" if code == 403 else ""
        word, without = f"{resource.kind.word}s", resource.without
        log.info("%s unavailable (%d): %s%s", word, code, without, remedy)
