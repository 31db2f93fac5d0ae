"""All four resources together, as a source of objects."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from support.client.scriptedserver import FOREVER_S, Exchange, ScriptedServer, scripted

from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.source import ApiServerSource
from nfproxy.errors import ConfigError
from nfproxy.kube.identity import Kind
from nfproxy.kube.protocol import WatchTimeouts
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName

PATHS = ("/services", "/endpointslices", "/servicecidrs", "/nodes")
WEB = ObjectName("shop", "web")
SLICE = ObjectName("shop", "web-1")


class Observed(Metrics):
    """Records the metrics of objects."""

    def __init__(self) -> None:
        super().__init__(FAMILIES, "test")
        self.slices = [0, 0]  # all, and those that changed anything
        self.bad: list[tuple[Kind, ObjectName | None]] = []
        self.lists: dict[str, int] = {}

    def slice_events(self, number: int, changed: int) -> None:
        self.slices = [self.slices[0] + number, self.slices[1] + changed]

    def undecodable(
        self, kind: Kind, name: ObjectName | None, problems: tuple[Problem, ...]
    ) -> None:
        self.bad.append((kind, name))

    def listed(self, resource: str, objects: int, seconds: float) -> None:
        self.lists[resource] = objects


class Case:
    """A source, its server, and the problems it reported."""

    def __init__(self, server: ScriptedServer, source: ApiServerSource) -> None:
        self.server = server
        self.source = source
        self.problems: asyncio.Queue[Problem] = asyncio.Queue()
        self.observed = Observed()
        self.streams: dict[str, Exchange] = {}

    async def stream(self, path: str, *objects: Any, done: bool = True) -> None:
        """Send the objects of a resource."""
        stream = self.streams[path] = await self.server.asked(path)
        await stream.send(*(event("ADDED", obj) for obj in objects))
        if done:
            await stream.send(COMPLETE)

    async def loaded(self, *services: Any, slices: Any = (), nodes: Any = ()) -> Changes:
        """Load from a server that has these objects."""
        loading = asyncio.ensure_future(self.source.load())
        await self.stream("/services", *services)
        await self.stream("/endpointslices", *slices)
        await self.stream("/servicecidrs")
        await self.stream("/nodes", *nodes)
        return await asyncio.wait_for(loading, FOREVER_S)

    async def next(self) -> Changes:
        async with asyncio.timeout(FOREVER_S):
            while True:
                await self.source.changed()
                if changes := self.source.take():
                    return changes

    async def problem(self) -> str:
        return str(await asyncio.wait_for(self.problems.get(), FOREVER_S))


@contextlib.asynccontextmanager
async def sourced(started_s: float = 0.0) -> AsyncIterator[Case]:
    async with scripted() as server:
        observed = Observed()
        problems: asyncio.Queue[Problem] = asyncio.Queue()
        settings = ClientSettings(master=server.url, qps=-1)
        async with Connection(settings, problems.put_nowait) as connection:
            source = ApiServerSource(
                connection,
                "n1",
                problems.put_nowait,
                observed,
                started_s=started_s,
                timeouts=WatchTimeouts(healthy_s=0, initial_silence_s=FOREVER_S),
            )
            async with source:
                case = Case(server, source)
                case.problems, case.observed = problems, observed
                yield case


def event(type_: str, obj: Any) -> dict[str, Any]:
    return {"type": type_, "object": obj}


COMPLETE = event(
    "BOOKMARK",
    {
        "metadata": {
            "resourceVersion": "100",
            "annotations": {"k8s.io/initial-events-end": "true"},
        }
    },
)


def service(version: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": str(100 + version)},
        "spec": {"clusterIP": f"10.96.0.{version}", "ports": [{"port": 80}]} | spec,
    }


def endpoint_slice(version: int = 1, triggered: str = "", name: str = "web-1") -> dict[str, Any]:
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": triggered}
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "resourceVersion": str(100 + version),
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": annotations if triggered else {},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [{"addresses": [f"10.0.0.{version}"]}],
    }


def node(name: str = "n1", zone: str = "a", **metadata: Any) -> dict[str, Any]:
    labels = {"topology.kubernetes.io/zone": zone}
    return {"metadata": {"name": name, "labels": labels, "resourceVersion": "101"} | metadata}


def test_loading_gives_everything_once_both_lists_are_complete(run):
    """These are Services, slices, and the Node, which has the zone."""

    async def case() -> None:
        async with sourced() as c:
            first = await c.loaded(service(), slices=[endpoint_slice()], nodes=[node()])
            assert set(first.services) == {WEB}
            assert set(first.slices) == {SLICE}
            assert first.node is not None
            assert (first.node.zone, first.node_gone) == ("a", False)
            assert c.observed.lists == {
                "services": 1,
                "endpointslices": 1,
                "servicecidrs": 0,
                "nodes": 1,
            }
            assert c.source.problems == ()

    run(case())


def test_half_of_the_objects_is_not_loaded(run):
    """Programming Services without their endpoints would reject what works."""

    async def case() -> None:
        async with sourced() as c:
            loading = asyncio.ensure_future(c.source.load())
            await c.stream("/services", service())
            await c.stream("/servicecidrs")
            await c.stream("/nodes")
            await c.stream("/endpointslices", endpoint_slice(), done=False)
            done, _ = await asyncio.wait([loading], timeout=0.05)
            assert not done
            await c.streams["/endpointslices"].send(COMPLETE)
            assert set((await loading).slices) == {SLICE}

    run(case())


@pytest.mark.parametrize("answer", ["absent", "forbidden"])
def test_a_node_that_does_not_come_delays_nothing(run, answer):
    """The API server has no such Node, or forbids reading it."""

    async def case() -> None:
        async with sourced() as c:
            loading = asyncio.ensure_future(c.source.load())
            await c.stream("/services")
            await c.stream("/endpointslices")
            (await c.server.asked("/servicecidrs")).refuse(404)
            if answer == "absent":
                await c.stream("/nodes")
            else:
                (await c.server.asked("/nodes")).refuse(403, "Forbidden")
            first = await asyncio.wait_for(loading, FOREVER_S)
            assert first.node is None
            assert not first.node_gone

    run(case())


def test_changes_come_as_latest_values(run):
    """A slow consumer misses nothing but values that are past."""

    async def case() -> None:
        async with sourced() as c:
            await c.loaded(service(1), slices=[endpoint_slice(1)])
            stream = c.streams["/services"]
            await stream.send(event("MODIFIED", service(2)), event("MODIFIED", service(3)))
            changes = await c.next()
            while changes.services[WEB] is None or "3" not in str(changes.services[WEB]):
                changes = await c.next()
            await c.streams["/endpointslices"].send(event("DELETED", endpoint_slice(2)))
            assert (await c.next()).slices == {SLICE: None}
            await stream.send(event("MODIFIED", service(4, type="ExternalName")))
            assert (await c.next()).services == {WEB: None}

    run(case())


def test_a_new_list_gives_only_differences(run):
    """
    After 410, objects that are missing are gone, and objects that are the same make no change.
    """

    async def case() -> None:
        async with sourced() as c:
            other = service()
            other["metadata"]["name"] = "other"
            await c.loaded(service(), other, slices=[endpoint_slice()])
            await c.streams["/services"].send(
                event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
            )
            await c.stream("/services", service())
            changes = await c.next()
            assert changes.services == {ObjectName("shop", "other"): None}
            assert not changes.slices

    run(case())


def test_nothing_is_gone_because_the_server_is(run):
    """The trouble is reported once, for all four resources, and ends when the server is back."""

    async def case() -> None:
        async with sourced() as c:
            await c.loaded(service(), slices=[endpoint_slice()])
            for stream in c.streams.values():
                stream.abort()
            for _ in range(2):
                for path in PATHS:
                    (await c.server.asked(path)).refuse(503, "", "etcd is away")
            assert "503 etcd is away" in await c.problem()
            assert len(c.source.problems) == 1
            for path in PATHS:
                resumed = await c.server.asked(path)
                assert resumed.query["resourceVersion"] == "100"
                await resumed.send(event("BOOKMARK", {"metadata": {"resourceVersion": "200"}}))
                c.streams[path] = resumed
            await c.streams["/services"].send(event("MODIFIED", service(2)))
            changes = await c.next()
            assert set(changes.services) == {WEB}
            assert changes.services[WEB] is not None
            assert c.problems.empty()
            while c.source.problems:  # noqa: ASYNC110 - each stream clears its own
                await asyncio.sleep(0.01)

    run(case())


def test_an_object_that_cannot_be_read_costs_only_itself(run):
    """Its last good version stays; the problem is reported and counted once."""

    async def case() -> None:
        async with sourced() as c:
            await c.loaded(service(), slices=[endpoint_slice()])
            broken = service(2)
            broken["spec"] = 5
            await c.streams["/services"].send(*[event("MODIFIED", broken)] * 2)
            assert "Service shop/web" in await c.problem()
            await c.streams["/endpointslices"].send(event("MODIFIED", endpoint_slice(2)))
            changes = await c.next()
            assert (set(changes.services), set(changes.slices)) == (set(), {SLICE})
            assert c.problems.empty()
            assert c.observed.bad == [(Kind.SERVICE, WEB)]
            assert "Service shop/web" in str(c.source.problems[0])

    run(case())


def test_the_node_changes_goes_and_comes_back(run):
    """Only this node's Node counts, whatever the server sends."""

    async def case() -> None:
        async with sourced() as c:
            await c.loaded(nodes=[node(), node("n2", "other")])
            stream = c.streams["/nodes"]
            await stream.send(event("MODIFIED", node("n2", "b")), event("MODIFIED", node(zone="b")))
            changes = await c.next()
            assert changes.node is not None
            assert (changes.node.name, changes.node.zone) == ("n1", "b")
            await stream.send(event("DELETED", node(zone="b")))
            changes = await c.next()
            assert (changes.node, changes.node_gone) == (None, True)
            await stream.send(event("ADDED", node(zone="c")))
            changes = await c.next()
            assert changes.node is not None
            assert not changes.node_gone

    run(case())


