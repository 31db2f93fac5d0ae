"""
The health port: ``/healthz`` and ``/livez`` as kube-proxy has them, and ``/readyz``.

Methods and queries are ignored.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from nfproxy.clock import now
from nfproxy.health import Answer, Health, Instant
from nfproxy.metrics import Metrics
from nfproxy.servers.pages import JSON, Page, answer, by_path
from nfproxy.servers.pageserver import PageServer


def health_server(
    address: str, health: Health, metrics: Metrics, *, hard_fail: bool = False
) -> PageServer:
    """Return the server of the health pages at ``IP:port``."""
    return PageServer("health", address, health_pages(health, metrics), hard_fail=hard_fail)


def health_pages(health: Health, metrics: Metrics, clock: Callable[[], Instant] = now) -> Page:
    """Return the health pages; what is answered is counted."""

    def page(ask: Callable[[Instant], Answer], count: Callable[[int], None] | None = None) -> Page:
        async def respond(request: web.BaseRequest) -> web.Response:
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
