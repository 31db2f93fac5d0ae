"""
What probes of all forms get: the answers of Go's net/http, which kube-proxy gives.

The table has been read off a server of Go 1.27 that got the same bytes.
"""

import asyncio
import contextlib
import re
from collections.abc import Sequence

import pytest
from aiohttp import web
from support.processes.pageservers import serving

from nfproxy.servers.pages import JSON, answer, by_path
from nfproxy.servers.requestreader import RefusedError, RequestReader

HOST = b"Host: node\r\n"
GET = b"GET /healthz HTTP/1.1\r\n"
POST = b"POST /healthz HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

#: The client closes its half of the connection.
HALF_CLOSE = None

OPEN, CLOSED = True, False

#: What is sent, piece by piece; the status codes of the answers; whether the connection stays open.
Form = tuple[Sequence[bytes | None], Sequence[int], bool]

FORMS: dict[str, Form] = {
    "HTTP/1.1": ([GET + HOST + b"\r\n"], [200], OPEN),
    "HTTP/1.1, Connection: close": ([GET + HOST + b"Connection: close\r\n\r\n"], [200], CLOSED),
    "HTTP/1.1 without Host": ([GET + b"\r\n"], [400], CLOSED),
    "HTTP/1.1 with an empty Host": ([GET + b"Host:\r\n\r\n"], [200], OPEN),
    "HTTP/1.1 with two Hosts": ([GET + HOST + HOST + b"\r\n"], [400], CLOSED),
    "HTTP/1.1 with a bad Host": ([GET + b"Host: a b\r\n\r\n"], [400], CLOSED),
    "HTTP/1.0": ([b"GET /healthz HTTP/1.0\r\n\r\n"], [200], CLOSED),
    "HTTP/1.0, Connection: keep-alive": (
        [b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"],
        [200],
        OPEN,
    ),
    "HTTP/1.0 with Host": ([b"GET /healthz HTTP/1.0\r\n" + HOST + b"\r\n"], [200], CLOSED),
    "HTTP/0.9": ([b"GET /healthz\r\n\r\n"], [400], CLOSED),
    "HTTP/2.0": ([b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n"], [505], CLOSED),
    "HTTP/1.2": ([b"GET /healthz HTTP/1.2\r\n" + HOST + b"\r\n"], [200], OPEN),
    "lower-case version": ([b"GET /healthz http/1.1\r\n" + HOST + b"\r\n"], [400], CLOSED),
    "HTTP/2 preface": ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], [400], CLOSED),
    "absolute form": ([b"GET http://node:1/healthz HTTP/1.1\r\n" + HOST + b"\r\n"], [200], OPEN),
    "absolute form without Host": ([b"GET http://node:1/healthz HTTP/1.1\r\n\r\n"], [400], CLOSED),
    "query": ([b"GET /healthz?a=b HTTP/1.1\r\n" + HOST + b"\r\n"], [200], OPEN),
    "escaped path": ([b"GET /%68ealthz HTTP/1.1\r\n" + HOST + b"\r\n"], [200], OPEN),
    "another path": ([b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n"], [404], OPEN),
    "HEAD": ([b"HEAD /healthz HTTP/1.1\r\n" + HOST + b"\r\n"], [200], OPEN),
    "POST with a body": ([POST + b"Content-Length: 3\r\n\r\nabc"], [200], OPEN),
    "POST with a chunked body": (
        [POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"],
        [200],
        OPEN,
    ),
    "GET with a body": ([GET + HOST + b"Content-Length: 3\r\n\r\nabc"], [200], OPEN),
    "Expect: 100-continue": (
        [POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", b"abc"],
        [200],
        CLOSED,
    ),
    "Expect: something else": ([GET + HOST + b"Expect: more\r\n\r\n"], [417], CLOSED),
    "unknown method": ([b"BREW /healthz HTTP/1.1\r\n" + HOST + b"\r\n"], [200], OPEN),
    "lower-case method": ([b"get /healthz HTTP/1.1\r\n" + HOST + b"\r\n"], [200], OPEN),
    "method that is no token": ([b"GE(T /healthz HTTP/1.1\r\n" + HOST + b"\r\n"], [400], CLOSED),
    "bare LF": ([b"GET /healthz HTTP/1.1\nHost: node\n\n"], [200], OPEN),
    "bare LF, HTTP/1.0": ([b"GET /healthz HTTP/1.0\n\n"], [200], CLOSED),
    "mixed line ends": ([b"GET /healthz HTTP/1.1\r\nHost: node\n\r\n"], [200], OPEN),
    "bare CR in a value": ([GET + HOST + b"A: b\rc\r\n\r\n"], [400], CLOSED),
    "leading empty line": ([b"\r\n" + GET + HOST + b"\r\n"], [400], CLOSED),
    "leading bare LF": ([b"\n" + GET + HOST + b"\r\n"], [400], CLOSED),
    "folded header": ([GET + HOST + b"A: b\r\n c\r\n\r\n"], [200], OPEN),
    "folded first header": ([GET + b" A: b\r\n" + HOST + b"\r\n"], [400], CLOSED),
    "header without colon": ([GET + HOST + b"nothing\r\n\r\n"], [400], CLOSED),
    "space before the colon": ([GET + HOST + b"A : b\r\n\r\n"], [400], CLOSED),
    "empty header name": ([GET + HOST + b": b\r\n\r\n"], [400], CLOSED),
    "NUL in a value": ([GET + HOST + b"A: b\0c\r\n\r\n"], [400], CLOSED),
    "NUL in the path": ([b"GET /heal\0thz HTTP/1.1\r\n" + HOST + b"\r\n"], [400], CLOSED),
    "NUL bytes": ([b"\0" * 20 + b"\r\n\r\n"], [400], CLOSED),
    "Latin-1 in a value": ([GET + HOST + b"A: \xe9\r\n\r\n"], [200], OPEN),
    "two spaces": ([b"GET  /healthz HTTP/1.1\r\n" + HOST + b"\r\n"], [400], CLOSED),
    "no path": ([b"GET  HTTP/1.1\r\n" + HOST + b"\r\n"], [400], CLOSED),
    "path without slash": ([b"GET healthz HTTP/1.1\r\n" + HOST + b"\r\n"], [400], CLOSED),
    "space at the end of the line": (
        [b"GET /healthz HTTP/1.1 \r\n" + HOST + b"\r\n"],
        [400],
        CLOSED,
    ),
    "9000 bytes of one header": ([GET + HOST + b"A: " + b"x" * 9_000 + b"\r\n\r\n"], [200], OPEN),
    "300 headers": (
        [GET + HOST + b"".join(b"A%d: x\r\n" % n for n in range(300)) + b"\r\n"],
        [200],
        OPEN,
    ),
    "2 MB of headers": (
        [GET + HOST + b"".join(b"A%d: " % n + b"x" * 8000 + b"\r\n" for n in range(260)) + b"\r\n"],
        [431],
        CLOSED,
    ),
    "9000 bytes of path": (
        [b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"],
        [404],
        OPEN,
    ),
    "TLS hello, with line ends": (
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n"],
        [400],
        CLOSED,
    ),
    "Upgrade: h2c": (
        [
            GET
            + HOST
            + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n"
        ],
        [200],
        OPEN,
    ),
    "Upgrade: websocket": (
        [GET + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
        [200],
        OPEN,
    ),
    "two pipelined": ([(GET + HOST + b"\r\n") * 2], [200, 200], OPEN),
    "two pipelined, the second is bad": (
        [GET + HOST + b"\r\n" + GET + b"\r\n"],
        [200, 400],
        CLOSED,
    ),
    "pipelined after a body": (
        [POST + b"Content-Length: 3\r\n\r\nabc" + GET + HOST + b"\r\n"],
        [200, 200],
        OPEN,
    ),
    "pipelined after a chunked body": (
        [POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + GET + HOST + b"\r\n"],
        [200, 200],
        OPEN,
    ),
    "pipelined after bare LF": ([b"GET /healthz HTTP/1.1\nHost: node\n\n" * 2], [200, 200], OPEN),
    "byte by byte": (
        [bytes([c]) for c in b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n"],
        [200],
        OPEN,
    ),
    "split within a line end": ([GET + b"Host: node\r", b"\n\r", b"\n"], [200], OPEN),
    "split bare LF": ([b"GET /healthz HTTP/1.1\nHost: node\n", b"\n"], [200], OPEN),
    "both Content-Length and chunked": (
        [POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        [200],
        OPEN,
    ),
    "two Content-Lengths": (
        [POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"],
        [400],
        CLOSED,
    ),
    "negative Content-Length": ([POST + b"Content-Length: -1\r\n\r\n"], [400], CLOSED),
    "unknown Transfer-Encoding": ([POST + b"Transfer-Encoding: brotli\r\n\r\n"], [501], CLOSED),
    "half-close after the request": ([GET + HOST + b"\r\n", HALF_CLOSE], [200], CLOSED),
    "half-close after HTTP/1.0": ([b"GET /healthz HTTP/1.0\r\n\r\n", HALF_CLOSE], [200], CLOSED),
    "half-close after bare LF": ([b"GET /healthz HTTP/1.0\n\n", HALF_CLOSE], [200], CLOSED),
    "half-close after two pipelined": (
        [(GET + HOST + b"\r\n") * 2, HALF_CLOSE],
        [200, 200],
        CLOSED,
    ),
    "half-close within the head": ([GET + HOST, HALF_CLOSE], [400], CLOSED),
    "half-close within the request line": ([b"GET /hea", HALF_CLOSE], [400], CLOSED),
    "half-close within a body": ([POST + b"Content-Length: 3\r\n\r\na", HALF_CLOSE], [200], CLOSED),
    "half-close at once": ([HALF_CLOSE], [], CLOSED),
    "half-close after a bad request": ([b"nonsense\r\n\r\n", HALF_CLOSE], [400], CLOSED),
}
#: Where nfproxy answers otherwise than Go, for a reason.
OWN: dict[str, Form] = {
    # Go reads a megabyte; nfproxy has 64 KiB for each of its connections.
    "100 KB of one header": ([GET + HOST + b"A: " + b"x" * 100_000 + b"\r\n\r\n"], [431], CLOSED),
    # Go answers 404. It is a request to a proxy for HTTP.
    "authority form": ([b"CONNECT node:443 HTTP/1.1\r\n" + HOST + b"\r\n"], [400], CLOSED),
    # Go answers 200 itself, for any server.
    "OPTIONS *": ([b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"], [404], OPEN),
}


async def page(request: web.BaseRequest) -> web.Response:
    return answer(b"{}", JSON)


async def codes(place: tuple[str, int], parts: Sequence[bytes | None], stays: bool) -> list[int]:
    """Return the status codes of all answers; one that stays open is asked once more."""
    reader, writer = await asyncio.open_connection(*place)
    try:
        for part in parts:
            if part is HALF_CLOSE:
                writer.write_eof()
            else:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        if stays:
            writer.write(b"GET /last HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
        received = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


@pytest.mark.parametrize("name", [*FORMS, *OWN])
def test_a_probe_gets_the_answer_of_go(name: str) -> None:
    """Where the connection stays open, the next request is answered."""
    parts, expected, stays = {**FORMS, **OWN}[name]

    async def use() -> list[int]:
        async with serving(by_path({"/healthz": page})) as place:
            return await codes(place, parts, stays)

    assert asyncio.run(use()) == [*expected, *([404] if stays else [])]


@pytest.mark.parametrize("name", [name for name in FORMS if HALF_CLOSE not in FORMS[name][0]])
def test_the_plain_form_does_not_depend_on_the_packets(name: str) -> None:
    """Byte by byte, a request reads as it does in one piece."""
    sent = b"".join(part for part in FORMS[name][0] if part is not None)[:20_000]

    assert plain([bytes([byte]) for byte in sent]) == plain([sent])


def plain(pieces: Sequence[bytes]) -> tuple[bytes, bool]:
    """Return the plain form, without the bounds of chunks, and whether a request is refused."""
    reader = RequestReader()
    found = b""
    for piece in pieces:
        if reader.refused:
            break
        with contextlib.suppress(RefusedError):
            found += reader.feed(piece)
    return re.sub(rb"\r\n\r\n[^GHPDO]*", b"\r\n\r\n", found), reader.refused
