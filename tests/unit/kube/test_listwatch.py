"""The protocol of listing and watching, as values: no socket, no clock, no sleep."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfproxy.backoff import LAST_S, MAX_RETRY_AFTER_S
from nfproxy.kube.listwatch import ListWatch
from nfproxy.kube.pagedlist import ListRequest
from nfproxy.kube.protocol import (
    BeginList,
    EndList,
    Healthy,
    Output,
    Trouble,
    Unavailable,
    WatchEnded,
    WatchRequest,
    WatchTimeouts,
)
from nfproxy.kube.resources import resources
from nfproxy.kube.status import RequestError, Status, refused
from nfproxy.kube.watch import Put, Removed

SERVICES, SLICES, CIDRS, _ = resources("n1")
TIMES = WatchTimeouts()


def machine(resource: Any = SERVICES) -> ListWatch:
    """Return a machine without jitter."""
    return ListWatch(resource, TIMES, lambda: 0.0)


def line(type_: str, name: str, version: int | str) -> bytes:
    obj = {"metadata": {"name": name, "resourceVersion": str(version)}}
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


def bookmark(version: int | str, is_complete: bool = False) -> bytes:
    annotations = {"k8s.io/initial-events-end": "true"} if is_complete else {}
    metadata = {"resourceVersion": str(version), "annotations": annotations}
    return json.dumps({"type": "BOOKMARK", "object": {"metadata": metadata}}).encode() + b"\n"


def error_line(code: int) -> bytes:
    status = {"kind": "Status", "code": code}
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


def page(version: int | str, names: Iterable[str], token: str = "") -> bytes:
    items = [{"metadata": {"name": name}} for name in names]
    metadata = {"resourceVersion": str(version), "continue": token}
    return json.dumps({"metadata": metadata, "items": items}).encode()


def name_of(event: Put | Removed) -> str:
    return str(json.loads(bytes(event.object))["metadata"]["name"])


def watching(resource: Any = SERVICES, at_s: float = 0.0) -> ListWatch:
    """Return a machine that watches from version 10, with a stream that has not lasted yet."""
    protocol = machine(resource)
    protocol.next_request(at_s)
    protocol.opened(at_s)
    protocol.received(bookmark(10, is_complete=True), at_s)
    return protocol


def test_a_streaming_list_becomes_a_watch():
    """One request gives the objects, then the end of the list, then changes."""
    protocol = machine()
    request = protocol.next_request(0.0)
    assert isinstance(request, WatchRequest)
    assert request.query["sendInitialEvents"] == "true"
    assert protocol.opened(1.0) == [BeginList()]

    found = protocol.received(line("ADDED", "a", 3) + bookmark(10, is_complete=True), 2.0)
    assert isinstance(found[0], Put)
    assert found[1:] == [EndList(objects=1, seconds=2.0)]
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
    assert protocol.page(page(10, ["b"]), 3.0)[-1] == EndList(objects=2, seconds=2.0)
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


def test_retry_after_is_a_lower_bound():
    """The server's wish in a Status or a header goes before our own pace."""
    protocol = machine()
    protocol.next_request(0.0)
    protocol.failed(refused(Status(429, retry_after_s=7.0)), 0.0)
    assert protocol.wait_s == 7.0


def test_an_optional_resource_is_asked_for_rarely_once_its_absence_is_certain():
    """It is no trouble, and news once; a complete list starts the count again."""
    protocol = machine(CIDRS)
    waits, news = [], []
    for _ in range(11):
        protocol.next_request(0.0)
        unavailable, healthy = protocol.failed(refused(Status(403)), 0.0)
        assert isinstance(unavailable, Unavailable)
        assert healthy == Healthy()
        waits.append(protocol.wait_s)
        news.append(unavailable.is_news)
    assert waits[:8] == pytest.approx([0.1 * 2**n for n in range(8)])
    assert waits[8:] == [TIMES.unavailable_s] * 3
    assert news == [False] * 8 + [True] + [False] * 2


def test_a_forbidden_resource_that_is_needed_is_a_trouble():
    """The machine keeps asking, and nothing waits for the objects."""
    protocol = machine(SLICES)
    protocol.next_request(0.0)
    unavailable, trouble = protocol.failed(refused(Status(403)), 0.0)
    assert isinstance(unavailable, Unavailable)
    assert isinstance(trouble, Trouble)
    assert '["endpointslices"]' in trouble.remedy


def test_a_fault_of_the_caller_lists_everything_again():
    """The cache may lack what was lost with the fault."""
    protocol = watching()
    protocol.received(line("ADDED", "a", 11), 1.0)
    assert protocol.crashed() == [WatchEnded("failed")]
    assert protocol.wait_s > 0
    assert "resourceVersion" not in protocol.next_request(1.0).query


# -- whatever the server does ---------------------------------------------------------------


class Cluster:
    """An API server's truth: objects, and the history from which it serves watches."""

    def __init__(self) -> None:
        self.version = 100
        self.compacted = 100
        self.objects: dict[str, int] = {}
        self.history: list[tuple[int, str, str]] = []

    def change(self, name: str) -> None:
        """Change an object; every third change removes it."""
        self.version += 1
        if name in self.objects and self.version % 3 == 0:
            del self.objects[name]
            self.history.append((self.version, "DELETED", name))
        else:
            type_ = "MODIFIED" if name in self.objects else "ADDED"
            self.objects[name] = self.version
            self.history.append((self.version, type_, name))

    def compact(self) -> None:
        """Forget the history: watches from earlier versions expire."""
        self.compacted = self.version

    def stream(self, query: Any) -> bytes:
        """Return what a watch sends now."""
        if "resourceVersion" in query:
            since = int(query["resourceVersion"])
            if since < self.compacted:
                return error_line(410)
            return b"".join(line(t, n, v) for v, t, n in self.history if v > since)
        added = b"".join(line("ADDED", name, v) for name, v in self.objects.items())
        return added + bookmark(self.version, is_complete=True)


