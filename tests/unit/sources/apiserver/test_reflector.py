"""One resource, followed on a server that does what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.scriptedserver import FOREVER_S, Exchange, ScriptedServer, scripted

from nfproxy.sources.apiserver import reflector as module
from nfproxy.sources.apiserver.connection import ClientSettings, Connection
from nfproxy.sources.apiserver.observer import Unobserved
from nfproxy.sources.apiserver.reflector import Pace, Reflector
from nfproxy.sources.apiserver.resources import resources

SERVICES, SLICES, CIDRS, NODE = resources("n1")
PATIENT = Pace(healthy_s=1000)  # no stream of a test lasts long enough to count as working
PROMPT = Pace(healthy_s=0)  # every stream does


class Told:
    """A sink and observer that writes down what it is told."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.troubles: asyncio.Queue[str] = asyncio.Queue()
        self.unavailables: asyncio.Queue[None] = asyncio.Queue()
        self.wells = asyncio.Event()

    def begin_list(self) -> None:
        self.lines.put_nowait("begin")

    def put(self, data: Any) -> None:
        self.lines.put_nowait(f"put {json.loads(bytes(data))['metadata']['name']}")

    def remove(self, data: Any) -> None:
        self.lines.put_nowait(f"remove {json.loads(bytes(data))['metadata']['name']}")

    def end_list(self) -> None:
        self.lines.put_nowait("end")

    def trouble(self, text: str) -> None:
        self.troubles.put_nowait(text)

    def well(self) -> None:
        self.wells.set()

    def unavailable(self) -> None:
        self.unavailables.put_nowait(None)

    async def next(self, count: int) -> list[str]:
        async with asyncio.timeout(FOREVER_S):
            return [await self.lines.get() for _ in range(count)]

    async def trouble_told(self) -> str:
        return await asyncio.wait_for(self.troubles.get(), FOREVER_S)

    async def unavailable_told(self) -> None:
        await asyncio.wait_for(self.unavailables.get(), FOREVER_S)


