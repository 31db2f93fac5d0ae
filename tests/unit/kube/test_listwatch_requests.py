"""What a list and watch asks for: a streaming list, pages, a version to resume from."""

from __future__ import annotations

import pytest
from support.objects.watchlines import (
    SERVICES,
    TIMES,
    bookmark,
    is_list,
    line,
    machine,
    name_of,
    page,
    watching,
)

from nfproxy.kube.apistatus import RequestError, Status, refused
from nfproxy.kube.listwatch import ListWatch
from nfproxy.kube.pagedlist import ListRequest
from nfproxy.kube.protocol import (
    BeginList,
    EndList,
    Healthy,
    WatchEnded,
    WatchRequest,
)
from nfproxy.kube.watch import Put


def test_a_streaming_list_becomes_a_watch():
    """One request gives the objects, then the end of the list, then changes."""
    protocol = machine()
    request = protocol.next_request(0.0)
    assert isinstance(request, WatchRequest)
    assert request.query["sendInitialEvents"] == "true"
    assert protocol.opened(1.0) == [BeginList()]

    found = protocol.received(line("ADDED", "a", 3) + bookmark(10, is_complete=True), 2.0)
    assert isinstance(found[0], Put)
    assert found[1:] == [EndList(objects=1, seconds=2.0, version="10")]
    (change,) = protocol.received(line("MODIFIED", "a", 11), 3.0)
    assert isinstance(change, Put)
    assert protocol.closed(6.0) == [Healthy(), WatchEnded("closed")]

    resumed = protocol.next_request(6.0)
    assert isinstance(resumed, WatchRequest)
    assert resumed.query["resourceVersion"] == "11"


def test_the_version_to_resume_from_is_the_latest_event_or_bookmark():
    """
    An object without a readable version leaves the one before in place: events may repeat, and
    none is missed.
    """
    for events, expected in (
        (line("MODIFIED", "a", 12), "12"),
        (line("MODIFIED", "a", 12) + bookmark(20), "20"),
        (bookmark(20) + line("DELETED", "a", 21), "21"),
        (bookmark(20) + b'{"type":"ADDED","object":{"metadata":5}}\n', "20"),
        (line("MODIFIED", "a", 12) + bookmark(""), "12"),
    ):
        protocol = watching()
        protocol.received(events, 1.0)
        protocol.closed(9.0)
        assert protocol.next_request(9.0).query["resourceVersion"] == expected


def test_a_server_that_sends_no_end_of_the_list_is_asked_for_pages():
    """After a pause, after too long in all, or at an ordinary bookmark, and without a wait."""

    def pause(protocol: ListWatch) -> None:
        assert protocol.deadline_at == TIMES.initial_silence_s
        protocol.time_passed(TIMES.initial_silence_s)

    def drip(protocol: ListWatch) -> None:
        at_s = 0.0
        while protocol.is_open:
            at_s += TIMES.initial_silence_s / 2
            assert at_s <= TIMES.initial_s
            protocol.received(line("ADDED", "a", 1), at_s)

    def ordinary(protocol: ListWatch) -> None:
        protocol.received(bookmark(5), 1.0)

    for act in (pause, drip, ordinary):
        protocol = machine()
        protocol.next_request(0.0)
        protocol.opened(0.0)
        act(protocol)
        assert not protocol.is_open
        assert protocol.wait_s == 0
        request = protocol.next_request(60.0)
        assert isinstance(request, ListRequest)
        assert request.query["limit"] == "500"


def test_pages_of_one_version_are_one_list():
    """The first page begins the list, the last one ends it and gives the version to watch from."""
    protocol = machine()
    protocol.next_request(0.0)
    protocol.failed(refused(Status(422)), 0.0)
    first = protocol.next_request(1.0)
    assert isinstance(first, ListRequest)
    assert first.is_first
    begin, put = protocol.page(page(10, ["a"], "token"), 2.0)
    assert (begin, name_of(put)) == (BeginList(), "a")  # type: ignore[arg-type]
    second = protocol.next_request(2.0)
    assert isinstance(second, ListRequest)
    assert not second.is_first
    assert second.query["continue"] == "token"
    assert protocol.page(page(10, ["b"]), 3.0)[-1] == EndList(objects=2, seconds=2.0, version="10")
    assert protocol.next_request(3.0).query["resourceVersion"] == "10"


def test_an_expired_list_is_asked_for_twice_in_pages_and_then_as_a_whole():
    """A page of another version counts as expired; an expired whole list waits."""
    protocol = machine()
    protocol.next_request(0.0)
    protocol.failed(refused(Status(422)), 0.0)
    for answer in (page(11, ["b"]), None):
        protocol.next_request(0.0)
        protocol.page(page(10, ["a"], "token"), 0.0)
        protocol.next_request(0.0)
        if answer:
            assert protocol.page(answer, 0.0) == []
        else:
            assert protocol.failed(refused(Status(410)), 0.0) == []
        assert protocol.wait_s == 0
    whole = protocol.next_request(0.0)
    assert not {"limit", "continue"} & set(whole.query)
    protocol.failed(refused(Status(410)), 0.0)
    assert protocol.wait_s > 0


def test_a_watch_that_works_is_checked_by_a_list():
    """A restored etcd whose versions overtook ours resumes without an error: objects would stay."""
    protocol = watching()
    protocol.time_passed(100.0)
    protocol.received(bookmark(11), TIMES.consistency_s - 1.0)
    assert protocol.is_open
    protocol.received(bookmark(12), TIMES.consistency_s)
    assert not protocol.is_open
    assert protocol.wait_s == 0.0
    assert is_list(protocol.next_request(TIMES.consistency_s))


def test_after_an_outage_the_list_comes_sooner():
    """The watch resumes at once; the list follows within minutes, not from all nodes at once."""
    protocol = ListWatch(SERVICES, TIMES, lambda: 0.5)
    protocol.next_request(0.0)
    protocol.opened(0.0)
    protocol.received(bookmark(10, is_complete=True), 0.0)
    protocol.closed(100.0)
    protocol.next_request(100.0)
    protocol.failed(RequestError("refused"), 100.0)
    assert not is_list(protocol.next_request(110.0))
    protocol.opened(110.0)
    due_s = 100.0 + TIMES.recheck_s * 1.5
    protocol.received(bookmark(11), due_s - 1.0)
    assert protocol.deadline_at == due_s
    protocol.time_passed(due_s)
    assert is_list(protocol.next_request(due_s))


@pytest.mark.parametrize("events", [line("MODIFIED", "a", 9), bookmark(9)])
def test_a_version_that_goes_back_is_answered_by_a_list(events):
    """Another history: versions only grow in one."""
    protocol = watching()
    protocol.received(events, 1.0)
    if protocol.is_open:
        protocol.closed(9.0)
    assert is_list(protocol.next_request(9.0))
