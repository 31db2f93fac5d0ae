"""
The metrics port, with kube-proxy's pages but for those of the Go runtime (``/debug/…``).
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from nfproxy.config.kubeproxy import API_VERSION
from nfproxy.config.load import LoadedConfig
from nfproxy.errors import DataplaneError
from nfproxy.metrics import Metrics
from nfproxy.metrics.text import CONTENT_TYPE
from nfproxy.servers.pages import JSON, TEXT, Page, answer, by_path, error
from nfproxy.servers.pageserver import PageServer
from nfproxy.servers.zpages import flagz_page, statusz_page

#: Gives metrics in Prometheus' text format; blocks, and may raise DataplaneError.
Write = Callable[[], bytes]

_CHECK = "ping"  # the only health check behind this port's /healthz


def metrics_server(
    address: str,
    metrics: Metrics,
    loaded: LoadedConfig,
    *,
    version: str,
    hard_fail: bool = False,
    services: Write | None = None,
) -> PageServer:
    """
    Return the server of metrics and of the pages about this process, at ``IP:port``.

    `services` gives the page of metrics by Service.
    """
    pages = metrics_pages(metrics, loaded, version, services)
    return PageServer("metrics", address, pages, hard_fail=hard_fail)


def metrics_pages(
    metrics: Metrics, loaded: LoadedConfig, version: str, services: Write | None = None
) -> Page:
    """Return the pages of the metrics port."""
    pages: dict[str, Page] = {
        "/metrics": _Exposition(metrics.text).page,
        "/metrics/slis": _slis_page(metrics),
        "/healthz": _healthz_page(metrics),
        "/healthz/ping": _constant(b"ok", TEXT),
        "/proxyMode": _constant(loaded.config.mode.encode(), TEXT),
        "/configz": _constant(_configz(loaded), JSON),
        "/flagz": flagz_page(loaded),
    }
    if services is not None:
        pages["/metrics/services"] = _Exposition(services).page
    pages["/statusz"] = statusz_page(version, sorted((*pages, "/statusz")))
    return by_path(pages)


def _configz(loaded: LoadedConfig) -> bytes:
    group = API_VERSION.partition("/")[0]
    return msgspec.json.encode({group: msgspec.to_builtins(loaded.config, enc_hook=str)})


def _constant(body: bytes, content_type: str) -> Page:
    async def page(request: web.BaseRequest) -> web.Response:
        return answer(body, content_type)

    return page


class _Texts(NamedTuple):
    """The metrics at one moment, plain and compressed."""

    plain: bytes
    gzipped: bytes


class _Exposition:
    """
    A page of metrics.

    They are written in a thread, since that takes some milliseconds, and once for all who ask
    meanwhile.
    """

    def __init__(self, text: Write) -> None:
        self._text = text
        self._writing: asyncio.Task[_Texts] | None = None

    async def page(self, request: web.BaseRequest) -> web.Response:
        """Answer with the metrics, compressed if the client likes."""
        if self._writing is None:
            self._writing = asyncio.create_task(asyncio.to_thread(self._write))
            self._writing.add_done_callback(self._written)
        try:
            texts = await self._writing
        except DataplaneError as failure:
            return error(str(failure), 503)
        if takes_gzip(request.headers.get("Accept-Encoding", "")):
            return answer(texts.gzipped, CONTENT_TYPE, headers={"Content-Encoding": "gzip"})
        return answer(texts.plain, CONTENT_TYPE)

    def _written(self, _: asyncio.Task[_Texts]) -> None:
        self._writing = None

    def _write(self) -> _Texts:
        text = self._text()
        return _Texts(text, gzip.compress(text, compresslevel=1))


def takes_gzip(accept_encoding: str) -> bool:
    """Tell whether an Accept-Encoding header names gzip, not with weight zero."""
    for part in accept_encoding.split(","):
        coding, _, weight = part.replace(" ", "").lower().partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False


def _slis_page(metrics: Metrics) -> Page:
    async def page(request: web.BaseRequest) -> web.Response:
        if request.method == "DELETE":
            metrics.reset_slis()
            return answer(b"metrics reset\n", TEXT)
        return answer(metrics.sli_text(), CONTENT_TYPE)

    return page


def _healthz_page(metrics: Metrics) -> Page:
    """Return the page that says whether this port answers; the proxy's health is elsewhere."""

    async def page(request: web.BaseRequest) -> web.Response:
        query = parse_qs(request.query_string, keep_blank_values=True, max_num_fields=None)
        excluded = set(query.get("exclude", ()))
        if _CHECK not in excluded:
            metrics.healthcheck_passed(_CHECK, "healthz")
        if "verbose" not in query:
            return answer(b"ok", TEXT)
        lines = [f"[+]{_CHECK} {'excluded: ' if _CHECK in excluded else ''}ok"]
        unknown = sorted(excluded - {_CHECK})
        if unknown:
            names = ",".join(f'"{name}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        lines.append("healthz check passed\n")
        return answer("\n".join(lines).encode(errors="replace"), TEXT)

    return page
