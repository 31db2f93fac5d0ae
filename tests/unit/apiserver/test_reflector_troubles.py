"""What keeps a resource from being followed: told once, and tried again at the right pace."""

from __future__ import annotations

import asyncio

import pytest
from support.client.reflecting import (
    CIDRS,
    PATIENT,
    PROMPT,
    SERVICES,
    SLICES,
    Told,
    complete,
    following,
    record_waits,
)
from support.client.scriptedserver import FOREVER_S, black_hole, scripted

from nfproxy.apiserver import connection as connection_module
from nfproxy.apiserver.connection import ClientSettings, Connection
from nfproxy.apiserver.reflector import Reflector
from nfproxy.kube.listwatch import WatchTimeouts
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES


def test_watches_that_end_at_once_are_slowed_down_and_told_of(run, monkeypatch):
    """
    Each waits longer than the one before, and a person hears of it.
    """

    async def case() -> None:
        waits = record_waits(monkeypatch)
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

    async def case() -> None:
        waits = record_waits(monkeypatch)
        async with following(PATIENT) as c:
            (await c.server.asked()).refuse(code, headers={"Retry-After": "7"})
            await c.watched()
            assert waits == [(1, 7.0)]

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

    waits = record_waits(monkeypatch)

    async def case() -> None:
        async with following(WatchTimeouts(healthy_s=1000, unavailable_s=0.001), CIDRS) as c:
            for _ in range(12):
                (await c.server.asked()).refuse(code, "NotFound", "not here")
                await c.told.unavailable_told()
            await c.watched()
            assert c.told.troubles.empty()

    with caplog.at_level("INFO"):
        run(case())
    assert waits == [(count, None) for count in range(1, 9)]
    assert caplog.text.count(f"ServiceCIDRs unavailable ({code}): ") == 1


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
            reflector = Reflector(connection, SERVICES, told, Metrics(FAMILIES, "test"), PATIENT)
            task = asyncio.create_task(reflector.run())
            text = await told.trouble_told()
            assert f"127.0.0.1:{port} refuses connections" in text
            async with scripted(port=port) as server:
                await (await server.asked()).send(complete("1"))
                assert await told.next(2) == ["begin", "end"]
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    run(case())


def test_after_an_outage_without_a_word_the_watch_goes_on_where_it_was(run, monkeypatch):
    """
    Packets that are dropped say nothing of versions: no list of everything, by every node at once.
    """
    monkeypatch.setattr(connection_module, "_CONNECT_ALONE_S", 0.1)

    async def case() -> None:
        async with following(PROMPT) as c:
            stream = await c.watched()
            await c.server.refuse()
            with black_hole(c.server.port):
                stream.abort()
                assert "does not answer" in await c.told.trouble_told()
            await c.server.listen()
            assert (await c.server.asked()).query["resourceVersion"] == "10"

    run(case())
