"""Requests of a few bytes that cost more than their reading: other clients and pages go on."""

import asyncio
import time

import pytest
from aiohttp import web
from support.client.http11 import ask, connections
from support.processes.pageservers import serving

from nfproxy.servers.admission import Connections, Peer
from nfproxy.servers.pages import answer
from nfproxy.servers.requestreader import RequestReader

HEAD = b"GET / HTTP/1.1\r\nHost: node\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n"
A = Peer(bytes((10, 0, 0, 1)), is_local=False)


async def hello(request: web.BaseRequest) -> web.Response:
    return answer(b"hello", "text/plain")


def test_one_connection_is_read_a_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others come in between: a megabyte of chunks of one byte takes most of a second to read."""
    read: list[int] = []
    feed = RequestReader.feed

    def noting(reader: RequestReader, data: bytes) -> bytes:
        read.append(len(data))
        return feed(reader, data)

    monkeypatch.setattr(RequestReader, "feed", noting)

    async def use() -> None:
        async with serving(hello) as place, connections(place, 1) as [(reader, writer)]:
            writer.write(CHUNKED + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n")
            assert b"200 OK" in await asyncio.wait_for(reader.readline(), 20)
            assert (await ask(place, "/")).body == b"hello"

    asyncio.run(use())
    assert max(read) <= 4096


def test_who_costs_much_is_read_less_often() -> None:
    """All connections together take a quarter of the time."""

    class Guest:
        def abort(self) -> None:
            pass

    open_ones = Connections(100)
    guests = [Guest() for _ in range(10)]
    for guest in guests:
        open_ones.add(guest, A)
    took_s = 0.003
    assert len(guests) * took_s / (took_s + open_ones.rest_s(took_s)) == pytest.approx(0.25, 0.1)
    assert open_ones.rest_s(0.00001) == 0.0
    assert open_ones.rest_s(10.0) == 0.5


def test_a_connection_that_rests_is_read_on() -> None:
    """Also one that ends meanwhile, or whose answers its client does not take, is no trouble."""

    async def use() -> None:
        async with serving(hello) as place, connections(place, 20) as held:
            for _, writer in held:
                writer.write(CHUNKED + b"1\r\na\r\n" * 2_000 + b"0\r\n\r\n" + HEAD + b"\r\n")
            held[0][1].transport.abort()
            for reader, _ in held[1:]:
                for _ in range(2):
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\nhello"), 20)
                    assert b" 200 OK" in head

    asyncio.run(use())


def seconds(head: bytes) -> float:
    """Return the processor time of reading a head."""
    reader, began_s = RequestReader(), time.process_time()
    assert reader.feed(head).startswith(b"GET / ")
    return time.process_time() - began_s


def test_a_header_of_many_lines_costs_what_many_headers_cost() -> None:
    """It was joined at each line: 60 KB took longer than a second."""
    lines = 15_000
    folded = min(seconds(HEAD + b"A: b\r\n" + b" c\n" * lines + b"\r\n") for _ in range(3))
    headers = min(seconds(HEAD + b"A:\n" * lines + b"\r\n") for _ in range(3))
    assert folded < 10 * headers
