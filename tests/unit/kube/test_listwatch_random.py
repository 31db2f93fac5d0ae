"""A list and watch against a server that does anything: in the end the cache has its objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.objects.watchlines import (
    SERVICES,
    TIMES,
    bookmark,
    error_line,
    line,
    name_of,
    page,
)

from nfproxy.backoff import LAST_S, MAX_RETRY_AFTER_S
from nfproxy.kube.apistatus import RequestError, Status, refused
from nfproxy.kube.listwatch import ListWatch
from nfproxy.kube.pagedlist import ListRequest
from nfproxy.kube.protocol import (
    BeginList,
    EndList,
    Output,
    WatchRequest,
)
from nfproxy.kube.watch import Put, Removed


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
