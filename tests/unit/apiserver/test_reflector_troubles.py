"""What keeps a resource from being followed: reported once, and tried again after a wait."""

from __future__ import annotations

import asyncio

import pytest
from support.client.reflecting import (
    CIDRS,
    PATIENT,
    PROMPT,
    SERVICES,
    SLICES,
    RecordedFeed,
    complete,
    following,
    record_waits,
)
from support.client.scriptedserver import FOREVER_S, black_hole, scripted

from nfproxy.apiserver import connection as connection_module
from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.reflector import Reflector
from nfproxy.kube.protocol import WatchTimeouts


def test_watches_that_end_at_once_are_slowed_down_and_reported(run, monkeypatch):
    """Each wait is longer than the one before, and the log has the reason."""

    async def case() -> None:
        waits = record_waits(monkeypatch)
        async with following(PATIENT) as c:
            await (await c.watched()).end()
            for _ in range(2):
                await (await c.server.asked()).end()
            assert "ends each watch at once" in await c.feed.next_trouble()
            await c.server.asked()
            assert waits == [(1, None), (2, None), (3, None)]

    run(case())


def test_a_stream_that_lasts_ends_a_trouble(run):
    """The resource is followed again, and the count of failures starts over."""

    async def case() -> None:
        async with following(PROMPT) as c:
            (await c.server.asked()).refuse(503, "", "etcd is away")
            assert "503 etcd is away" in await c.feed.next_trouble()
            await c.watched()
            await asyncio.wait_for(c.feed.is_followed.wait(), FOREVER_S)

    run(case())


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_obeyed(run, monkeypatch, code):
    """It has priority over the back-off."""

    async def case() -> None:
        waits = record_waits(monkeypatch)
        async with following(PATIENT) as c:
            (await c.server.asked()).refuse(code, headers={"Retry-After": "7"})
            await c.watched()
            assert waits == [(1, 7.0)]

    run(case())


def test_a_forbidden_resource_names_the_rule_that_is_missing(run):
    """The text is enough to write the rule, and the reflector asks again."""

    async def case() -> None:
        async with following(PATIENT, SLICES) as c:
            (await c.server.asked()).refuse(403, "Forbidden", "cannot list")
            text = await c.feed.next_trouble()
            for part in ('["discovery.k8s.io"]', '["endpointslices"]', '["list", "watch"]'):
                assert part in text
            assert "system:node-proxier" in text
            await c.feed.next_unavailable()
            await c.watched()

    run(case())


@pytest.mark.parametrize("code", [403, 404])
def test_service_cidrs_may_be_missing(run, monkeypatch, code):
    """
    Old clusters lack or forbid them: that is no trouble, and news once.

    The reflector waits for some answers before: an API server that starts forbids everything.
    """

    waits = record_waits(monkeypatch)
    news = []

    async def case() -> None:
        async with following(WatchTimeouts(healthy_s=1000, unavailable_s=0.001), CIDRS) as c:
            for _ in range(12):
                (await c.server.asked()).refuse(code, "NotFound", "not here")
                news.append(await c.feed.next_unavailable())
            await c.watched()
            assert c.feed.troubles.empty()

    run(case())
    assert waits == [(count, None) for count in range(1, 9)]
    assert news.count(True) == 1


def test_a_fault_of_nfproxy_leads_to_a_new_list(run, caplog):
    """No error ends the task."""

    async def case() -> None:
        async with following(PROMPT) as c:
            stream = await c.watched()
            await stream.send({"type": "ADDED", "object": {"metadata": {}}})  # the feed fails
            again = await c.server.asked()
            assert again.query["sendInitialEvents"] == "true"

    run(case())
    assert "following services failed" in caplog.text


def test_a_server_that_comes_later_is_found(run):
    """Refused connections are reported when they repeat, with what to check."""

    async def case() -> None:
        async with scripted() as server:
            port = server.port
        feed = RecordedFeed()
        settings = ClientSettings(master=f"http://127.0.0.1:{port}")
        async with Connection(settings, lambda problem: None) as connection:
            reflector = Reflector(connection, SERVICES, feed, PATIENT)
            task = asyncio.create_task(reflector.run())
            text = await feed.next_trouble()
            assert f"127.0.0.1:{port} refuses connections" in text
            async with scripted(port=port) as server:
                await (await server.asked()).send(complete("1"))
                assert await feed.next(2) == ["begin", "end"]
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    run(case())


def test_after_a_silent_outage_the_watch_resumes(run, monkeypatch):
    """Dropped packets say nothing about versions, so not every node lists everything."""
    monkeypatch.setattr(connection_module, "_CONNECT_ALONE_S", 0.1)

    async def case() -> None:
        async with following(PROMPT) as c:
            stream = await c.watched()
            await c.server.refuse()
            with black_hole(c.server.port):
                stream.abort()
                assert "does not answer" in await c.feed.next_trouble()
            await c.server.listen()
            assert (await c.server.asked()).query["resourceVersion"] == "10"

    run(case())
