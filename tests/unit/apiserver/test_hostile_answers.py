"""Answers that never end, are too large, or lead elsewhere: no object goes, and a person learns."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from typing import Any

import pytest
from support.client.reflecting import complete, event, following, page, record_waits
from support.client.scriptedserver import Exchange, scripted

from nfproxy.apiserver import bodies, transport
from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.kube import listbounds
from nfproxy.kube.apistatus import RequestError
from nfproxy.kube.protocol import WatchTimeouts

GZIP = {"Content-Encoding": "gzip"}


async def in_pages(server: Any) -> Exchange:
    """Refuse the streaming list; return the request for the first page."""
    (await server.asked()).refuse(422, "Invalid", "sendInitialEvents is forbidden")
    return await server.asked()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308, 300, 304])
@pytest.mark.parametrize("kind", ["list", "stream", "watch"])
def test_no_redirect_is_followed(run, monkeypatch, code, kind):
    """Credentials go to the named server alone, and another host's empty list removes nothing."""

    async def case() -> None:
        record_waits(monkeypatch)
        async with scripted() as other, following() as c:
            location = {"Location": f"{other.url}/elsewhere?token=secret"}
            exchange = await in_pages(c.server) if kind == "list" else await c.server.asked()
            if kind == "watch":
                await exchange.send(event("ADDED", "a", "3"), complete("10"))
                assert await c.feed.next(3) == ["begin", "put a", "end"]
                await exchange.end()
                exchange = await c.server.asked()
            exchange.reply(b"", code, location)

            trouble = await c.feed.next_trouble()
            assert f"{code}" in trouble
            assert "redirect" in trouble
            assert "secret" not in trouble
            await c.server.asked()
            assert c.feed.lines.empty()
            assert other._asked.empty()

    run(case())


@pytest.mark.parametrize("method", ["POST", "PATCH", "GET"])
def test_no_request_of_any_kind_is_redirected(run, method):
    """Posting Events and single reads neither."""

    async def case() -> None:
        async with (
            scripted() as other,
            scripted() as server,
            Connection(ClientSettings(master=server.url), lambda problem: None) as connection,
        ):
            body = None if method == "GET" else {"kind": "Event"}
            asking = asyncio.create_task(
                connection.read(ApiRequest("/apis", method=method, body=body))
            )
            (await server.asked()).reply({}, 307, {"Location": other.url})
            with pytest.raises(RequestError, match=r"307.*redirect"):
                await asking
            assert other._asked.empty()

    run(case())


MANY_TOKENS = [str(number) for number in range(40)]


@pytest.mark.parametrize(
    ("tokens", "names"),
    [(["t", "t"], ""), (["a", "b", "a"], ""), (MANY_TOKENS, ""), (MANY_TOKENS, "a")],
    ids=["one token", "tokens in turn", "empty pages", "pages with one object"],
)
def test_a_list_whose_pages_never_end_is_ended(run, monkeypatch, tokens, names):
    """A token that repeats, or page after page with no object or few. It waits longer each time."""

    async def case() -> None:
        waits = record_waits(monkeypatch)
        async with following() as c:
            exchange = await in_pages(c.server)
            for token in tokens:
                exchange.reply(page("10", *names, rest=token))
                if not c.feed.troubles.empty():
                    break
                exchange = await c.server.asked()
                if "continue" not in exchange.query:
                    break
            assert "list never ends" in await c.feed.next_trouble()
            assert await c.feed.next(1) == ["begin"]
            assert names or c.feed.lines.empty()
            assert waits[0] == (1, None)

    run(case())


@pytest.mark.parametrize("headers", [{}, GZIP])
def test_a_body_has_a_bound(run, monkeypatch, headers):
    """
    A compressed one, too. The next pages are smaller, so a cluster of large objects can be read.
    """
    monkeypatch.setattr(listbounds, "BODY_FLOOR_BYTES", 1 << 20)

    async def case() -> None:
        record_waits(monkeypatch)
        async with following() as c:
            exchange = await in_pages(c.server)
            body = page("10", "a", rest="t") | {"x": "y" * (8 << 20)}
            data = json.dumps(body).encode()
            exchange.reply(gzip.compress(data) if headers else data, headers=headers)
            assert "is longer than 1 MB" in await c.feed.next_trouble()
            again = await c.server.asked()
            if "sendInitialEvents" in again.query:
                again = await in_pages_of(c.server, again)
            assert int(again.query["limit"]) < 500
            assert c.feed.lines.empty()

    run(case())


async def in_pages_of(server: Any, stream: Exchange) -> Exchange:
    """Refuse a streaming list that is under way; return the request for the first page."""
    stream.refuse(422, "Invalid", "sendInitialEvents is forbidden")
    return await server.asked()


def test_a_streaming_list_has_a_bound(run, monkeypatch):
    """In proportion to the list before, with a floor."""
    monkeypatch.setattr(listbounds, "LIST_FLOOR_BYTES", 1 << 20)

    async def case() -> None:
        record_waits(monkeypatch)
        async with following() as c:
            stream = await c.server.asked()
            large = event("ADDED", "a", "3")
            large["object"]["x"] = "y" * 300_000
            with contextlib.suppress(ConnectionError):
                for _ in range(4):
                    await stream.send(large)
            assert "is longer than 1 MB" in await c.feed.next_trouble()

    run(case())


@pytest.mark.parametrize("size", [400, 2 << 20])
def test_a_list_that_drips_is_cut_and_reported(run, monkeypatch, size):
    """Whatever its Content-Length: bytes come, but too few for it ever to end. Reported at once."""
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.3)

    async def case() -> None:
        record_waits(monkeypatch)
        async with following() as c:
            exchange = await in_pages(c.server)

            async def drip() -> None:
                for _ in range(200):
                    await exchange.send(b" ")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            assert "too slowly" in await c.feed.next_trouble()
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)

    run(case())


def test_an_error_that_drips_is_cut(run, monkeypatch):
    """The code of the answer counts; its text is not waited for."""
    monkeypatch.setattr(transport, "_ERROR_BODY_S", 0.2)

    async def case() -> None:
        async with (
            scripted() as server,
            Connection(ClientSettings(master=server.url), lambda problem: None) as connection,
        ):
            asking = asyncio.create_task(connection.read(ApiRequest("/api")))
            exchange = await server.asked()
            exchange._stream.set_status(500)

            async def drip() -> None:
                while True:
                    await exchange.send(b" ")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            with pytest.raises(RequestError, match="500"):
                await asking
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)

    run(case())


@pytest.mark.parametrize("drops", [b" ", b"\n"])
def test_a_watch_that_drips_no_event_is_ended(run, monkeypatch, drops):
    """Bytes without a line are no sign that changes arrive."""

    async def case() -> None:
        record_waits(monkeypatch)
        times = WatchTimeouts(healthy_s=0, lineless_s=0.3)
        async with following(times) as c:
            stream = await c.watched()
            ended = asyncio.create_task(c.server.asked())
            with contextlib.suppress(ConnectionError):
                while not ended.done():
                    await stream.send(drops)
                    await asyncio.sleep(0.02)
            assert (await ended).query["resourceVersion"] == "10"

    run(case())
