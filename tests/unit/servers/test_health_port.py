"""The health port, spoken to over TCP."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from support.client.http11 import Reply, ask
from support.processes.pageservers import serving

from nfproxy.health import Health, Instant
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.node import Node
from nfproxy.servers.ports import health_pages

NOW = Instant(100.0, 1_767_323_045_120_000_000)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def healthy() -> Health:
    health = Health(30)
    health.node_seen(Node("node-1"))
    for family in FAMILIES:
        health.started(family, NOW)
        health.succeeded(family, NOW)
    return health


async def answers(health: Health, *paths: str, method: str = "GET") -> list[Reply]:
    pages = health_pages(health, Metrics(FAMILIES, "1", {}), clock=lambda: NOW)
    async with serving(pages) as place:
        return [await ask(place, path, method) for path in paths]


def test_healthz_is_kube_proxys_to_the_byte():
    """Code, type, the header against type guessing, and the body without a newline."""
    (reply,) = run(answers(healthy(), "/healthz"))
    date = "2026-01-02T03:04:05.12Z"

    assert reply.code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.body.decode() == (
        f'{{"lastUpdated":"{date}","currentTime":"{date}","nodeEligible":true,"healthy":true,'
        f'"status":{{"IPv4":{{"lastUpdated":"{date}","healthy":true}},'
        f'"IPv6":{{"lastUpdated":"{date}","healthy":true}}}}}}'
    )


def test_each_page_has_its_own_rule():
    """A deleted Node fails ``/healthz`` alone; a late sync fails all pages."""
    paths = ("/healthz", "/livez", "/readyz")
    leaving, late = healthy(), healthy()
    leaving.node_gone()
    late.queued(Family.IPV6, Instant(0.0, 0))

    assert [reply.code for reply in run(answers(leaving, *paths))] == [503, 200, 200]
    assert [reply.code for reply in run(answers(late, *paths))] == [503, 503, 503]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_the_method_does_not_matter(method: str):
    """Neither does the query."""
    (reply,) = run(answers(healthy(), "/healthz?x=1", method=method))

    assert reply.code == 200
    assert json.loads(reply.body)["healthy"] is True


def test_head_has_the_headers_of_get_and_no_body():
    """The length is that of the body of a GET."""
    (got,) = run(answers(healthy(), "/livez"))
    (head,) = run(answers(healthy(), "/livez", method="HEAD"))

    assert head.body == b""
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.body))


@pytest.mark.parametrize("path", ["/", "/healthz/", "/Healthz", "/metrics", "/debug/pprof/"])
def test_other_paths_are_not_found(path: str):
    """The text is that of Go's server."""
    (reply,) = run(answers(healthy(), path))

    assert reply.code == 404
    assert reply.body.startswith(b"404 page not found; pages:\n/")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_answers_are_counted_by_code():
    """For ``/healthz`` and ``/livez``, from the first answer on."""
    health, metrics = healthy(), Metrics(FAMILIES, "1", {})

    async def use() -> None:
        async with serving(health_pages(health, metrics, clock=lambda: NOW)) as place:
            for path in ("/healthz", "/healthz", "/livez", "/readyz"):
                await ask(place, path)
            health.node_gone()
            await ask(place, "/healthz")

    run(use())
    lines = metrics.text().decode().splitlines()

    assert 'kubeproxy_proxy_healthz_total{code="200"} 2' in lines
    assert 'kubeproxy_proxy_healthz_total{code="503"} 1' in lines
    assert 'kubeproxy_proxy_livez_total{code="200"} 1' in lines
    assert not [line for line in lines if 'livez_total{code="503"}' in line]


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_unspecified_address_stands_for_both_families(address: str, host: str):
    """A kubelet probes the node's primary address, which may be of either family."""

    async def use() -> Reply:
        pages = health_pages(healthy(), Metrics(FAMILIES, "1", {}))
        async with serving(pages, address) as (_, port):
            return await ask((host, port), "/livez")

    assert run(use()).code == 200


def test_a_specific_address_is_the_only_one_served():
    """Another address of the same family refuses."""

    async def use() -> None:
        pages = health_pages(healthy(), Metrics(FAMILIES, "1", {}))
        async with serving(pages, "127.0.0.1:0") as (_, port):
            with pytest.raises(ConnectionRefusedError):
                await ask(("127.0.0.2", port), "/livez")

    run(use())
