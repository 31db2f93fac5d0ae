"""When a page is served, what happens if the port is in use, and what clients can do to it."""

import asyncio
import logging
import socket
from contextlib import closing

import pytest
from aiohttp import web
from support.client.http11 import ask, connections, exchange, parse
from support.processes.pageservers import serving, until

from nfproxy.errors import ListenError
from nfproxy.servers.pages import Page, answer
from nfproxy.servers.serving import PageServer

LOCAL = "127.0.0.1"


async def hello(request: web.BaseRequest) -> web.Response:
    return answer(b"hello", "text/plain")


def port_in_use() -> tuple[socket.socket, int]:
    holder = socket.create_server((LOCAL, 0))
    return holder, int(holder.getsockname()[1])


def test_a_port_in_use_is_tried_again_until_it_is_free(caplog: pytest.LogCaptureFixture):
    """The log says what to do once, not at every try."""
    holder, port = port_in_use()

    async def use() -> None:
        server = PageServer("health", f"{LOCAL}:{port}", hello, retry_s=0.01)
        task = asyncio.create_task(server.run())
        await until(lambda: bool(caplog.records))
        await asyncio.sleep(0.05)
        assert server.listening == ()
        holder.close()
        await until(lambda: bool(server.listening))
        assert (await ask((LOCAL, port), "/")).body == b"hello"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert server.listening == ()

    with caplog.at_level(logging.WARNING):
        asyncio.run(use())
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"health: cannot listen on {LOCAL}:{port}: another process")
    assert "trying again every 0.01 s" in message


def test_a_port_in_use_is_fatal_with_hard_fail():
    """That is ``bindAddressHardFail``; the error says what to do."""
    holder, port = port_in_use()
    with closing(holder), pytest.raises(ListenError, match="another process listens there"):
        asyncio.run(PageServer("health", f"{LOCAL}:{port}", hello, hard_fail=True).run())


def test_an_address_of_no_interface_is_named():
    """With the remedy beside it."""
    server = PageServer("health", "192.0.2.1:10256", hello, hard_fail=True)
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:10256: no interface has this address"):
        asyncio.run(server.run())


def test_an_answer_under_way_is_finished_at_the_end():
    """Idle connections do not delay the end."""

    async def use() -> None:
        entered, release = asyncio.Event(), asyncio.Event()

        async def slow(request: web.BaseRequest) -> web.Response:
            entered.set()
            await release.wait()
            return answer(b"done", "text/plain")

        server = PageServer("test", f"{LOCAL}:0", slow)
        task = asyncio.create_task(server.run())
        await until(lambda: bool(server.listening))
        place = server.listening[0]
        async with connections(place):
            asking = asyncio.create_task(ask(place, "/"))
            await entered.wait()
            task.cancel()
            await until(lambda: server.listening == ())
            release.set()
            assert (await asking).body == b"done"
            await asyncio.gather(task, return_exceptions=True)
            with pytest.raises(ConnectionRefusedError):
                await ask(place, "/")

    asyncio.run(use())


HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "refusal"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (HEAD + b"Long: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (HEAD + b"No colon\r\n\r\n", 400),
        (HEAD + b"".join(b"H%d: x\r\n" % n for n in range(10_000)) + b"\r\n", 431),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: brotli\r\n\r\n", 501),
    ],
)
def test_what_is_refused_gets_an_answer_and_no_line_in_the_log(
    sent: bytes, refusal: int, caplog: pytest.LogCaptureFixture
):
    """A client could fill the log otherwise."""

    async def use() -> tuple[int, bytes]:
        async with serving(hello) as place:
            code = parse(await exchange(place, sent)).code
            return code, (await ask(place, "/")).body

    with caplog.at_level(logging.INFO):
        code, after = asyncio.run(use())
    said = [r.getMessage() for r in caplog.records if "serving test on" not in r.getMessage()]

    assert (code, after) == (refusal, b"hello")
    assert said == []


def test_the_answer_does_not_wait_for_the_body():
    """However long it is."""

    async def use() -> bytes:
        async with serving(hello) as place, connections(place) as [(reader, writer)]:
            head = HEAD.replace(b"GET", b"POST") + b"Content-Length: 1000000000\r\n\r\n"
            writer.write(head + b"x")
            line = await asyncio.wait_for(reader.readline(), 20)
        # aiohttp drops the rest of the body for a second, whether its server is closed or not
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        return line

    assert asyncio.run(use()) == b"HTTP/1.1 200 OK\r\n"


def test_a_connection_can_carry_several_requests():
    """Pipelined requests are answered in order."""

    async def use() -> bytes:
        async with serving(paths) as place:
            requests = b"".join(
                b"GET /%d HTTP/1.1\r\nHost: x\r\n%s\r\n" % (n, b"Connection: close\r\n" * (n == 9))
                for n in range(10)
            )
            return await exchange(place, requests)

    bodies = [part[:2] for part in asyncio.run(use()).split(b"\r\n\r\n")[1:]]
    assert [f"/{n}".encode() for n in range(10)] == bodies


async def paths(request: web.BaseRequest) -> web.Response:
    return answer(request.path.encode(), "text/plain")


def test_the_server_header_has_no_versions():
    """Neither Python's nor aiohttp's."""

    async def use(page: Page) -> str:
        async with serving(page) as place:
            return (await ask(place, "/")).headers["server"]

    assert asyncio.run(use(hello)) == "nfproxy"
