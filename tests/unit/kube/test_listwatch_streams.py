"""What the lines of a stream, its silence and its end mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.objects.watchlines import TIMES, bookmark, line, watching

from nfproxy.kube.apistatus import RequestError, Status, refused
from nfproxy.kube.protocol import (
    Healthy,
    Trouble,
    WatchEnded,
)


def test_a_line_that_is_no_event_is_resumed_before_and_then_listed():
    """The second time at the same version, the watch cannot get past the line."""
    protocol = watching()
    found = protocol.received(line("MODIFIED", "a", 11) + b"garbage\n", 1.0)
    assert found[1:] == [WatchEnded("malformed")]
    assert protocol.next_request(2.0).query["resourceVersion"] == "11"
    protocol.opened(2.0)
    ended, trouble = protocol.received(b"garbage\n", 2.0)
    assert ended == WatchEnded("malformed")
    assert isinstance(trouble, Trouble)
    assert "resourceVersion" not in protocol.next_request(3.0).query


def test_silence_after_a_resumed_watch_leads_to_a_list():
    """
    A server that was restored from a backup waits in silence for a version it has not reached. One
    that could not be reached says nothing about the version.
    """
    silent = RequestError("no byte", is_silent=True)
    for is_opened, is_listing in ((True, True), (False, False)):
        protocol = watching()
        protocol.closed(9.0)
        protocol.next_request(9.0)
        if is_opened:
            protocol.opened(9.0)
        protocol.failed(silent, 300.0)
        assert ("sendInitialEvents" in protocol.next_request(300.0).query) == is_listing


def test_the_first_short_stream_is_no_news_and_an_error_code_is():
    """Connections break now and then; an answer with an error code does not pass by itself."""
    protocol = watching()
    assert protocol.closed(1.0) == [WatchEnded("closed")]
    protocol.next_request(1.0)
    protocol.opened(1.0)
    assert [type(output) for output in protocol.closed(1.5)] == [WatchEnded, Trouble]

    protocol = watching()
    protocol.closed(1.0)
    protocol.next_request(1.0)
    assert protocol.failed(refused(Status(503, message="etcd is away")), 1.0) == [
        Trouble("503 etcd is away")
    ]


def test_a_stream_that_lasts_resets_what_was_before():
    """It is healthy at `healthy_s`, without a byte, once; then a short wait follows a failure."""
    protocol = watching()
    for _ in range(6):
        protocol.failed(refused(Status(503)), 0.0)
        protocol.next_request(0.0)
    protocol.opened(100.0)
    assert protocol.deadline_at == 100.0 + TIMES.healthy_s
    assert protocol.time_passed(105.0) == [Healthy()]
    assert protocol.deadline_at == 100.0 + TIMES.lineless_s
    assert protocol.received(bookmark(20), 106.0) == []
    protocol.failed(refused(Status(503)), 107.0)
    assert protocol.wait_s == pytest.approx(0.1)


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_bytes_of_any_kind_end_a_stream_at_most(chunks):
    """Hostile bytes raise nothing; the next request follows."""
    protocol = watching()
    for chunk in chunks:
        if protocol.is_open:
            protocol.received(chunk, 1.0)
    assert protocol.next_request(1.0)
