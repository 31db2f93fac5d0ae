"""
Which Events to post, and when: an Event that repeats becomes one object with a series.

Source: ``events.k8s.io/v1`` Event and its ``series`` (KEP-383). As in client-go, the first repeat
is posted at once, later ones together every few minutes. Times are arguments, in Unix seconds.
"""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from typing import Any

import msgspec

from nfproxy.kube.identity import Kind
from nfproxy.model.service import ObjectName

CONTROLLER = "kube-proxy"  # the name by which dashboards and people find these Events
SERIES_S = 360.0  # between two updates of one series
KEPT_S = 3600.0  # how long API servers keep an Event
MAX_SERIES = 500  # remembered at a time
#: Different Events in an hour. Each change of an object may give another one.
MOST_OF_OBJECT, MOST_OF_NAMESPACE = 10, 100
_MAX_NOTE_BYTES = 1024  # more the API refuses
_MAX_OBJECT_NAME = 200  # leaves room for what makes an Event's name unique


class Regarding(msgspec.Struct, frozen=True):
    """The object that an Event is about; the namespace of a Node's name is ""."""

    kind: Kind
    name: ObjectName

    @classmethod
    def node(cls, name: str) -> Regarding:
        """Return a Node."""
        return cls(Kind.NODE, ObjectName("", name))

    @classmethod
    def service(cls, name: ObjectName) -> Regarding:
        """Return a Service."""
        return cls(Kind.SERVICE, name)


class Event(msgspec.Struct, frozen=True):
    """
    What happened. `type` is ``Normal`` or ``Warning``; `note` is for people.

    With a `shared_key` every node sees the same: the Event's name follows from its object, its
    reason and the key, so that all nodes together make one. It has no series.
    """

    regarding: Regarding
    type: str
    reason: str
    action: str
    note: str = ""
    shared_key: str = ""

    @property
    def namespace(self) -> str:
        """The namespace of the Event object: ``default`` for an Event about a Node."""
        return self.regarding.name.namespace or "default"


class EventSeries(msgspec.Struct):
    """
    How often an Event has happened, and how much of that the API server has.

    `posting_at` is when to post a shared Event.
    """

    event: Event
    name: str
    first_at: float
    last_at: float
    count: int = 1
    posted_count: int = 0
    posted_at: float = 0.0
    posting_at: float = 0.0

    def due_at(self) -> float | None:
        """Return when to post, None if the API server has everything."""
        if self.posted_count == self.count:
            return None
        if self.event.shared_key:
            return self.posting_at
        if self.posted_count < 2:
            return self.last_at
        return max(self.posted_at + SERIES_S, self.last_at)


class EventQueue:
    """The latest Events. For one thread."""

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        """Remember up to `max_series`."""
        self._max_series = max_series
        self._series: dict[Event, EventSeries] = {}
        self._hour_at = 0.0
        self._begun: Counter[tuple[str, ...]] = Counter()  # in this hour, by namespace and object

    def add(self, event: Event, now_s: float, delay_s: float = 0.0) -> bool:
        """
        Add an Event; return False if too many wait already, or its author had enough this hour.

        A shared one waits for `delay_s`: of the nodes of a fleet the first posts it, and to the
        others the API server answers that it exists.
        """
        known = self._series.get(event)
        if known is not None and (
            known.posted_count < known.count or now_s - known.posted_at < KEPT_S
        ):
            if not event.shared_key:
                known.count += 1
                known.last_at = now_s
            return True
        if not self._may_begin(event.regarding.name, now_s):
            return False
        if known is None and len(self._series) >= self._max_series and not self._drop_oldest():
            return False
        object_name = event.regarding.name.name[:_MAX_OBJECT_NAME].rstrip(".-")
        tail = _digest(event) if event.shared_key else f"{int(now_s * 1e9):x}"
        name = f"{object_name}.{tail}"
        self._series[event] = EventSeries(event, name, now_s, now_s, posting_at=now_s + delay_s)
        return True

    def _may_begin(self, name: ObjectName, now_s: float) -> bool:
        """Count a new Event; return False if its object, or namespace, had its share this hour."""
        if not 0 <= now_s - self._hour_at < KEPT_S:
            self._hour_at, self._begun = now_s, Counter()
        if not name.namespace:  # of a Node or ServiceCIDR: no tenant's
            return True
        space = (name.namespace,)
        if self._begun[name] >= MOST_OF_OBJECT or self._begun[space] >= MOST_OF_NAMESPACE:
            return False
        self._begun.update((name, space))
        return True

    def due(self, now_s: float) -> EventSeries | None:
        """Return what to post next, None if nothing is due now."""
        due = [
            (at, series) for series in self._series.values() if (at := series.due_at()) is not None
        ]
        at, first = min(due, key=lambda item: item[0], default=(now_s + 1, None))
        return first if at <= now_s else None

    def next_at(self) -> float | None:
        """Return when the next is due, None for not before the next Event."""
        times = [at for series in self._series.values() if (at := series.due_at()) is not None]
        return min(times, default=None)

    def drop(self, series: EventSeries) -> None:
        """Do not post an Event any more, until it happens again."""
        self._series.pop(series.event, None)

    def _drop_oldest(self) -> bool:
        """Make room: forget the oldest of which the API server has everything."""
        posted = [series for series in self._series.values() if series.due_at() is None]
        if not posted:
            return False
        self.drop(min(posted, key=lambda series: series.posted_at))
        return True


def _digest(event: Event) -> str:
    """Return what makes the name of a shared Event its own, the same on every node."""
    about = event.regarding
    parts = (about.kind.word, *about.name, event.reason, event.shared_key)
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]


def event_object(series: EventSeries, instance: str) -> dict[str, Any]:
    """Return an Event as the API takes it; `instance` is its ``reportingInstance``."""
    event = series.event
    kind, name = event.regarding.kind, event.regarding.name
    regarding = {"apiVersion": kind.api_version, "kind": kind.word, "name": name.name}
    if name.namespace:
        regarding["namespace"] = name.namespace
    made: dict[str, Any] = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": series.name, "namespace": event.namespace},
        "eventTime": _micro_time(series.first_at),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "action": event.action,
        "reason": event.reason,
        "regarding": regarding,
        "note": event.note.encode()[:_MAX_NOTE_BYTES].decode(errors="ignore"),
        "type": event.type,
    }
    if series.count > 1:
        made |= series_patch(series)
    return made


def series_patch(series: EventSeries) -> dict[str, Any]:
    """Return the part of an Event that counts its repeats."""
    last = _micro_time(series.last_at)
    return {"series": {"count": series.count, "lastObservedTime": last}}


def _micro_time(seconds: float) -> str:
    """Return a time as ``metav1.MicroTime`` writes it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
