"""Requests while one of several API servers cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from support.client.access import kubeconfig
from support.client.scriptedserver import ScriptedServer, black_hole, scripted

from nfproxy.apiserver import connection as module
from nfproxy.apiserver import serverpool as servers_module
from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.failures import IN_CLUSTER
from nfproxy.apiserver.serverpool import Server, ServerPool
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.kube.apistatus import RequestError
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES

PAGE = ApiRequest("/api/v1/services")


class Seen(Metrics):
    """Records which servers were asked, and which is in use."""

    def __init__(self) -> None:
        super().__init__(FAMILIES, "test")
        self.codes: list[tuple[str, str]] = []
        self.in_use: list[str] = []

    def request(self, verb: str, host: str, code: str, seconds: float, sent_bytes: int) -> None:
        self.codes.append((host, code))

    def api_server(self, host: str) -> None:
        if self.in_use[-1:] != [host]:
            self.in_use.append(host)


def in_order(*urls: str) -> ClientSettings:
    """Return settings with which the client uses these servers in this order."""
    servers = [Server(url) for url in urls]
    for number in range(10_000):
        made = ServerPool(servers, str(number))
        tried = []
        for _ in urls:
            tried.append(made.current.url)
            made.failed(made.current, RequestError(""), 0.0)
        if tried == [*urls]:
            return ClientSettings(master=", ".join(sorted(urls)), spread=str(number), qps=-1)
    raise AssertionError("no name gives that order")


@contextlib.asynccontextmanager
async def connected(settings: ClientSettings, seen: Seen) -> AsyncIterator[Connection]:
    async with Connection(settings, lambda problem: None, seen) as connection:
        yield connection


async def answered(
    server: ScriptedServer, connection: Connection, request: ApiRequest = PAGE
) -> None:
    """Make a request that this server answers."""
    reading = asyncio.ensure_future(connection.read(request))
    (await server.asked()).reply({})
    await reading


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that never answers."""
    with black_hole() as url:
        yield url


def host(url: str) -> str:
    return url.partition("://")[2]


def test_a_server_that_refuses_is_left_at_once_and_remembered(run, refusing, caplog):
    """
    The request succeeds at the next server, later ones go there directly, and the log has one line.
    """
    seen = Seen()
    caplog.set_level(logging.INFO)

    async def case() -> None:
        async with scripted() as good, connected(in_order(refusing, good.url), seen) as connection:
            assert connection.host == host(refusing)
            for _ in range(3):
                await answered(good, connection)
            assert seen.codes == [
                (host(refusing), "<error>"),
                *[(host(good.url), "200")] * 3,
            ]
            assert seen.in_use == [host(good.url)] == [connection.host]
            (line,) = caplog.messages
            assert f"{host(good.url)}: in use now, instead of {host(refusing)}: " in line
            assert "refuses connections" in line

    run(case())


def test_a_silent_server_costs_one_short_wait(run, silent, monkeypatch):
    """Requests at the same time wait in parallel; without another server, the wait is longer."""
    monkeypatch.setattr(module, "_CONNECT_S", 0.2)
    monkeypatch.setattr(module, "_CONNECT_ALONE_S", 1000.0)
    seen = Seen()

    async def case() -> None:
        async with (
            scripted() as good,
            connected(in_order(silent, good.url), seen) as connection,
        ):
            requests = [asyncio.ensure_future(connection.read(PAGE)) for _ in range(4)]
            for _ in requests:
                (await good.asked()).reply({})
            await asyncio.gather(*requests)
            await answered(good, connection)
            assert seen.codes.count((host(silent), "<error>")) == 4

        monkeypatch.setattr(module, "_CONNECT_ALONE_S", 0.4)
        began = asyncio.get_running_loop().time()
        async with connected(ClientSettings(master=silent), seen) as connection:
            with pytest.raises(RequestError, match="does not answer"):
                await connection.read(PAGE)
        assert asyncio.get_running_loop().time() - began >= 0.4

    run(case())


async def watch(connection: Connection) -> None:
    """Read to the end."""
    async with connection.ask(PAGE) as response:
        while await response.content.readany():
            pass


def test_watches_move_with_the_server_in_use(run):
    """A watch on the old server ends when another request cannot reach that server."""
    seen = Seen()

    async def case() -> None:
        async with (
            scripted() as good,
            scripted() as old,
            connected(in_order(old.url, good.url), seen) as connection,
        ):
            watching = asyncio.ensure_future(watch(connection))
            exchange = await old.asked()
            await exchange.send(b"a")
            await old.refuse()

            await answered(good, connection)

            with pytest.raises(RequestError, match=host(old.url)) as caught:
                await watching
            assert not caught.value.is_silent

    run(case())


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 503])
def test_an_answer_is_no_reason_to_ask_another_server(run, code):
    """A refusal counts for all servers; an overloaded server is asked again later."""
    seen = Seen()

    async def case() -> None:
        async with (
            scripted() as first,
            scripted() as second,
            connected(in_order(first.url, second.url), seen) as connection,
        ):
            for _ in range(3):
                reading = asyncio.ensure_future(connection.read(PAGE))
                (await first.asked()).refuse(code)
                if code == 401:  # the client reads the credentials again in between
                    (await first.asked()).refuse(code)
                with pytest.raises(RequestError, match=str(code)):
                    await reading
            assert {asked for asked, _ in seen.codes} == {host(first.url)}

    run(case())


