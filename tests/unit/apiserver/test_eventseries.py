"""Which Events are posted to the API server, and when."""

from __future__ import annotations

import pytest

from nfproxy.apiserver.eventseries import (
    KEPT_S,
    MOST_OF_NAMESPACE,
    MOST_OF_OBJECT,
    SERIES_S,
    Event,
    EventQueue,
    Regarding,
    event_object,
)
from nfproxy.kube.identity import Kind
from nfproxy.model.service import ObjectName

WEB = Regarding.service(ObjectName("shop", "web"))


def event(note: str = "port 30000 is taken", regarding: Regarding = WEB) -> Event:
    return Event(regarding, "Warning", "FailedToStartServiceHealthcheck", "Listen", note)


def post(queue: EventQueue, now_s: float) -> int:
    """Post everything that is due; return how many Events that was."""
    posted = 0
    while (due := queue.due(now_s)) is not None:
        due.posted_count, due.posted_at = due.count, now_s
        posted += 1
    return posted


def test_an_event_is_posted_once():
    """The same Event again is its repeat; another note makes another Event."""
    queue = EventQueue()
    queue.add(event(), 1)
    queue.add(event(), 2)
    queue.add(event("port 30001 is taken"), 2)

    assert post(queue, 2) == 2
    assert queue.next_at() is None


def test_the_first_repeat_is_posted_at_once_and_later_ones_together():
    """As in client-go."""
    queue = EventQueue()
    queue.add(event(), 1)
    assert post(queue, 1) == 1
    queue.add(event(), 2)
    assert post(queue, 2) == 1
    queue.add(event(), 3)
    queue.add(event(), 4)

    assert post(queue, 5) == 0
    assert queue.next_at() == 2 + SERIES_S
    assert post(queue, 2 + SERIES_S) == 1


def test_an_event_that_the_api_server_no_longer_has_is_created_again():
    """API servers keep Events for an hour."""
    queue = EventQueue()
    queue.add(event(), 1)
    first = queue.due(1)
    assert first is not None
    post(queue, 1)
    queue.add(event(), 2 + KEPT_S)
    again = queue.due(2 + KEPT_S)

    assert again is not None
    assert (again.count, again.posted_count) == (1, 0)
    assert again.name != first.name


def test_a_flood_of_events_is_dropped():
    """Posted Events make room for new ones; Events that wait do not."""
    queue = EventQueue(max_series=2)
    assert queue.add(event("a"), 1)
    assert queue.add(event("b"), 1)
    assert not queue.add(event("c"), 1)
    post(queue, 1)
    assert queue.add(event("c"), 2)
    assert post(queue, 2) == 1


def test_a_tenant_gets_a_bounded_number_of_events():
    """An object that changes all the time has another note each time; others have theirs."""
    queue = EventQueue(max_series=100_000)
    assert sum(queue.add(event(f"bad {n}"), n / 100) for n in range(1000)) == MOST_OF_OBJECT
    many = [Regarding.service(ObjectName("shop", f"web-{number}")) for number in range(1000)]
    assert sum(queue.add(event(regarding=one), 20) for one in many) == (
        MOST_OF_NAMESPACE - MOST_OF_OBJECT
    )

    assert queue.add(event(regarding=Regarding.service(ObjectName("other", "web"))), 20)
    node = Regarding.node("node-1")
    assert all(queue.add(event(f"x {n}", node), 20) for n in range(MOST_OF_NAMESPACE + 1))
    assert queue.add(event("repeats"), KEPT_S + 1)
    assert sum(queue.add(event("repeats"), KEPT_S + 1) for _ in range(100)) == 100


def test_an_event_as_the_api_takes_it():
    """It has the reporting controller that kube-proxy's users look for."""
    queue = EventQueue()
    queue.add(event(), 1714557600.25)
    queue.add(event(), 1714557601.0)
    series = queue.due(1714557601.0)
    assert series is not None

    assert event_object(series, "kube-proxy-n1") == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": series.name, "namespace": "shop"},
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
    assert series.name.startswith("web.")


@pytest.mark.parametrize(
    ("regarding", "expected"),
    [
        (Regarding.node("n1"), {"apiVersion": "v1", "kind": "Node", "name": "n1"}),
        (
            Regarding(Kind.SERVICE_CIDR, ObjectName("", "c")),
            {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "name": "c"},
        ),
    ],
)
def test_an_event_about_something_without_namespace_lives_in_default(regarding, expected):
    """The reference to it has no namespace."""
    queue = EventQueue()
    queue.add(event(regarding=regarding), 1)
    series = queue.due(1)
    assert series is not None
    found = event_object(series, "i")

    assert found["regarding"] == expected
    assert found["metadata"]["namespace"] == "default"


def test_a_long_note_and_a_long_name_are_cut():
    """The API refuses notes above a kilobyte and names above 253 characters."""
    queue = EventQueue()
    long = Regarding.node("n" * 199 + "." + "n" * 53)
    queue.add(event("ä" * 2000, long), 1714557600)
    series = queue.due(1714557600)
    assert series is not None
    found = event_object(series, "i")

    assert len(found["note"].encode()) <= 1024
    assert len(series.name) <= 253
    assert ".." not in series.name


def shared(key: str, note: str = "note") -> Event:
    return Event(WEB, "Warning", "FieldIgnored", "Decode", note, shared_key=key)


def test_an_event_that_every_node_sees_has_one_name():
    """The name follows from object, reason and key, whenever and wherever it is posted."""
    names = []
    for now_s, each in ((1, shared("a")), (7e9, shared("a", "on another node")), (3, shared("b"))):
        queue = EventQueue()
        queue.add(each, now_s)
        names.append(queue.due(now_s).name)
    assert names[0] == names[1] != names[2]


def test_a_shared_event_waits_and_has_no_repeats():
    """Nodes post it at different moments, so that most of them find it there."""
    queue = EventQueue()
    queue.add(shared("a"), 10, delay_s=20)
    assert (queue.due(29), queue.next_at()) == (None, 30)
    queue.add(shared("a"), 15)
    assert post(queue, 30) == 1
    queue.add(shared("a"), 31)
    assert post(queue, 31 + SERIES_S) == 0
    queue.add(shared("a"), 31 + KEPT_S)
    assert post(queue, 31 + KEPT_S) == 1
