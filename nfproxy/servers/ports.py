"""
The pages of the health port and the metrics port.

They are kube-proxy's, plus ``/readyz`` and ``/metrics/services``, without those of the Go runtime
(``/debug/…``). Methods and queries are ignored where a page does not say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

import msgspec
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from nfproxy.clock import now
from nfproxy.config.kubeproxy import API_VERSION
from nfproxy.config.load import LoadedConfig
from nfproxy.health import Answer, Health, Instant
from nfproxy.metrics import Metrics
from nfproxy.metrics.prometheus import CONTENT_TYPE
from nfproxy.servers.pages import (
    JSON,
    TEXT,
    Page,
    WriteMetrics,
    answer,
    by_path,
    constant,
    metrics_page,
)
from nfproxy.servers.zpages import flagz_page, statusz_page

#: The only check behind the metrics port's /healthz: that the port answers.
_CHECK = "ping"


def health_pages(health: Health, metrics: Metrics, clock: Callable[[], Instant] = now) -> Page:
    """Return the pages of the health port; answers of kube-proxy's pages are counted."""

    def page(ask: Callable[[Instant], Answer], count: Callable[[int], None] | None = None) -> Page:
        async def respond(request: BaseRequest) -> Response:
            code, body = ask(clock())
            if count is not None:
                count(code)
            return answer(body, JSON, code)

        return respond

    return by_path(
        {
            "/healthz": page(health.healthz, metrics.healthz_answered),
            "/livez": page(health.livez, metrics.livez_answered),
            "/readyz": page(health.readyz),
        }
    )


def metrics_pages(
    metrics: Metrics,
    loaded: LoadedConfig,
    version: str,
    services: WriteMetrics | None = None,
    tracked: WriteMetrics | None = None,
    local: Mapping[str, Page] | None = None,
) -> Page:
    """
    Return the pages of the metrics port; `services` writes the metrics of each Service.

    `tracked` writes those that take a look at all connections: only with the parameter ``open``.
    `local` has the pages for clients on loopback addresses, by path.
    """
    pages: dict[str, Page] = {
        "/metrics": metrics_page(metrics.text),
        "/metrics/slis": _slis_page(metrics),
        "/healthz": _healthz_page(metrics),
        "/healthz/ping": constant(b"ok", TEXT),
        "/proxyMode": constant(loaded.config.mode.encode(), TEXT),
        "/configz": constant(_configz(loaded), JSON),
        "/flagz": flagz_page(loaded),
    }
    if services is not None:
        pages["/metrics/services"] = _services_page(services, tracked or bytes)
    pages["/statusz"] = statusz_page(version, sorted((*pages, "/statusz")))
    return by_path({**pages, **(local or {})})


def _services_page(services: WriteMetrics, tracked: WriteMetrics) -> Page:
    usual, whole = metrics_page(services), metrics_page(lambda: services() + tracked())

    async def page(request: BaseRequest) -> Response:
        return await (whole if "open" in request.query else usual)(request)

    return page


def _configz(loaded: LoadedConfig) -> bytes:
    return msgspec.json.encode({API_VERSION.partition("/")[0]: loaded.config_data})


def _slis_page(metrics: Metrics) -> Page:
    """Return the page of health check results; the method DELETE forgets them."""

    async def page(request: BaseRequest) -> Response:
        if request.method == "DELETE":
            metrics.reset_slis()
            return answer(b"metrics reset\n", TEXT)
        return answer(metrics.sli_text(), CONTENT_TYPE)

    return page


def _healthz_page(metrics: Metrics) -> Page:
    """
    Return the page that says whether the metrics port answers, whatever the proxy's health.

    It reads the parameters ``verbose`` and ``exclude``, as in component-base.
    """

    async def page(request: BaseRequest) -> Response:
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