def test_trigger_times_are_those_of_changes_since_the_start(run):
    """Each change has one, unless it began before this process or the annotation is no time."""
    started_s = time.time()

    def at(seconds: float) -> str:
        return datetime.fromtimestamp(started_s + seconds, UTC).isoformat()

    async def case() -> None:
        async with sourced(started_s) as c:
            await c.loaded(slices=[endpoint_slice(1, at(-60))])
            stream = c.streams["/endpointslices"]
            await stream.send(
                event("MODIFIED", endpoint_slice(2, at(1))),
                event("MODIFIED", endpoint_slice(2, at(2))),  # changes nothing that is read
                event("MODIFIED", endpoint_slice(3, at(-1))),
                event("MODIFIED", endpoint_slice(4, "soon")),
                event("ADDED", endpoint_slice(5, at(3), "web-2")),
            )
            seen: list[float] = []
            slices: set[ObjectName] = set()
            while len(slices) < 2:
                changes = await c.next()
                slices |= set(changes.slices)
                seen += (unix_s for times in changes.triggers.values() for _, unix_s in times)
            assert [round(t - started_s) for t in seen] == [1, 3]
            assert c.observed.slices == [6, 5]

            await stream.send(
                event("MODIFIED", endpoint_slice(6, at(4), "web-2")),
                event("DELETED", endpoint_slice(6, at(4), "web-2")),
            )
            while (changes := await c.next()).slices.get(ObjectName("shop", "web-2")) is not None:
                pass
            assert changes.triggers == {}

    run(case())


def test_a_kubeconfig_that_cannot_be_used_ends_loading(run):
    """No request is made."""

    async def case() -> None:
        connection = Connection(ClientSettings(kubeconfig="/nowhere"), print)
        async with ApiServerSource(connection, "n1", print) as source:
            with pytest.raises(ConfigError, match="/nowhere"):
                await source.load()

    run(case())


def test_closing_while_loading_leaves_nothing_behind(run):
    """The API server has not answered yet."""

    async def case() -> None:
        async with sourced() as c:
            loading = asyncio.ensure_future(c.source.load())
            await c.server.asked("/services")
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    run(case())
