"""
Which Events to tell the API server of, and when: each once, repeats as a series.

Source: ``events.k8s.io/v1`` Event. An Event that happens again does not become a second object:
its ``series`` counts (KEP-383). The first repeat is told at once, later ones together, every
few minutes, as client-go does.
"""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from nfproxy.kube.decoded import Kind
from nfproxy.model.service import ObjectName

CONTROLLER = "kube-proxy"  # by which dashboards and people find these Events
SERIES_S = 360.0  # between two updates of one series
FORGOTTEN_S = 3600.0  # API servers keep Events for an hour
MOST = 500  # Events remembered at a time
_NOTE_BYTES = 1024  # what the API takes
_NAME_LIMIT = 200  # leaves room for what makes an Event's name unique


class Regarding(msgspec.Struct, frozen=True):
    """The object an Event is about; the namespace of a Node is ""."""

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

    @classmethod
    def of(cls, kind: Kind, name: ObjectName) -> Regarding:
        """Return an object of any kind that is read."""
        return cls(kind, name)


class Event(msgspec.Struct, frozen=True):
    """What happened. `type` is ``Normal`` or ``Warning``; `note` is for people."""

    regarding: Regarding
    type: str
    reason: str
    action: str
    note: str = ""

    @property
    def namespace(self) -> str:
        """Where the Event's object lives: ``default`` for one about a Node."""
        return self.regarding.name.namespace or "default"


class Occurrence(msgspec.Struct):
    """How often an Event has happened, and how much of that the API server knows."""

    event: Event
    name: str
    first_s: float
    last_s: float
    count: int = 1
    told: int = 0
    told_s: float = 0.0

    def due_s(self) -> float | None:
        """Return when the API server should be told, None for not at all."""
        if self.told == self.count:
            return None
        return self.last_s if self.told < 2 else max(self.told_s + SERIES_S, self.last_s)


class Occurrences:
    """What has happened lately. Times are in Unix seconds."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: dict[Event, Occurrence] = {}

    def note(self, event: Event, now_s: float) -> bool:
        """Take an Event; False if there are too many to tell of already."""
        known = self._known.get(event)
        if known is not None and (known.told < known.count or now_s - known.told_s < FORGOTTEN_S):
            known.count += 1
            known.last_s = now_s
            return True
        if known is None and len(self._known) >= self._most and not self._forget():
            return False
        name = f"{event.regarding.name.name[:_NAME_LIMIT].rstrip('.-')}.{int(now_s * 1e9):x}"
        self._known[event] = Occurrence(event, name, now_s, now_s)
        return True

    def due(self, now_s: float) -> Occurrence | None:
        """Return the one to tell of next, None if none is due now."""
        due = [(at, o) for o in self._known.values() if (at := o.due_s()) is not None]
        at, first = min(due, key=lambda item: item[0], default=(now_s + 1, None))
        return first if at <= now_s else None

    def next_s(self) -> float | None:
        """Return when the next is due, None for not before something happens."""
        times = [at for o in self._known.values() if (at := o.due_s()) is not None]
        return min(times, default=None)

    def drop(self, occurrence: Occurrence) -> None:
        """Tell of an Event no more, until it happens again."""
        self._known.pop(occurrence.event, None)

    def _forget(self) -> bool:
        """Make room: forget the oldest that the API server knows all about."""
        settled = [o for o in self._known.values() if o.told == o.count]
        if not settled:
            return False
        self.drop(min(settled, key=lambda o: o.told_s))
        return True


def event_object(occurrence: Occurrence, instance: str) -> dict[str, Any]:
    """Return an Event as the API takes it."""
    event = occurrence.event
    kind, name = event.regarding.kind, event.regarding.name
    regarding = {"apiVersion": kind.api_version, "kind": kind.word, "name": name.name}
    if name.namespace:
        regarding["namespace"] = name.namespace
    found: dict[str, Any] = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": occurrence.name, "namespace": event.namespace},
        "eventTime": _micro_time(occurrence.first_s),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "action": event.action,
        "reason": event.reason,
        "regarding": regarding,
        "note": event.note.encode()[:_NOTE_BYTES].decode(errors="ignore"),
        "type": event.type,
    }
    if occurrence.count > 1:
        found |= series(occurrence)
    return found


def series(occurrence: Occurrence) -> dict[str, Any]:
    """Return the part of an Event that tells of repeats."""
    last = _micro_time(occurrence.last_s)
    return {"series": {"count": occurrence.count, "lastObservedTime": last}}


def _micro_time(seconds: float) -> str:
    """Return a time as ``metav1.MicroTime`` writes it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
