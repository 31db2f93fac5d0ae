"""
The API server as a source, when its watches are open but their server is gone.

It runs in this process with short timeouts: the daemon waits for minutes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.apiserver import StandIn
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.source import ApiServerSource
from nfproxy.kube.protocol import WatchTimeouts
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName

SILENCE_S = 0.5  # of a server that sends bookmarks twice as often
LIMIT_S = 20.0


async def changed(source: ApiServerSource, name: ObjectName) -> Changes:
    """Wait until an EndpointSlice has changed."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            await source.changed()
            changes = source.take()
            if name in changes.slices:
                return changes


def test_a_silent_watch_is_resumed(standin: StandIn, tmp_path: Path) -> None:
    """
    The machine is gone without closing the connection; the watch resumes and misses no change.
    """
    standin.configure(bookmark_s=SILENCE_S / 2)
    standin.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    kubeconfig = standin.write_kubeconfig(tmp_path / "kubeconfig")
    problems: list[Problem] = []

    async def follow() -> None:
        settings = ClientSettings(kubeconfig=str(kubeconfig), qps=-1)
        timeouts = WatchTimeouts(silence_s=SILENCE_S, healthy_s=0.1)
        async with (
            Connection(settings, problems.append) as connection,
            ApiServerSource(connection, "node-1", problems.append, timeouts=timeouts) as source,
        ):
            await source.load()
            await asyncio.to_thread(standin.wait_for_watches, "endpointslices")
            standin.forget_requests()
            standin.mute_watches()
            standin.apply(endpoint_slice("web", "10.244.1.6"))
            name = ObjectName("default", "web-ipv4")
            slice_ = (await changed(source, name)).slices[name]
            assert slice_ is not None
            assert [endpoint.address[-1] for endpoint in slice_.endpoints] == [6]
        await asyncio.sleep(0.1)  # aiohttp closes connections in the loop's next rounds

    asyncio.run(follow())

    resumed = standin.requests("endpointslices", "watch")
    assert resumed
    assert all("resourceVersion" in request.query for request in resumed)
    assert standin.requests("endpointslices", "list") == []
