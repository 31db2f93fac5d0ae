"""The watch of a resource: resumed at its version, or listed again."""

from __future__ import annotations

import pytest
from support.client.reflecting import (
    PATIENT,
    bookmark,
    complete,
    error,
    event,
    following,
    record_waits,
)

from nfproxy.kube.protocol import WatchTimeouts


def test_a_bookmark_moves_the_version_to_resume_from(run):
    """A quiet resource is resumed from the last bookmark, also after a broken connection."""

    async def case() -> None:
        async with following() as c:
            stream = await c.watched()
            await stream.send(event("MODIFIED", "a", "12"), bookmark("20"))
            assert await c.feed.next(1) == ["put a"]
            stream.abort()

            resumed = await c.server.asked()
            assert resumed.query["resourceVersion"] == "20"

    run(case())


@pytest.mark.parametrize("by_event", [True, False])
def test_a_version_that_is_gone_asks_for_a_new_list(run, by_event):
    """410 comes as the answer or as an event; either way the reflector lists again."""

    async def case() -> None:
        async with following() as c:
            stream = await c.watched()
            if by_event:
                await stream.send(error(410, "Expired"))
            else:
                await stream.end()
                (await c.server.asked()).refuse(410, "Expired")
            again = await c.server.asked()
            assert again.query["sendInitialEvents"] == "true"
            await again.send(complete("50"))
            assert await c.feed.next(2) == ["begin", "end"]
            assert c.feed.troubles.empty()

    run(case())


def test_an_event_that_cannot_be_read_costs_the_stream(run):
    """The watch resumes before the event; if that does not help, the reflector lists again."""

    async def case() -> None:
        async with following() as c:
            stream = await c.watched()
            await stream.send(event("ADDED", "a", "11"), b'{"type": "ADDED", "obj\n')
            assert await c.feed.next(1) == ["put a"]

            resumed = await c.server.asked()
            assert resumed.query["resourceVersion"] == "11"
            await resumed.send(b"garbage\n")

            again = await c.server.asked()
            assert again.query["sendInitialEvents"] == "true"
            assert c.feed.ends == ["malformed", "malformed"]

    run(case())


def test_a_silent_stream_is_resumed_without_a_report(run):
    """A watch without even a bookmark has no server at its other end."""

    async def case() -> None:
        async with following(WatchTimeouts(healthy_s=0, silence_s=0.1)) as c:
            await c.watched()
            resumed = await c.server.asked()
            assert resumed.query["resourceVersion"] == "10"
            assert c.feed.ends == ["silent"]
            assert c.feed.troubles.empty()

    run(case())


def test_a_resumed_stream_that_stays_silent_leads_to_a_list(run):
    """An etcd was restored from a backup: the server waits in silence for a later version."""

    async def case() -> None:
        async with following(WatchTimeouts(healthy_s=0, silence_s=0.1)) as c:
            await c.watched()
            resumed = await c.server.asked()
            await resumed.send()
            assert "sendInitialEvents" in (await c.server.asked()).query

    run(case())


def test_a_version_that_is_gone_after_an_outage_asks_for_a_list_at_once(run, monkeypatch):
    """The API server is back: the back-off of its absence need not delay the list."""

    async def case() -> None:
        waits = record_waits(monkeypatch)
        async with following(PATIENT) as c:
            await (await c.watched()).end()
            for _ in range(5):
                (await c.server.asked()).refuse(503)
            (await c.server.asked()).refuse(410, "Expired")
            await c.server.asked()
            assert waits[-2:] == [(6, None), (1, None)]

    run(case())