class Cache:
    """What the object cache does with the outputs: only a complete list removes by absence."""

    def __init__(self) -> None:
        self.objects: dict[str, int] = {}
        self.unlisted: set[str] | None = None
        self.lists = 0

    def act(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case BeginList():
                    self.unlisted = set(self.objects)
                case Put():
                    self.put(name_of(output), int(output.version or 0))
                case Removed():
                    self.objects.pop(name_of(output), None)
                case EndList():
                    assert self.unlisted is not None, "a list ends that has not begun"
                    for name in self.unlisted:
                        del self.objects[name]
                    self.unlisted = None
                    self.lists += 1

    def put(self, name: str, version: int) -> None:
        if self.unlisted is not None:
            self.unlisted.discard(name)
        self.objects[name] = version


class Play:
    """A machine and a server that does what a list of draws says."""

    def __init__(self, draws: Callable[[int], int]) -> None:
        self.draw = draws
        self.cluster = Cluster()
        self.cache = Cache()
        self.protocol = ListWatch(SERVICES, TIMES, lambda: draws(101) / 100)
        self.now_s = 0.0

    def step(self, is_honest: bool) -> None:
        """Let the machine make one request, and let the server answer it."""
        longest_s = LAST_S + MAX_RETRY_AFTER_S
        assert 0 <= self.protocol.wait_s <= longest_s, "waits without bound"
        self.now_s += self.protocol.wait_s
        request = self.protocol.next_request(self.now_s)
        if not is_honest:
            for _ in range(self.draw(4)):
                self.cluster.change("abcde"[self.draw(5)])
            if self.draw(6) == 0:
                self.cluster.compact()
        if not is_honest and self.draw(3) == 0:
            code = (0, 400, 401, 403, 404, 410, 422, 429, 500, 503, 504)[self.draw(11)]
            status = Status(code, retry_after_s=self.draw(200))
            self.fail(refused(status) if code else RequestError("no answer", is_silent=True))
        elif isinstance(request, ListRequest):
            self.answer_page(request, is_honest)
        else:
            self.answer_stream(request, is_honest)

    def fail(self, error: RequestError) -> None:
        self.cache.act(self.protocol.failed(error, self.now_s))

    def answer_page(self, request: ListRequest, is_honest: bool) -> None:
        names = sorted(self.cluster.objects)
        start = 0
        version = self.cluster.version
        if token := request.query.get("continue"):
            version, start = map(int, token.split("."))
        if version < self.cluster.version and start:
            return self.fail(refused(Status(410)))
        end = start + 2 if "limit" in request.query else len(names)
        body = page(version, names[start:end], f"{version}.{end}" if end < len(names) else "")
        # Items of a page carry versions in reality; the comparison below needs them.
        found = json.loads(body)
        for item in found["items"]:
            item["metadata"]["resourceVersion"] = str(
                self.cluster.objects[item["metadata"]["name"]]
            )
        body = json.dumps(found).encode()
        if not is_honest and self.draw(4) == 0:
            body = (b"", b"{}", b"<html>", body[: self.draw(len(body))])[self.draw(4)]
        return self.cache.act(self.protocol.page(body, self.now_s))

    def answer_stream(self, request: WatchRequest, is_honest: bool) -> None:
        assert request.silence_s < 1000
        data = self.cluster.stream(request.query)
        self.cache.act(self.protocol.opened(self.now_s))
        if not is_honest and self.draw(3) == 0:
            cut = self.draw(len(data) + 1)
            data = data[:cut] + (b"", b"garbage\n", error_line(500), error_line(410))[self.draw(4)]
        while data and self.protocol.is_open:
            size = 1 + self.draw(80)
            self.now_s += self.draw(3)
            self.cache.act(self.protocol.received(data[:size], self.now_s))
            data = data[size:]
        for _ in range(self.draw(3)):
            self.pass_time()
        if self.protocol.is_open:
            if self.draw(2):
                self.cache.act(self.protocol.closed(self.now_s))
            else:
                self.fail(RequestError("broke", is_silent=bool(self.draw(2))))

    def pass_time(self) -> None:
        """Let the next deadline pass."""
        if self.protocol.is_open and self.protocol.deadline_at is not None:
            assert self.protocol.deadline_at <= self.now_s + TIMES.lineless_s
            self.now_s = max(self.now_s, self.protocol.deadline_at)
            self.cache.act(self.protocol.time_passed(self.now_s))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**16), max_size=150), st.randoms(use_true_random=False))
def test_whatever_the_server_did_the_cache_ends_with_its_objects(numbers, chance):
    """
    The machine never ends, never waits without bound, and loses no object: once the server answers
    as it should, a few requests bring the cache in step with it.
    """
    remaining = iter(numbers)

    def draw(below: int) -> int:
        return next(remaining, chance.randrange(2**16)) % below

    play = Play(draw)
    for _ in range(25):
        play.step(is_honest=False)
    # A request for pages may be under way, a version may have expired, and short streams are slow
    # to count as healthy: an honest server needs no more than these.
    for _ in range(12):
        play.step(is_honest=True)
    assert play.cache.objects == play.cluster.objects
    assert play.cache.lists


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_bytes_of_any_kind_end_a_stream_at_most(chunks):
    """Hostile bytes raise nothing; the next request follows."""
    protocol = watching()
    for chunk in chunks:
        if protocol.is_open:
            protocol.received(chunk, 1.0)
    assert protocol.next_request(1.0)


def is_list(request: Any) -> bool:
    return "sendInitialEvents" in request.query


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
