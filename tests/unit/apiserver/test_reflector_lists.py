"""The list of a resource, streaming or in pages, before its watch."""

from __future__ import annotations

import pytest
from support.client.reflecting import (
    PATIENT,
    bookmark,
    complete,
    event,
    following,
    page,
    record_waits,
)

from nfproxy.kube.protocol import WatchTimeouts


def test_a_streaming_list_continues_as_a_watch(run):
    """One request returns the objects and then their changes."""

    async def case() -> None:
        async with following() as c:
            stream = await c.server.asked()
            assert stream.path == "/api/v1/services"
            assert {k: v for k, v in stream.query.items() if k != "timeoutSeconds"} == {
                "labelSelector": "!service.kubernetes.io/service-proxy-name",
                "fieldSelector": "spec.clusterIP!=None",
                "watch": "1",
                "allowWatchBookmarks": "true",
                "sendInitialEvents": "true",
                "resourceVersionMatch": "NotOlderThan",
            }
            assert 300 <= int(stream.query["timeoutSeconds"]) <= 600
            assert stream.headers["User-Agent"].startswith("nfproxy/")
            accepted = "application/json;drop=metadata.managedFields, application/json"
            assert stream.headers["Accept"] == accepted

            await stream.send(event("ADDED", "a", "3"), event("ADDED", "b", "7"))
            assert await c.feed.next(3) == ["begin", "put a", "put b"]
            await stream.send(complete("10"), event("DELETED", "a", "11"))
            assert await c.feed.next(2) == ["end", "remove a"]
            await stream.end()

            resumed = await c.server.asked()
            assert resumed.query["resourceVersion"] == "11"
            assert "sendInitialEvents" not in resumed.query
            assert c.feed.ends == ["closed"]

    run(case())


@pytest.mark.parametrize("code", [400, 422, 500, 504])
def test_a_server_that_refuses_streaming_lists_is_asked_for_pages(run, code):
    """The feature gate WatchList is off, or the server or its etcd is older. That is no trouble."""

    async def case() -> None:
        async with following(PATIENT) as c:
            (await c.server.asked()).refuse(code, "Invalid", "sendInitialEvents is forbidden")
            first = await c.server.asked()
            assert first.query["limit"] == "500"
            assert "resourceVersion" not in first.query
            first.reply(page("10", "a", rest="token"))
            second = await c.server.asked()
            assert second.query["continue"] == "token"
            second.reply(page("10", "b"))
            assert await c.feed.next(4) == ["begin", "put a", "put b", "end"]

            watch = await c.server.asked()
            assert (watch.query["watch"], watch.query["resourceVersion"]) == ("1", "10")
            assert c.feed.troubles.empty()

    run(case())


@pytest.mark.parametrize("code", [401, 403, 429, 503])
def test_answers_that_are_not_about_streaming_lists_do_not_end_them(run, monkeypatch, code):
    """A server that is overloaded, or refuses the credentials, gets the same request again."""
    record_waits(monkeypatch)

    async def case() -> None:
        async with following(PATIENT) as c:
            for _ in range(2):
                (await c.server.asked()).refuse(code)
            assert "sendInitialEvents" in (await c.server.asked()).query

    run(case())


@pytest.mark.parametrize("sent", [[], [event("ADDED", "a", "3"), bookmark("9")]])
def test_a_server_that_ignores_streaming_lists_is_asked_for_pages(run, sent):
    """An old server sends objects and ordinary bookmarks, but never the end of the list."""

    async def case() -> None:
        async with following(WatchTimeouts(healthy_s=1000, initial_silence_s=0.05)) as c:
            stream = await c.server.asked()
            await stream.send(b"\n", *sent)
            listed = await c.server.asked()
            assert listed.query["limit"] == "500"
            listed.reply(page("10", "a"))
            begun = ["begin", "put a"] if sent else ["begin"]
            assert [*begun, "begin", "put a", "end"] == await c.feed.next(len(begun) + 3)

    run(case())


def test_an_expired_list_starts_over_and_at_last_in_one_page(run):
    """A list in pages that takes too long never ends up with gaps."""

    async def case() -> None:
        async with following(PATIENT) as c:
            (await c.server.asked()).refuse(422)
            for _ in range(2):
                (await c.server.asked()).reply(page("10", "a", rest="token"))
                late = await c.server.asked()
                assert late.query["continue"] == "token"
                late.refuse(410, "Expired")
            whole = await c.server.asked()
            assert not {"limit", "continue"} & set(whole.query)
            whole.reply(page("30", "b"))
            lines = await c.feed.next(7)
            assert lines == ["begin", "put a", "begin", "put a", "begin", "put b", "end"]

    run(case())


def test_pages_of_different_versions_are_no_list(run):
    """An object may have gone in between."""

    async def case() -> None:
        async with following(PATIENT) as c:
            (await c.server.asked()).refuse(422)
            (await c.server.asked()).reply(page("10", "a", rest="token"))
            (await c.server.asked()).reply(page("11", "b"))
            again = await c.server.asked()
            assert "continue" not in again.query
            assert await c.feed.next(2) == ["begin", "put a"]
            assert c.feed.lines.empty()

    run(case())


def test_initial_events_that_cannot_be_read_lead_to_pages(run):
    """A list in pages may work."""

    async def case() -> None:
        async with following(PATIENT) as c:
            await (await c.server.asked()).send(b"garbage\n")
            listed = await c.server.asked()
            assert listed.query["limit"] == "500"

    run(case())


def test_an_initial_list_that_breaks_off_is_not_complete(run):
    """An object that it did not contain is not gone."""

    async def case() -> None:
        async with following(PATIENT) as c:
            stream = await c.server.asked()
            await stream.send(event("ADDED", "a", "3"))
            assert await c.feed.next(2) == ["begin", "put a"]
            stream.abort()
            (await c.server.asked()).reply(page("10", "a"))
            assert await c.feed.next(3) == ["begin", "put a", "end"]

    run(case())
