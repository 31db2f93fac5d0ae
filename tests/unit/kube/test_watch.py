"""The wire forms of LIST and WATCH."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfproxy.kube.apistatus import Status, read_status
from nfproxy.kube.watch import (
    OBJECT_EVENTS,
    Bookmark,
    LineSplitter,
    Page,
    Put,
    Removed,
    StreamError,
    decode_event,
    not_an_event,
    read_control,
    read_page,
)
from nfproxy.mismatch import UNREADABLE

values = st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data at the given places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def frames(chunks: list[bytes], limit: int = 1000) -> list[bytes | str]:
    """Return what a splitter makes of chunks, and "too long" where it gives up."""
    splitter = LineSplitter(limit)
    found: list[bytes | str] = []
    for chunk in chunks:
        found.extend(splitter.feed(chunk))
        if splitter.is_too_long:
            found.append("too long")
            break
    return found


def read_event(line: bytes) -> Put | Removed | Bookmark | Status | None:
    """Read a line as :meth:`nfproxy.kube.listwatch.ListWatch.received` does."""
    try:
        raw = decode_event(line)
    except UNREADABLE:
        raise not_an_event(line) from None
    of_object = OBJECT_EVENTS.get(raw.type)
    return of_object(raw.object) if of_object else read_control(raw)


def event(type_: str, obj: Any) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode()


@given(st.lists(values), st.lists(st.integers(min_value=0), max_size=20))
def test_any_chunking_gives_the_same_lines(objects, cuts):
    """Lines come out whole wherever the stream is cut, in the middle of a character too."""
    lines = [json.dumps(o, ensure_ascii=False).encode() for o in objects]
    data = b"".join(line + b"\n" for line in lines)

    assert lines == frames(pieces(data, cuts))


@given(
    st.lists(st.binary(max_size=30), max_size=8), st.lists(st.integers(min_value=0), max_size=20)
)
def test_a_line_that_is_too_long_ends_the_stream_at_the_same_place(parts, cuts):
    """Lines before the one beyond the limit come out, however the chunks are cut."""
    data = b"\n".join(parts)
    expected: list[bytes | str] = []
    complete = data.split(b"\n")[:-1]
    rest = data.split(b"\n")[-1]
    for line in complete:
        if len(line) > 10:
            expected.append("too long")
            break
        if line.strip():
            expected.append(line)
    else:
        expected += ["too long"] if len(rest) > 10 else []

    assert expected == frames(pieces(data, cuts), limit=10)


def test_empty_lines_and_an_unfinished_one_are_no_frames():
    """A stream that breaks off inside a line has not sent the line."""
    assert frames([b"\n\r\n{}\n\n[]\n", b'{"type"']) == [b"{}", b"[]"]


@pytest.mark.parametrize("word", ["ADDED", "MODIFIED"])
def test_an_object_that_is_there_comes_with_its_version(word):
    """ADDED and MODIFIED are the same for a cache of the latest values."""
    found = read_event(event(word, {"metadata": {"name": "a", "resourceVersion": "7"}}))

    assert isinstance(found, Put)
    assert found.version == "7"
    assert json.loads(bytes(found.object))["metadata"]["name"] == "a"


def test_a_deletion_carries_the_version_of_the_deletion():
    """A watch resumes after the deletion."""
    found = read_event(event("DELETED", {"metadata": {"resourceVersion": "8"}}))

    assert isinstance(found, Removed)
    assert found.version == "8"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"resourceVersion": "9"}, Bookmark("9", False)),
        (
            {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}},
            Bookmark("9", True),
        ),
        (
            {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "false"}},
            Bookmark("9", False),
        ),
        ({}, Bookmark("", False)),
    ],
)
def test_a_bookmark_may_end_the_initial_events(metadata, expected):
    """Only the annotation with the value "true" says that the initial state is complete."""
    assert expected == read_event(event("BOOKMARK", {"kind": "Service", "metadata": metadata}))


def test_a_complete_state_without_version_cannot_be_followed():
    """The bookmark that ends the initial events must say where to go on."""
    annotations = {"k8s.io/initial-events-end": "true"}

    with pytest.raises(StreamError, match="resourceVersion"):
        read_event(event("BOOKMARK", {"metadata": {"annotations": annotations}}))


@pytest.mark.parametrize(
    "metadata", [5, None, [], {"resourceVersion": 5}, {"annotations": []}, "x"]
)
def test_an_object_with_bad_metadata_is_still_an_event(metadata):
    """The object cache reports what is wrong inside an object; the event only has no version."""
    found = read_event(event("ADDED", {"metadata": metadata}))

    assert isinstance(found, Put)
    assert found.version == ""


def test_an_error_event_gives_its_status():
    """ERROR carries a Status; 410 asks for a new list."""
    obj = {
        "kind": "Status",
        "code": 410,
        "reason": "Expired",
        "message": "too old resource version",
    }

    found = read_event(event("ERROR", obj))

    assert Status(410, "Expired", "too old resource version") == found
    assert found.is_expired


@pytest.mark.parametrize("obj", [{}, None, 5, {"kind": "Pod"}])
def test_an_error_event_without_status_is_an_error_all_the_same(obj):
    """An ERROR is an error, whatever it carries."""
    found = read_event(event("ERROR", obj))

    assert isinstance(found, Status)
    assert not found.is_expired


@pytest.mark.parametrize(
    ("status", "expired"),
    [
        (Status(410), True),
        (Status(0, "Gone"), True),
        (Status(400, "Expired"), True),
        (Status(500, "InternalError"), False),
        (Status(429, "TooManyRequests"), False),
    ],
)
def test_code_or_reason_say_that_a_version_is_too_old(status, expired):
    """Either is enough."""
    assert expired == status.is_expired


def test_an_event_of_an_unknown_type_is_skipped():
    """A later API may add types."""
    assert read_event(event("RENAMED", {})) is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"type": "ADDED"}',
        b'{"type": 5, "object": {}}',
        b'{"object": {}}',
        b'{"type": "ADDED", "object": {"a": }}',
        b"<html>",
        b"\xff\xfe",
        b'{"type":"ADDED","object":{}} trailing',
    ],
)
def test_a_line_that_is_no_event_breaks_the_stream(line):
    """The only exception is StreamError."""
    with pytest.raises(StreamError):
        read_event(line)


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_raise_nothing_else(line):
    """A hostile line gives an event or StreamError."""
    for read in (read_event, read_page):
        try:
            read(line)
        except StreamError:
            continue
    read_status(line)


def test_a_list_comes_in_pages():
    """A page has its items raw, the version of the list, and the token for the next page."""
    body = {"metadata": {"resourceVersion": "5", "continue": "abc"}, "items": [{"a": 1}]}

    page = read_page(json.dumps(body).encode())

    assert (page.version, page.continue_token, [bytes(i) for i in page.items]) == (
        "5",
        "abc",
        [b'{"a": 1}'],
    )


def test_a_list_of_nothing_is_null_in_go():
    """`items: null` is an empty list."""
    assert Page("5", "", ()) == read_page(b'{"metadata":{"resourceVersion":"5"},"items":null}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"metadata":{"resourceVersion":"5"}}',
        b'{"metadata":{},"items":[]}',
        b'{"metadata":{"resourceVersion":"5"},"items":{}}',
        b'{"metadata":{"resourceVersion":"5"},"items":[{]}',
        b'{"metadata":{"resourceVersion":"5"},"items":[{}',
    ],
)
def test_what_is_no_list_is_never_taken_for_an_empty_one(body):
    """An empty list would delete every object."""
    with pytest.raises(StreamError):
        read_page(body)


def test_a_status_may_ask_to_come_back_later():
    """The time is in the details."""
    body = {"kind": "Status", "code": 429, "details": {"retryAfterSeconds": 3}}

    assert Status(429, retry_after_s=3.0) == read_status(json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"kind":"Pod"}', b"5"])
def test_an_answer_of_a_load_balancer_is_no_status(body):
    """Load balancers answer in HTML."""
    assert read_status(body) is None
