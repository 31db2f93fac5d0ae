"""
What a page is: a function from a request to a response. Answers are as Go's net/http gives them.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from nfproxy.errors import DataplaneError
from nfproxy.metrics.prometheus import CONTENT_TYPE

Page = Callable[[BaseRequest], Awaitable[Response]]

#: Returns metrics in Prometheus' text format; blocks, and may raise DataplaneError.
WriteMetrics = Callable[[], bytes]

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


def answer(
    body: bytes, content_type: str, code: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response; browsers must not guess the type of its body."""
    fixed = {
        "Content-Type": content_type,
        "X-Content-Type-Options": "nosniff",
        "Server": "nfproxy",  # aiohttp's default names its own version and Python's
    }
    return Response(body=body, status=code, headers={**fixed, **(headers or {})})


def error(message: str, code: int) -> Response:
    """Return an error as Go's ``http.Error`` writes it."""
    return answer(f"{message}\n".encode(), TEXT, code)


def by_path(pages: Mapping[str, Page]) -> Page:
    """Return the page that answers with the page of a path, or with 404 and the paths there are."""
    index = "".join(f"\n{path}" for path in sorted(pages))

    async def page(request: BaseRequest) -> Response:
        found = pages.get(request.path)
        return await found(request) if found else error(f"404 page not found; pages:{index}", 404)

    return page


def constant(body: bytes, content_type: str) -> Page:
    """Return a page that always answers the same."""

    async def page(request: BaseRequest) -> Response:
        return answer(body, content_type)

    return page


def metrics_page(write: WriteMetrics) -> Page:
    """Return a page of metrics, compressed for clients that accept that."""
    return _MetricsPage(write).page


class _Exposition(NamedTuple):
    """The metrics at one moment."""

    plain: bytes
    gzipped: bytes


class _MetricsPage:
    """Writes metrics in a thread, since that takes milliseconds; once for concurrent requests."""

    def __init__(self, write: WriteMetrics) -> None:
        self._write_metrics = write
        self._writing: asyncio.Task[_Exposition] | None = None

    async def page(self, request: BaseRequest) -> Response:
        if self._writing is None:
            self._writing = asyncio.create_task(asyncio.to_thread(self._write))
            self._writing.add_done_callback(self._written)
        try:
            written = await self._writing
        except DataplaneError as failure:
            return error(str(failure), 503)
        if accepts_gzip(request.headers.get("Accept-Encoding", "")):
            return answer(written.gzipped, CONTENT_TYPE, headers={"Content-Encoding": "gzip"})
        return answer(written.plain, CONTENT_TYPE)

    def _written(self, _: asyncio.Task[_Exposition]) -> None:
        self._writing = None

    def _write(self) -> _Exposition:
        text = self._write_metrics()
        return _Exposition(text, gzip.compress(text, compresslevel=1))


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header names gzip, with a weight above zero."""
    for part in accept_encoding.split(","):
        coding, _, weight = part.replace(" ", "").lower().partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False
