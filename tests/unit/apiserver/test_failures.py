"""What a person reads about requests that failed."""

from __future__ import annotations

import asyncio
import errno
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from nfproxy.apiserver.failures import retry_after_s, unanswered
from nfproxy.kube.apistatus import Status, forbidden, refused
from nfproxy.text import one_line

HOST = "192.0.2.1:6443"
KEY: Any = SimpleNamespace(
    host="192.0.2.1", port=6443, ssl=True, is_ssl=True, proxy=None, server_hostname=None
)


def verification(code: int, said: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, said)
    error.verify_code = code
    error.verify_message = said
    return error


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (
            aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "x")),
            ["refuses connections", "check that the API server runs"],
        ),
        (
            aiohttp.ClientConnectorError(KEY, OSError(errno.EHOSTUNREACH, "x")),
            ["cannot be reached (No route to host)", "routes"],
        ),
        (ConnectionResetError(errno.ECONNRESET, "x"), ["broke (Connection reset by peer)"]),
        (
            aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "Name or service not known")),
            ["is not known (Name or service not known)", "DNS"],
        ),
        (
            aiohttp.ClientConnectorCertificateError(KEY, verification(10, "expired")),
            ["certificate of 192.0.2.1:6443 has expired", "clock"],
        ),
        (
            aiohttp.ClientConnectorCertificateError(KEY, verification(9, "early")),
            ["not valid yet", "clock"],
        ),
        (
            aiohttp.ClientConnectorCertificateError(KEY, verification(19, "self-signed")),
            ["is not trusted (self-signed)", "certificate-authority"],
        ),
        (verification(62, "Hostname mismatch"), ["is not trusted (Hostname mismatch)"]),
        (
            aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "[SSL] WRONG_VERSION_NUMBER")),
            ["no TLS connection", "WRONG_VERSION_NUMBER"],
        ),
        (
            aiohttp.ClientProxyConnectionError(KEY, OSError(errno.ECONNREFUSED, "x")),
            ["the proxy cannot be reached", "HTTPS_PROXY"],
        ),
        (TimeoutError(), ["does not answer", "firewalls"]),
        (aiohttp.ServerTimeoutError(), ["does not answer"]),
        (aiohttp.ServerDisconnectedError(), ["in the middle of an answer"]),
        (aiohttp.ClientPayloadError("x"), ["in the middle of an answer"]),
        (ValueError("carriage return\nin headers"), ["no answer", "cannot be used there"]),
    ],
)
def test_a_request_without_answer_says_what_to_check(error, parts):
    """It is one line, with the host and a remedy."""
    text = str(unanswered(error, HOST))

    for part in parts:
        assert part in text
    assert "\n" not in text


def test_credentials_that_are_refused_name_their_file():
    """That file is the first thing to look at."""
    text = refused(Status(401, "Unauthorized", "Unauthorized"), "", "/etc/kubeconfig").what

    assert "credentials from /etc/kubeconfig are not accepted" in text


def test_an_answer_without_status_has_the_text_of_http():
    """A load balancer answers without one."""
    assert str(refused(Status(502), "Bad Gateway")) == "502 Bad Gateway"


def test_the_core_group_is_named_as_rbac_spells_it():
    """Its name there is the empty string."""
    assert 'apiGroups [""], resources ["services"]' in forbidden("", "services", "")[1]


def test_text_of_a_server_stays_in_one_line():
    """A hostile text cannot add lines to a log."""
    assert one_line("a\nERROR \x1b[31m all\r\n is lost") == "a ERROR [31m all is lost"
    assert len(one_line("x" * 10**6)) <= 200


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", None),
        ("soon", None),
        ("9" * 5000, 999999999.0),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, expected):
    """Anything else counts as absent."""
    assert retry_after_s(header, now_s=10.0) == expected


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["ssh", "tls", "length", "long header", "chunk"],
)
def test_what_is_not_http_is_no_text_of_the_library(answer: bytes) -> None:
    """Of such an answer the library quotes pieces over several lines."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        writer.close()

    async def case() -> str:
        async with (
            await asyncio.start_server(talk, "127.0.0.1", 0) as server,
            aiohttp.ClientSession() as client,
        ):
            address, port = server.sockets[0].getsockname()
            try:
                async with client.get(f"http://{address}:{port}/") as response:
                    await response.read()
            except aiohttp.ClientError as error:
                return str(unanswered(error, HOST))
        raise AssertionError("no error")

    assert asyncio.run(case()) == (
        f"what {HOST} answers is not HTTP; check the server address: does it name the API "
        "server's port?"
    )