def test_a_write_that_fails_is_no_reason_to_leave_a_server(run, monkeypatch):
    """With a failing webhook every server answers 500 to each Event, while watches work."""
    monkeypatch.setattr(servers_module, "_BROKEN_AFTER_S", 0.0)
    event = ApiRequest("/events", method="POST", body={"a": 1})

    async def case() -> None:
        async with (
            scripted() as first,
            scripted() as second,
            connected(in_order(first.url, second.url), Seen()) as connection,
        ):
            for request, last in ((event, first), (PAGE, second)):
                asking = asyncio.ensure_future(connection.read(request))
                (await first.asked()).refuse(500)
                with pytest.raises(RequestError, match="500"):
                    await asking
                assert connection.host == host(last.url)

    run(case())


def test_a_write_that_may_have_happened_is_not_repeated(run, refusing):
    """If the connection breaks, the Event may be there; without a connection it cannot be."""
    event = ApiRequest("/events", method="POST", body={"a": 1})
    seen = Seen()

    async def case() -> None:
        async with scripted() as first, scripted() as second:
            async with connected(in_order(first.url, second.url), seen) as connection:
                posting = asyncio.ensure_future(connection.read(event))
                (await first.asked()).abort()
                with pytest.raises(RequestError):
                    await posting
                assert [asked for asked, _ in seen.codes] == [host(first.url)]
            async with connected(in_order(refusing, second.url), seen) as connection:
                await answered(second, connection, event)

    run(case())


def test_when_no_server_can_be_reached_each_is_named_and_all_are_tried_later(run, refusing):
    """The first server to answer again is used."""
    seen = Seen()

    async def case() -> None:
        async with scripted() as late:
            await late.refuse()
            async with connected(in_order(refusing, late.url), seen) as connection:
                for _ in range(2):
                    with pytest.raises(RequestError) as caught:
                        await connection.read(PAGE)
                    assert "none of 2 API servers can be reached: " in str(caught.value)
                    for url in (refusing, late.url):
                        assert f"{host(url)} refuses connections" in str(caught.value)
                await late.listen()
                await answered(late, connection)

    run(case())


def test_other_servers_in_the_kubeconfig_have_no_history(run, tmp_path, refusing):
    """Failures of the previous servers say nothing about the new ones."""
    seen = Seen()

    async def case() -> None:
        async with scripted() as good:
            path = kubeconfig(tmp_path / "config", {"server": refusing})
            settings = ClientSettings(kubeconfig=str(path))
            async with connected(settings, seen) as connection:
                with pytest.raises(RequestError, match="refuses"):
                    await connection.read(PAGE)
                kubeconfig(path, {"server": good.url})
                await answered(good, connection)
                assert connection.hosts == (host(good.url),)

    run(case())


def test_a_late_answer_of_a_server_no_longer_named_changes_nothing(run, tmp_path, caplog):
    """Nor does a connection that breaks late: only its own request fails."""
    caplog.set_level(logging.INFO)

    async def case() -> None:
        async with scripted() as old, scripted() as new:
            path = kubeconfig(tmp_path / "config", {"server": old.url})
            settings = ClientSettings(kubeconfig=str(path), qps=-1)
            async with connected(settings, Seen()) as connection:
                late = asyncio.ensure_future(connection.read(PAGE))
                broken = asyncio.ensure_future(connection.read(ApiRequest("/nodes")))
                page, nodes = await old.asked("/services"), await old.asked("/nodes")
                kubeconfig(path, {"server": new.url})
                await answered(new, connection)
                await old.refuse()  # aiohttp would ask once more there
                nodes.abort()
                with pytest.raises(RequestError, match=f"{host(old.url)} refuses"):
                    await broken
                page.reply({})
                await late
                assert connection.host == host(new.url)
                assert not caplog.messages

    run(case())


def test_the_address_of_a_service_without_a_proxy_is_explained(
    run, tmp_path, authority, monkeypatch
):
    """Once it has answered, a proxy serves it, and a later failure has another reason."""
    (tmp_path / "token").write_text("abc")
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    seen = Seen()

    async def case() -> None:
        async with scripted(authority.server()) as server:
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
            settings = ClientSettings(service_account=str(tmp_path))
            async with connected(settings, seen) as connection:
                await server.refuse()
                with pytest.raises(RequestError) as caught:
                    await connection.read(PAGE)
                assert str(caught.value).endswith(f"; {IN_CLUSTER}")
                await server.listen()
                await answered(server, connection)
                await server.refuse()
                with pytest.raises(RequestError) as caught:
                    await connection.read(PAGE)
                assert "KUBERNETES_SERVICE_HOST" not in str(caught.value)

    run(case())
