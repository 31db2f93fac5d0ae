"""Which Events the API server is told of, and when."""

from __future__ import annotations

import pytest

from nfproxy.apiserver.occurrences import (
    FORGOTTEN_S,
    SERIES_S,
    Event,
    Occurrences,
    Regarding,
    event_object,
)
from nfproxy.kube.decoded import Kind
from nfproxy.model.service import ObjectName

WEB = Regarding.service(ObjectName("shop", "web"))


def event(note: str = "port 30000 is taken", regarding: Regarding = WEB) -> Event:
    return Event(regarding, "Warning", "FailedToStartServiceHealthcheck", "Listen", note)


def tell(known: Occurrences, now_s: float) -> int:
    """Tell the API server of all that is due; return how many."""
    told = 0
    while (due := known.due(now_s)) is not None:
        due.told, due.told_s = due.count, now_s
        told += 1
    return told


def test_an_event_is_told_once():
    """
    The same again is its repeat, another note another Event.
    """
    known = Occurrences()
    known.note(event(), 1)
    known.note(event(), 2)
    known.note(event("port 30001 is taken"), 2)

    assert tell(known, 2) == 2
    assert known.next_s() is None


def test_the_first_repeat_is_told_at_once_and_later_ones_together():
    """
    As client-go does it.
    """
    known = Occurrences()
    known.note(event(), 1)
    assert tell(known, 1) == 1
    known.note(event(), 2)
    assert tell(known, 2) == 1
    known.note(event(), 3)
    known.note(event(), 4)

    assert tell(known, 5) == 0
    assert known.next_s() == 2 + SERIES_S
    assert tell(known, 2 + SERIES_S) == 1


def test_an_event_that_has_been_forgotten_begins_anew():
    """
    API servers keep Events for an hour.
    """
    known = Occurrences()
    known.note(event(), 1)
    first = known.due(1)
    assert first is not None
    tell(known, 1)
    known.note(event(), 2 + FORGOTTEN_S)
    again = known.due(2 + FORGOTTEN_S)

    assert again is not None
    assert (again.count, again.told) == (1, 0)
    assert again.name != first.name


def test_a_flood_of_events_is_dropped():
    """
    What has been told makes room, what has not is not given up for more of it.
    """
    known = Occurrences(most=2)
    assert known.note(event("a"), 1)
    assert known.note(event("b"), 1)
    assert not known.note(event("c"), 1)
    tell(known, 1)
    assert known.note(event("c"), 2)
    assert tell(known, 2) == 1


def test_an_event_as_the_api_takes_it():
    """
    With the reporting controller that kube-proxy's users look for.
    """
    known = Occurrences()
    known.note(event(), 1714557600.25)
    known.note(event(), 1714557601.0)
    occurrence = known.due(1714557601.0)
    assert occurrence is not None

    assert event_object(occurrence, "kube-proxy-n1") == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": occurrence.name, "namespace": "shop"},
        "eventTime": "2024-05-01T10:00:00.250000Z",
        "reportingController": "kube-proxy",
        "reportingInstance": "kube-proxy-n1",
        "action": "Listen",
        "reason": "FailedToStartServiceHealthcheck",
        "regarding": {"apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web"},
        "note": "port 30000 is taken",
        "type": "Warning",
        "series": {"count": 2, "lastObservedTime": "2024-05-01T10:00:01.000000Z"},
    }
    assert occurrence.name.startswith("web.")


@pytest.mark.parametrize(
    ("regarding", "expected"),
    [
        (Regarding.node("n1"), {"apiVersion": "v1", "kind": "Node", "name": "n1"}),
        (
            Regarding.of(Kind.SERVICE_CIDR, ObjectName("", "c")),
            {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "name": "c"},
        ),
    ],
)
def test_an_event_about_something_without_namespace_lives_in_default(regarding, expected):
    """
    Its reference carries no namespace.
    """
    known = Occurrences()
    known.note(event(regarding=regarding), 1)
    occurrence = known.due(1)
    assert occurrence is not None
    found = event_object(occurrence, "i")

    assert found["regarding"] == expected
    assert found["metadata"]["namespace"] == "default"


def test_a_long_note_and_a_long_name_are_cut():
    """
    The API refuses more than a kilobyte, and names of more than 253 characters.
    """
    known = Occurrences()
    long = Regarding.node("n" * 199 + "." + "n" * 53)
    known.note(event("ä" * 2000, long), 1714557600)
    occurrence = known.due(1714557600)
    assert occurrence is not None
    found = event_object(occurrence, "i")

    assert len(found["note"].encode()) <= 1024
    assert len(occurrence.name) <= 253
    assert ".." not in occurrence.name