class Ends(Unobserved):
    """Notes how watches end."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def watch_ended(self, resource: str, reason: str) -> None:
        self.reasons.append(reason)


class Case:
    """A reflector that is running, its server, and what it told."""

    def __init__(self, server: ScriptedServer, told: Told, ends: Ends) -> None:
        self.server = server
        self.told = told
        self.ends = ends

    async def watched(self) -> Exchange:
        """Let the initial list, of nothing, come to its end at version 10; give the stream."""
        stream = await self.server.asked()
        await stream.send(complete("10"))
        assert await self.told.next(2) == ["begin", "end"]
        return stream


@contextlib.asynccontextmanager
async def following(
    pace: Pace = PROMPT, resource: Any = SERVICES, qps: float = -1
) -> AsyncIterator[Case]:
    told, ends = Told(), Ends()
    async with (
        scripted() as server,
        Connection(ClientSettings(master=server.url, qps=qps), lambda problem: None) as connection,
    ):
        task = asyncio.create_task(Reflector(connection, resource, told, ends, pace).run())
        try:
            yield Case(server, told, ends)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def event(type_: str, name: str, version: str) -> dict[str, Any]:
    return {"type": type_, "object": {"metadata": {"name": name, "resourceVersion": version}}}


def bookmark(version: str) -> dict[str, Any]:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


def complete(version: str) -> dict[str, Any]:
    metadata = {
        "resourceVersion": version,
        "annotations": {"k8s.io/initial-events-end": "true"},
    }
    return {"type": "BOOKMARK", "object": {"metadata": metadata}}


def error(code: int, reason: str) -> dict[str, Any]:
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": reason}}


def page(version: str, *names: str, rest: str = "") -> dict[str, Any]:
    items = [{"metadata": {"name": name}} for name in names]
    return {"metadata": {"resourceVersion": version, "continue": rest}, "items": items}


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


def test_a_bookmark_moves_the_place_to_resume_from(run):
    """
    A quiet resource is resumed from the last bookmark; broken connections make no difference.
    """

    async def case() -> None:
        async with following() as c:
            stream = await c.watched()
            await stream.send(event("MODIFIED", "a", "12"), bookmark("20"))
            assert await c.told.next(1) == ["put a"]
            stream.abort()

            resumed = await c.server.asked()
            assert resumed.query["resourceVersion"] == "20"

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
    monkeypatch.setattr(module, "delay_s", lambda *args: 0)

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
        async with following(Pace(healthy_s=1000, initial_silence_s=0.05)) as c:
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


@pytest.mark.parametrize("by_event", [True, False])
def test_a_version_that_is_gone_asks_for_a_new_list(run, by_event):
    """
    410 comes as the answer or as an event; either way everything is told again.
    """

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
            assert await c.told.next(2) == ["begin", "end"]
            assert c.told.troubles.empty()

    run(case())


def test_an_event_that_cannot_be_read_costs_the_stream(run):
    """
    It is resumed before the event; where that does not help, the list begins anew.
    """

    async def case() -> None:
        async with following() as c:
            stream = await c.watched()
            await stream.send(event("ADDED", "a", "11"), b'{"type": "ADDED", "obj\n')
            assert await c.told.next(1) == ["put a"]

            resumed = await c.server.asked()
            assert resumed.query["resourceVersion"] == "11"
            await resumed.send(b"garbage\n")

            again = await c.server.asked()
            assert again.query["sendInitialEvents"] == "true"
            assert c.ends.reasons == ["malformed", "malformed"]

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


def test_a_silent_stream_is_resumed_without_a_word(run):
    """
    A watch without even a bookmark has nobody at its other end.
    """

    async def case() -> None:
        async with following(Pace(healthy_s=0, silence_s=0.1)) as c:
            await c.watched()
            resumed = await c.server.asked()
            assert resumed.query["resourceVersion"] == "10"
            assert c.ends.reasons == ["silent"]
            assert c.told.troubles.empty()

    run(case())


def test_a_resumed_stream_that_stays_silent_gives_way_to_a_list(run):
    """
    An etcd restored from a backup: its versions are behind ours, and are waited for in silence.
    """

    async def case() -> None:
        async with following(Pace(healthy_s=0, silence_s=0.1)) as c:
            await c.watched()
            resumed = await c.server.asked()
            await resumed.send()
            assert "sendInitialEvents" in (await c.server.asked()).query

    run(case())


def test_a_version_that_is_gone_after_an_outage_asks_for_a_list_at_once(run, monkeypatch):
    """
    The API server is back: what its absence has added up to need not be waited for.
    """
    waits: list[int] = []

    def count(failures: int, chance: float, wish_s: float | None = None) -> float:
        waits.append(failures)
        return 0

    async def case() -> None:
        monkeypatch.setattr(module, "delay_s", count)
        async with following(PATIENT) as c:
            await (await c.watched()).end()
            for _ in range(5):
                (await c.server.asked()).refuse(503)
            (await c.server.asked()).refuse(410, "Expired")
            await c.server.asked()
            assert waits[-2:] == [6, 1]

    run(case())


def test_watches_that_end_at_once_are_slowed_down_and_told_of(run, monkeypatch):
    """
    Each waits longer than the one before, and a person hears of it.
    """
    waits: list[tuple[int, float | None]] = []

    def count(failures: int, chance: float, wish_s: float | None = None) -> float:
        waits.append((failures, wish_s))
        return 0

    async def case() -> None:
        monkeypatch.setattr(module, "delay_s", count)
        async with following(PATIENT) as c:
            await (await c.watched()).end()
            for _ in range(2):
                await (await c.server.asked()).end()
            assert "ends each watch at once" in await c.told.trouble_told()
            await c.server.asked()
            assert waits == [(1, None), (2, None), (3, None)]

    run(case())


def test_a_stream_that_lasts_ends_what_was_wrong(run):
    """
    It is well again, and failures are counted from the beginning.
    """

    async def case() -> None:
        async with following(PROMPT) as c:
            (await c.server.asked()).refuse(503, "", "etcd is away")
            assert "503 etcd is away" in await c.told.trouble_told()
            await c.watched()
            await asyncio.wait_for(c.told.wells.wait(), FOREVER_S)

    run(case())


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_asks_to_come_back_later_is_obeyed(run, monkeypatch, code):
    """
    Retry-After goes before our own pace.
    """
    wishes: list[float | None] = []

    def count(failures: int, chance: float, wish_s: float | None = None) -> float:
        wishes.append(wish_s)
        return 0

    async def case() -> None:
        monkeypatch.setattr(module, "delay_s", count)
        async with following(PATIENT) as c:
            (await c.server.asked()).refuse(code, headers={"Retry-After": "7"})
            await c.watched()
            assert wishes == [7.0]

    run(case())


def test_a_forbidden_resource_names_the_rule_that_is_missing(run):
    """
    The text is enough to write the rule, and the question goes on.
    """

    async def case() -> None:
        async with following(PATIENT, SLICES) as c:
            (await c.server.asked()).refuse(403, "Forbidden", "cannot list")
            text = await c.told.trouble_told()
            for part in ('["discovery.k8s.io"]', '["endpointslices"]', '["list", "watch"]'):
                assert part in text
            assert "system:node-proxier" in text
            await c.told.unavailable_told()
            await c.watched()

    run(case())


@pytest.mark.parametrize("code", [403, 404])
def test_service_cidrs_may_be_missing(run, monkeypatch, caplog, code):
    """
    Old clusters have none, or do not allow it: that is no trouble, and said once.

    It is believed after some answers only: an API server that starts forbids everything.
    """
    waits: list[int] = []

    def count(failures: int, chance: float, wish_s: float | None = None) -> float:
        waits.append(failures)
        return 0

    async def case() -> None:
        monkeypatch.setattr(module, "delay_s", count)
        async with following(Pace(healthy_s=1000, rare_s=0.001), CIDRS) as c:
            for _ in range(12):
                (await c.server.asked()).refuse(code, "NotFound", "not here")
                await c.told.unavailable_told()
            await c.watched()
            assert c.told.troubles.empty()

    with caplog.at_level("INFO"):
        run(case())
    assert waits == [1, 2, 3, 4, 5, 6, 7, 8]
    assert caplog.text.count("going on without servicecidrs") == 1


def test_a_fault_of_ours_begins_anew(run, caplog):
    """
    Nothing that goes wrong ends the task.
    """

    async def case() -> None:
        async with following(PROMPT) as c:
            stream = await c.watched()
            await stream.send({"type": "ADDED", "object": {"metadata": {}}})  # the sink fails
            again = await c.server.asked()
            assert again.query["sendInitialEvents"] == "true"

    run(case())
    assert "following services failed" in caplog.text


def test_a_server_that_comes_later_is_found(run):
    """
    Refused connections are told once they repeat, saying what to check.
    """

    async def case() -> None:
        async with scripted() as server:
            port = server.port
        told = Told()
        settings = ClientSettings(master=f"http://127.0.0.1:{port}")
        async with Connection(settings, lambda problem: None) as connection:
            reflector = Reflector(connection, SERVICES, told, Unobserved(), PATIENT)
            task = asyncio.create_task(reflector.run())
            text = await told.trouble_told()
            assert f"127.0.0.1:{port} refuses connections" in text
            async with scripted(port=port) as server:
                await (await server.asked()).send(complete("1"))
                assert await told.next(2) == ["begin", "end"]
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    run(case())
