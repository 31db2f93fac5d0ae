"""What a feed says of a resource: troubles, reported once, and their end; its absence."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec import Raw

from nfproxy.apiserver import feed as module
from nfproxy.apiserver.feed import Feed, Troubles
from nfproxy.kube.apistatus import Status
from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.identity import Kind
from nfproxy.kube.protocol import BeginList, EndList, Unavailable
from nfproxy.kube.resources import resources
from nfproxy.kube.watch import Put
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Problem

HOST: Any = SimpleNamespace(host="192.0.2.1:6443")


def test_a_trouble_of_several_resources_is_reported_once(monkeypatch, caplog):
    """It ends with the last of them, and the line has how long that took."""
    now_s = 100.0
    monkeypatch.setattr(module, "monotonic_s", lambda: now_s)
    reported: list[Problem] = []
    troubles = Troubles(HOST, reported.append)
    with caplog.at_level("INFO"):
        for kind in Kind:
            troubles.set(kind, "connection refused", "check")
        assert [str(one) for one in reported] == [
            "API server 192.0.2.1:6443: connection refused; check"
        ]
        assert len(set(troubles.problems)) == 1
        now_s = 112.0
        for kind in Kind:
            assert caplog.messages == []
            troubles.clear(kind)
    assert caplog.messages == [
        "API server 192.0.2.1:6443: reachable again after 12 s (was: connection refused)"
    ]
    assert troubles.problems == ()


def test_another_trouble_of_the_same_outage_is_reported_too(monkeypatch, caplog):
    """The time counts from the first."""
    now_s = 100.0
    monkeypatch.setattr(module, "monotonic_s", lambda: now_s)
    reported: list[Problem] = []
    troubles = Troubles(HOST, reported.append)
    troubles.set(Kind.NODE, "connection refused", "")
    now_s = 105.0
    for _ in range(2):
        troubles.set(Kind.NODE, "503", "")
    now_s = 109.0
    with caplog.at_level("INFO"):
        troubles.clear(Kind.NODE)
        troubles.clear(Kind.NODE)

    assert [one.what for one in reported] == ["connection refused", "503"]
    assert [line.partition("again ")[2] for line in caplog.messages] == ["after 9 s (was: 503)"]


def test_the_absence_of_a_resource_is_logged_once_it_is_news(caplog):
    """Its objects are not waited for from the first answer on."""
    cidrs = next(one for one in resources("n1") if one.kind is Kind.SERVICE_CIDR)

    async def case() -> None:
        metrics = Metrics(FAMILIES, "test")
        feed = Feed(cidrs, ObjectCache("n1"), metrics, print, Troubles(HOST, print), print, print)
        await feed.act([Unavailable(Status(403))])
        assert feed.settled.is_set()
        assert not feed.listed.is_set()
        assert caplog.messages == []
        await feed.act([Unavailable(Status(403), is_news=True)])

    with caplog.at_level("INFO"):
        asyncio.run(case())
    assert caplog.messages == [
        "ServiceCIDRs unavailable (403): unallocated service addresses are not rejected; grant "
        "list/watch on servicecidrs.networking.k8s.io"
    ]


def test_another_history_is_said_once_until_the_next_list(caplog):
    """Then every resource is listed again."""
    calls: list[int] = []
    services = next(one for one in resources("n1") if one.kind is Kind.SERVICE)

    def put(version: int) -> Put:
        metadata = {"name": "web", "namespace": "default", "resourceVersion": str(version)}
        return Put(Raw(msgspec.json.encode({"metadata": metadata, "spec": {}})))

    async def case() -> None:
        metrics, troubles = Metrics(FAMILIES, "test"), Troubles(HOST, print)
        feed = Feed(
            *(services, ObjectCache("n1"), metrics, print, troubles),
            changed=lambda: None,
            list_again=lambda: calls.append(1),
        )
        await feed.act([BeginList(), put(5), EndList(1, 0.1, "10"), put(12), put(11), put(11)])
        assert calls == [1]
        await feed.act([BeginList(), put(5), EndList(1, 0.1, "11"), put(12)])
        assert calls == [1, 1]

    asyncio.run(case())
    assert [line.partition(": was")[0] for line in caplog.messages] == [
        "services: an event has version 11",
        "services: a list has version 11",
    ]


def test_a_feed_waits_until_many_changes_are_taken(monkeypatch):
    """Not before the first time, when everything is listed; and not for ever."""
    services = next(one for one in resources("n1") if one.kind is Kind.SERVICE)
    cache = ObjectCache("n1")
    monkeypatch.setattr(module, "_MOST_UNTAKEN", 150)
    monkeypatch.setattr(module, "_MOST_LOOKS", 30)

    def puts(first: int) -> list[Put]:
        names = [{"name": f"s{first + n}", "namespace": "default"} for n in range(400)]
        spec = {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}
        return [Put(Raw(msgspec.json.encode({"metadata": name, "spec": spec}))) for name in names]

    async def case() -> list[int]:
        metrics, troubles = Metrics(FAMILIES, "test"), Troubles(HOST, print)
        feed = Feed(
            *(services, cache, metrics, print, troubles),
            changed=lambda: None,
            list_again=lambda: None,
        )
        await feed.act(puts(0))
        taken = [len(cache.take().services)]
        acting = asyncio.create_task(feed.act(puts(1000)))
        while not acting.done():
            await asyncio.sleep(0.03)
            taken.append(len(cache.take().services))
        await feed.act(puts(2000))  # nothing takes them: it goes on in the end
        return [*taken, len(cache.take().services)]

    first, *parts, last = asyncio.run(case())
    assert (first, sum(parts), last) == (400, 400, 400)
    assert max(parts) <= 200
