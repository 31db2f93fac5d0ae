"""The daemon's loop over a source and a kernel in memory."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from support.kernel.fake import FakeKernel, FlakyKernel
from support.objects.model import changes, endpoint_slice, service

from nfproxy.daemon import proxier
from nfproxy.daemon.loop import Daemon
from nfproxy.daemon.proxier import Hooks
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Changes
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName


class Objects(dict):  # type: ignore[type-arg]  # a plain dict takes no weak references
    """The objects of one batch."""


class OneBatch:
    """A source that gives some objects once, then `later`."""

    def __init__(self) -> None:
        self.later: list[Changes] = []
        self.looked = 0
        batch = changes(service("web"), endpoint_slice("web", "10.244.1.1"))
        slices = Objects(batch.slices)
        self._batch: Changes | None = msgspec.structs.replace(batch, slices=slices)
        self.kept = weakref.ref(slices)
        self.problems = ()

    async def load(self) -> Changes:
        batch, self._batch = self._batch, None
        assert batch is not None
        return batch

    async def changed(self) -> None:
        while not self.later:  # noqa: ASYNC110 - a source of a test
            await asyncio.sleep(0.01)
        self.looked += 1

    def take(self) -> Changes:
        return self.later.pop(0)

    def source_file(self, service: ObjectName) -> str:
        return ""


@asynccontextmanager
async def settled(kernel: FakeKernel, hooks: Hooks | None = None) -> AsyncIterator[OneBatch]:
    """Run a daemon that has programmed its source's first batch; stop it at the end."""
    source, stop = OneBatch(), asyncio.Event()
    config = NodeConfig(node_name="node-1")
    daemon = Daemon(source, kernel, lambda node, patient: config, FAMILIES, hooks)
    running = asyncio.create_task(daemon.run(stop))
    for _ in range(1000):
        if kernel.operations:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    yield source
    stop.set()
    await running


def test_the_first_batch_is_not_kept() -> None:
    """Or the first version of every object would stay in memory beside the last one."""

    async def case() -> bool:
        async with settled(FakeKernel()) as source:
            gc.collect()
            return source.kept() is not None

    assert not asyncio.run(case())


def test_a_daemon_that_is_behind_and_cannot_commit_rests_until_the_retry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes no more changes, and does not look for them again and again."""
    monkeypatch.setattr(proxier, "_PLANNED_AT_ONCE", 2)

    async def case() -> int:
        kernel = FlakyKernel()
        async with settled(kernel) as source:
            kernel.faults = ["before"] * 1000
            many = [service(f"s{n}", cluster_ips=(f"10.96.1.{n}",)) for n in range(20)]
            source.later = [changes(*many), changes(service("other", cluster_ips=("10.96.3.1",)))]
            await asyncio.sleep(1.0)
            looked, kernel.faults = source.looked, []
        return looked

    assert asyncio.run(case()) < 10


def test_ready_is_said_after_health_and_pages_know(caplog: pytest.LogCaptureFixture) -> None:
    """Who waits for that line finds the tables in step."""
    caplog.set_level(logging.INFO)
    before: list[str] = []

    class OnInStep(Hooks):
        def on_in_step(self) -> None:
            before.extend(record.getMessage() for record in caplog.records)

    async def case() -> None:
        async with settled(FakeKernel(), OnInStep()):
            pass

    asyncio.run(case())

    assert before
    assert not any(line.startswith("ready") for line in before)
    assert sum(line.startswith("ready after") for line in caplog.messages) == 1
