"""The daemon's hooks and their threads, and what another process changes meanwhile."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest
from support.kernel.fake import FakeKernel
from support.objects.model import changes, endpoint_slice
from support.processes.inprocess import (
    FIRST,
    SECOND,
    BrokenKernel,
    ScriptedSource,
    addresses,
    configure,
    poll,
)

from nfproxy.daemon import Commit, Daemon, Hooks, schedule
from nfproxy.dataplane.notifications import Damage, ForeignChange
from nfproxy.errors import TransactionError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.changes import Changes
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.planner import Planner
from nfproxy.reconcile import chainuses
from nfproxy.reconcile.transition import Operation


class OtherProcess(Hooks):
    """Another process that changes our tables, the kernel's announcements, and our hook."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._called = threading.Event()

    def fileno(self) -> int:
        return self._reading

    def read(self) -> ForeignChange | None:
        try:
            os.read(self._reading, 1)
        except BlockingIOError:
            return None
        text = "nft (pid 4711) changed table ip nfproxy"
        return ForeignChange(Damage.STRUCTURE, frozenset({Family.IPV4}), text)

    def on_foreign_change(self, change: ForeignChange) -> None:
        self._called.set()

    def touch(self) -> None:
        """Announce a change that changed nothing."""
        os.write(self._writing, b".")

    def clear(self) -> None:
        """Remove the tables; return when the loop has called the hook. Not in the loop's thread."""
        self._called.clear()
        self._kernel.tables.clear()
        self.touch()
        assert self._called.wait(10)

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


class ThreadRecorder(OtherProcess):
    """Hooks that remember in which thread each of them, and all else of the daemon, ran."""

    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__(kernel)
        self.threads: dict[str, set[threading.Thread]] = {}
        self.concurrent: set[str] = set()
        self.commits = 0
        self._committing = False

    def note(self, what: str) -> None:
        self.threads.setdefault(what, set()).add(threading.current_thread())
        if self._committing:
            self.concurrent.add(what)

    def on_received(self, changes: Changes) -> None:
        self.note("received")

    def on_committed(self, planner: Planner, commit: Commit) -> None:
        self.note("committed")
        self.commits += 1
        if self.commits == 2:  # the loop watches by then
            self._committing = True
            self.clear()  # returns when the loop has called the hook
            self._committing = False

    def on_failed(self, error: Exception, seconds: float) -> None:
        self.note("failed")

    def on_cleanup_failed(self) -> None:
        self.note("cleanup failed")

    def on_foreign_change(self, change: ForeignChange) -> None:
        self.note("foreign change")
        super().on_foreign_change(change)

    def on_in_step(self) -> None:
        self.note("in step")


def test_each_hook_runs_in_the_thread_that_its_contract_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    After a commit the worker thread, for everything else the event loop's.

    A foreign change alone may be reported while the hook after a commit is at work.
    """
    monkeypatch.setattr(chainuses, "IDLE_S", 0.0)  # unused chains are removed at once

    class Kernel(BrokenKernel):
        def load(self, text: str) -> None:
            hooks.note("load")
            if "delete chain" in text:
                raise TransactionError("injected: refused")
            super().load(text)

        def commit(self, operations: Sequence[Operation]) -> None:
            hooks.note("commit")
            super().commit(operations)

    def configured(node: Node | None, patient: bool) -> NodeConfig:
        hooks.note("configure")
        return configure(node)

    kernel = Kernel()
    hooks = ThreadRecorder(kernel)
    unused = changes(endpoint_slice("web", "10.244.1.5", "10.244.1.6"))

    async def case() -> None:
        stop = asyncio.Event()
        source = ScriptedSource(FIRST, [unused, SECOND])
        daemon = Daemon(source, kernel, configured, FAMILIES, hooks, foreign_changes=hooks)
        running = asyncio.create_task(daemon.run(stop))
        await poll(lambda: "foreign change" in hooks.threads)
        kernel.errors.append(OSError("no memory"))
        await poll(lambda: {"failed", "cleanup failed"} <= hooks.threads.keys())
        stop.set()
        await asyncio.wait_for(running, 10)

    asyncio.run(case())
    hooks.close()
    in_loop = {"received", "configure", "failed", "cleanup failed", "foreign change", "in step"}
    in_worker = {"load", "commit", "committed"}
    main = threading.main_thread()

    assert hooks.threads.keys() == in_loop | in_worker
    assert all(hooks.threads[what] == {main} for what in in_loop)
    assert all(main not in hooks.threads[what] for what in in_worker)
    assert hooks.concurrent == {"foreign change"}


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def other(kernel: FakeKernel) -> Iterator[OtherProcess]:
    made = OtherProcess(kernel)
    yield made
    made.close()


def run_and_change(
    kernel: FakeKernel,
    other: OtherProcess,
    source: ScriptedSource,
    doing: Awaitable[None],
    configured: Callable[[Node | None, bool], NodeConfig] = configure,
) -> None:
    """Run a daemon, await `doing` after its first sync, and assert that the tables are back."""

    async def case() -> None:
        stop = asyncio.Event()
        daemon = Daemon(source, kernel, configured, FAMILIES, other, foreign_changes=other)
        running = asyncio.create_task(daemon.run(stop))
        await poll(lambda: addresses(kernel))
        await doing
        await poll(lambda: addresses(kernel))
        stop.set()
        await asyncio.wait_for(running, 10)

    asyncio.run(case())
    assert addresses(kernel)


def test_a_change_after_the_tables_were_read_is_repaired(
    kernel: FakeKernel, other: OtherProcess
) -> None:
    """It is announced while the worker thread still repairs the change before."""

    async def doing() -> None:
        def again() -> None:  # in the worker thread, after the tables have been read
            kernel.watch = lambda: None
            other.clear()

        kernel.watch = again
        other.touch()
        await poll(lambda: not addresses(kernel))

    run_and_change(kernel, other, ScriptedSource(FIRST), doing())


def test_a_change_after_another_sync_did_a_repair_is_repaired(
    kernel: FakeKernel, other: OtherProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repair that was scheduled is scheduled again."""
    monkeypatch.setattr(schedule, "_ELEMENTS_AT_ONCE_S", -0.2)  # so a repair waits 2 s
    queue: asyncio.Queue[Changes] = asyncio.Queue()

    class Queued(ScriptedSource):
        async def changes(self) -> Iterator[Changes]:
            while True:
                yield await queue.get()

    def configured(node: Node | None, patient: bool) -> NodeConfig:
        return NodeConfig(node_name="node-1", node_port_prefixes={Family.IPV4: ()} if node else {})

    async def doing() -> None:
        before = kernel.transactions
        await asyncio.to_thread(other.clear)
        queue.put_nowait(Changes(node=Node(name="node-1")))
        await poll(lambda: addresses(kernel))
        assert kernel.transactions > before
        await asyncio.to_thread(other.clear)

    run_and_change(kernel, other, Queued(FIRST), doing(), configured)
