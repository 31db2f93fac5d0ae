"""Posting Events to an API server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from nfproxy.apiserver.eventposter import EventPoster
from nfproxy.apiserver.eventseries import Event, Regarding
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.backoff import Backoff
from nfproxy.kube.apistatus import RequestError, Status
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName

FOREVER_S = 20
EVENT = Event(Regarding.service(ObjectName("shop", "web")), "Warning", "Bad", "Decode", "why")
OTHER = Event(Regarding.node("n1"), "Normal", "Starting", "StartKubeProxy")


class Asked:
    """Stands for the connection: keeps requests, and fails those with a code."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.requests: asyncio.Queue[ApiRequest] = asyncio.Queue()

    async def read(self, request: ApiRequest) -> bytes:
        self.requests.put_nowait(request)
        code = self.codes.pop(0) if self.codes else 201
        if code != 201:
            raise RequestError(f"failed with {code}", status=Status(code))
        return b"{}"

    async def next(self) -> ApiRequest:
        return await asyncio.wait_for(self.requests.get(), FOREVER_S)


@pytest.fixture
def problems(monkeypatch) -> list[Problem]:
    """Reported problems; a failure does not wait."""
    monkeypatch.setattr(Backoff, "next_s", lambda *args: 0)
    return []


def test_an_event_is_created_and_its_repeat_patched(run, problems):
    """Both requests name the namespace of the object that the Event is about."""

    async def case() -> None:
        asked = Asked()
        async with EventPoster(asked, "kube-proxy-n1", problems.append) as poster:
            poster.post(EVENT)
            created = await asked.next()
            poster.post(EVENT)
            patched = await asked.next()
        path = "/apis/events.k8s.io/v1/namespaces/shop/events"
        assert (created.method, created.path) == ("POST", path)
        assert created.body is not None
        name = created.body["metadata"]["name"]
        assert (patched.method, patched.path) == ("PATCH", f"{path}/{name}")
        assert patched.content_type == "application/merge-patch+json"
        assert patched.body is not None
        assert patched.body["series"]["count"] == 2
        assert json.dumps(patched.body)

    run(case())


def test_the_repeat_of_an_expired_event_is_created_again(run, problems):
    """404 to the patch means that the Event has expired."""

    async def case() -> None:
        asked = Asked(201, 404)
        async with EventPoster(asked, "i", problems.append) as poster:
            poster.post(EVENT)
            await asked.next()
            poster.post(EVENT)
            assert [(await asked.next()).method for _ in range(2)] == ["PATCH", "POST"]

    run(case())
    assert problems == []


@pytest.mark.parametrize("code", [0, 401, 429, 500])
def test_a_passing_failure_is_tried_again(run, problems, code):
    """However often it fails, it is reported once."""

    async def case() -> None:
        asked = Asked(code, code, code)
        async with EventPoster(asked, "i", problems.append) as poster:
            poster.post(EVENT)
            for _ in range(4):
                assert (await asked.next()).method == "POST"

    run(case())
    assert len(problems) == 1


@pytest.mark.parametrize(("code", "text"), [(403, '["create", "patch", "update"]'), (422, "422")])
def test_a_refused_event_is_dropped(run, problems, code, text):
    """The next Event is posted; the report names the missing rule."""

    async def case() -> None:
        asked = Asked(code, code)
        async with EventPoster(asked, "i", problems.append) as poster:
            poster.post(EVENT)
            await asked.next()
            poster.post(OTHER)
            body: Any = (await asked.next()).body
            assert body["reason"] == "Starting"

    run(case())
    assert len(problems) == 1
    assert text in problems[0].what


def test_an_event_from_before_the_start_waits(run, problems):
    """No Event is lost at start, and the end does not block."""

    async def case() -> None:
        asked = Asked()
        poster = EventPoster(asked, "i", problems.append)
        poster.post(EVENT)
        async with poster:
            pass
        assert (await asked.next()).method == "POST"

    run(case())


def test_a_shared_event_that_exists_is_no_failure(run, problems, monkeypatch):
    """Another node was first. It is not asked for again."""
    monkeypatch.setattr("nfproxy.apiserver.eventposter.SPREAD_S", 0)

    async def case() -> None:
        asked = Asked(409)
        async with EventPoster(asked, "kube-proxy-n1", problems.append) as poster:
            poster.post(msgspec.structs.replace(EVENT, shared_key="why"))
            first = await asked.next()
            poster.post(OTHER)
            second = await asked.next()
        assert (first.method, second.method) == ("POST", "POST")
        assert second.body["reason"] == "Starting"
        assert asked.requests.empty()

    run(case())
    assert problems == []
