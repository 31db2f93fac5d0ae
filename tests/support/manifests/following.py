"""A directory of manifests, followed by inotify."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from nfproxy.manifests.source import ManifestSource
from nfproxy.model.changes import Changes, Problem

FOREVER_S = 20  # only to end a test that fails


def service(name: str, version: int) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"clusterIP": f"10.96.0.{version}", "ports": [{"port": 80}]},
        }
    )


def versions(changes: Changes) -> dict[str, int]:
    """Return changes of Services as name → version, 0 for gone."""
    return {
        name.name: service.cluster_ips[0][3] if service else 0
        for name, service in changes.services.items()
    }


async def next_changes(source: ManifestSource) -> Changes:
    while True:
        await source.changed()
        if changes := source.take():
            return changes


class Followed:
    """A source that is being followed, and its changes."""

    def __init__(self, source: ManifestSource, problems: asyncio.Queue[Problem]) -> None:
        self.source = source
        self.problems = problems
        self.changes: asyncio.Queue[dict[str, int]] = asyncio.Queue()

    async def run(self) -> None:
        async with self.source:
            while True:
                self.changes.put_nowait(versions(await next_changes(self.source)))

    async def next(self) -> dict[str, int]:
        return await asyncio.wait_for(self.changes.get(), FOREVER_S)

    async def next_problem(self) -> str:
        return str(await asyncio.wait_for(self.problems.get(), FOREVER_S))


@contextlib.asynccontextmanager
async def following(path: Path, directory: bool = True) -> AsyncIterator[Followed]:
    problems: asyncio.Queue[Problem] = asyncio.Queue()
    followed = Followed(ManifestSource(str(path), "n1", problems.put_nowait), problems)
    await followed.source.load()
    task = asyncio.create_task(followed.run())
    try:
        if directory:  # after this change, the directory is being watched
            (path / "ready.yaml").write_text(service("ready", 1))
            assert await followed.next() == {"ready": 1}
        yield followed
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())
