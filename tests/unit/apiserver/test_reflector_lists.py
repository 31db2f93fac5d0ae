"""A resource's list, streaming or in pages, before there is a watch."""

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

from nfproxy.kube.listwatch import WatchTimeouts


def test_a_streaming_list_goes_over_into_a_watch(run):
    """
    One request tells what is there and then what changes.
    """

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

            await stream.send(event("ADDED", "a", "3"), event("ADDED", "b", "7"))
            assert await c.told.next(3) == ["begin", "put a", "put b"]
            await stream.send(complete("10"), event("DELETED", "a", "11"))
            assert await c.told.next(2) == ["end", "remove a"]
            await stream.end()

            resumed = await c.server.asked()
            assert resumed.query["resourceVersion"] == "11"
            assert "sendInitialEvents" not in resumed.query
            assert c.ends.reasons == ["closed"]

    run(case())


@pytest.mark.parametrize("code", [400, 422, 500, 504])
def test_a_server_that_refuses_streaming_lists_is_asked_for_pages(run, code):
    """
    The feature gate WatchList is off, the server is older than it, or its etcd is: nobody is
    bothered.
    """

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
            assert await c.told.next(4) == ["begin", "put a", "put b", "end"]

            watch = await c.server.asked()
            assert (watch.query["watch"], watch.query["resourceVersion"]) == ("1", "10")
            assert c.told.troubles.empty()

    run(case())


@pytest.mark.parametrize("code", [401, 403, 429, 503])
def test_answers_that_say_nothing_of_streaming_lists_do_not_end_them(run, monkeypatch, code):
    """
    A server that is overloaded, or does not know us, is asked the same again.
    """
    record_waits(monkeypatch)

    async def case() -> None:
        async with following(PATIENT) as c:
            for _ in range(2):
                (await c.server.asked()).refuse(code)
            assert "sendInitialEvents" in (await c.server.asked()).query

    run(case())


@pytest.mark.parametrize("sent", [[], [event("ADDED", "a", "3"), bookmark("9")]])
def test_a_server_that_ignores_streaming_lists_is_asked_for_pages(run, sent):
    """
    An old server sends objects, and ordinary bookmarks, but never says that they are all.
    """

    async def case() -> None:
        async with following(WatchTimeouts(healthy_s=1000, initial_silence_s=0.05)) as c:
            stream = await c.server.asked()
            await stream.send(b"\n", *sent)
            listed = await c.server.asked()
            assert listed.query["limit"] == "500"
            listed.reply(page("10", "a"))
            begun = ["begin", "put a"] if sent else ["begin"]
            assert [*begun, "begin", "put a", "end"] == await c.told.next(len(begun) + 3)

    run(case())


def test_an_expired_list_begins_anew_and_at_last_in_one_piece(run):
    """
    A list in pages that takes too long is never completed with gaps.
    """

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
            told = await c.told.next(7)
            assert told == ["begin", "put a", "begin", "put a", "begin", "put b", "end"]

    run(case())


def test_pages_of_different_versions_are_no_list(run):
    """
    Something may have gone between them.
    """

    async def case() -> None:
        async with following(PATIENT) as c:
            (await c.server.asked()).refuse(422)
            (await c.server.asked()).reply(page("10", "a", rest="token"))
            (await c.server.asked()).reply(page("11", "b"))
            again = await c.server.asked()
            assert "continue" not in again.query
            assert await c.told.next(2) == ["begin", "put a"]
            assert c.told.lines.empty()

    run(case())


def test_initial_events_that_cannot_be_read_lead_to_pages(run):
    """
    A list in pages may get through.
    """

    async def case() -> None:
        async with following(PATIENT) as c:
            await (await c.server.asked()).send(b"garbage\n")
            listed = await c.server.asked()
            assert listed.query["limit"] == "500"

    run(case())


def test_an_initial_list_that_breaks_off_is_not_complete(run):
    """
    Nothing that it has not told is gone.
    """

    async def case() -> None:
        async with following(PATIENT) as c:
            stream = await c.server.asked()
            await stream.send(event("ADDED", "a", "3"))
            assert await c.told.next(2) == ["begin", "put a"]
            stream.abort()
            (await c.server.asked()).reply(page("10", "a"))
            assert await c.told.next(3) == ["begin", "put a", "end"]

    run(case())
