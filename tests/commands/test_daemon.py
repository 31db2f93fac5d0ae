"""The daemon's loop, with a source and a kernel that fail in ways that are rare in practice."""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest
from support.kernel.fake import FakeKernel
from support.objects.model import changes, endpoint_slice, service

from nfproxy.daemon import Commit, Daemon, Hooks, SyncTimings, schedule
from nfproxy.dataplane.notifications import Damage, ForeignChange
from nfproxy.errors import ConfigError, InputError, TransactionError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.nft import schema
from nfproxy.plan.planner import Planner
from nfproxy.reconcile import chainuses
from nfproxy.reconcile.transition import Operation

FIRST = changes(service("web"), endpoint_slice("web", "10.244.1.5"))
SECOND = changes(endpoint_slice("web", "10.244.1.6"))
Step = Changes | Exception


class ScriptedSource:
    """Gives `first`, then what each script says: changes, or an error to raise."""

    def __init__(self, first: Changes | Exception, *scripts: Sequence[Step]) -> None:
        self._first = first
        self._steps = self.steps(*scripts)
        self._changes = Changes()

    def steps(self, *scripts: Sequence[Step]) -> Iterator[Step]:
        return (step for script in scripts for step in script)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return ()

    def source_file(self, service: ObjectName) -> str:
        return ""

    async def load(self) -> Changes:
        if isinstance(self._first, Exception):
            raise self._first
        return self._first

    async def changed(self) -> None:
        step = next(self._steps, None)
        if step is None:
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        self._changes = step or Changes()

    def take(self) -> Changes:
        return self._changes


class SlowSource(ScriptedSource):
    """A source whose first reading never ends."""

    async def load(self) -> Changes:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


class BrokenKernel(FakeKernel):
    """A kernel that raises the `errors`, one at each commit of elements, and then works."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    def commit(self, operations: Sequence[Operation]) -> None:
        if operations and self.errors:
            raise self.errors.pop(0)
        super().commit(operations)


def configure(node: Node | None, patient: bool = False) -> NodeConfig:
    return NodeConfig(node_name="node-1")


def addresses(kernel: FakeKernel) -> set[bytes]:
    """Return the endpoints in slots."""
    found = kernel.elements(Family.IPV4, schema.ENDPOINTS[Protocol.TCP])
    return {value[:4] for _, value in found if isinstance(value, bytes)}


def serve(
    source: ScriptedSource,
    kernel: FakeKernel,
    until: Callable[[], object],
    configured: Callable[[Node | None, bool], NodeConfig] = configure,
) -> None:
    """Run a daemon until a condition holds, then stop it."""

    async def both() -> None:
        stop = asyncio.Event()
        daemon = asyncio.create_task(Daemon(source, kernel, configured, FAMILIES).run(stop))
        await _poll(lambda: until() or daemon.done())
        stop.set()
        await asyncio.wait_for(daemon, 10)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(both())
    assert until()


async def _poll(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)


NEW = bytes((10, 244, 1, 6))


def test_a_source_that_fails_is_followed_again(caplog: pytest.LogCaptureFixture) -> None:
    """The daemon logs the fault and goes on; later changes are programmed."""
    kernel = FakeKernel()
    source = ScriptedSource(FIRST, [RuntimeError("a fault")], [SECOND])
    serve(source, kernel, lambda: NEW in addresses(kernel))

    (record,) = (r for r in caplog.records if "the source of objects" in r.message)
    assert record.levelno == logging.ERROR
    assert record.exc_info


def test_a_system_error_while_committing_is_retried(caplog: pytest.LogCaptureFixture) -> None:
    """The daemon is ready only after the first success."""
    caplog.set_level(logging.INFO)
    kernel = BrokenKernel(OSError("no memory"), OSError("no memory"))
    serve(ScriptedSource(FIRST, [SECOND]), kernel, lambda: NEW in addresses(kernel))

    said = [r.message for r in caplog.records]
    failures = [i for i, text in enumerate(said) if "no memory" in text]
    (ready,) = (i for i, text in enumerate(said) if text.startswith("ready"))
    assert len(failures) == 2
    assert max(failures) < ready


def test_changes_do_not_shorten_the_wait_for_a_retry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A kernel that keeps failing does not get a commit for every change."""
    calls: list[int] = []

    class BusySource(ScriptedSource):
        def steps(self, *scripts: Sequence[Step]) -> Iterator[Step]:
            for number in range(200):
                yield changes(service("other", cluster_ips=(f"10.96.1.{number + 1}",)))
                calls.append(number)

    kernel = BrokenKernel(*[OSError("no memory")] * 200)
    serve(BusySource(FIRST), kernel, lambda: len(calls) == 200)

    assert 1 <= caplog.text.count("no memory") < 20


def test_due_tasks_are_done_between_changes() -> None:
    """A source that never rests does not keep lingering slots in place."""

    class RestlessSource(ScriptedSource):
        def steps(self, *scripts: Sequence[Step]) -> Iterator[Step]:
            # One endpoint fewer: the second slot lingers, to be removed a moment later.
            yield changes(endpoint_slice("web", "10.244.1.5"))
            while True:
                yield changes(service("other", cluster_ips=("10.96.0.9",)))

    first = changes(service("web"), endpoint_slice("web", "10.244.1.5", "10.244.1.6"))
    kernel = FakeKernel()
    seen: list[int] = []

    def gone() -> bool:
        seen.append(len(addresses(kernel)))
        return 2 in seen and seen[-1] == 1

    serve(RestlessSource(first), kernel, gone)


def test_a_stop_does_not_wait_for_the_first_reading() -> None:
    """Nothing is programmed then."""
    kernel = FakeKernel()
    serve(SlowSource(FIRST), kernel, lambda: True)

    assert not kernel.has_table(Family.IPV4)


def test_a_node_that_does_not_fit_leaves_the_configuration_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Objects of the same batch are programmed."""

    def strict(node: Node | None, patient: bool) -> NodeConfig:
        if node is not None:
            raise ConfigError("no podCIDRs")
        return configure(node)

    kernel = FakeKernel()
    node = Changes(slices=SECOND.slices, node=Node(name="node-1"))
    serve(ScriptedSource(FIRST, [node]), kernel, lambda: NEW in addresses(kernel), strict)

    assert "no podCIDRs; the previous configuration stays in use" in caplog.text


@pytest.mark.parametrize("error", [InputError("nothing to read"), ConfigError("no node")])
def test_an_error_that_no_retry_can_mend_ends_the_start(error: Exception) -> None:
    """A source without objects, or a configuration that does not fit the Node."""

    def refuse(node: Node | None, patient: bool) -> NodeConfig:
        raise error

    kernel = FakeKernel()
    source = ScriptedSource(error if isinstance(error, InputError) else FIRST)
    daemon: Awaitable[None] = Daemon(source, kernel, refuse, FAMILIES).run(asyncio.Event())

    async def start() -> None:
        await daemon

    with pytest.raises(type(error)):
        asyncio.run(start())
    assert not kernel.has_table(Family.IPV4)


def test_node_ports_wait_for_the_addresses_of_the_node(caplog: pytest.LogCaptureFixture) -> None:
    """For a while addresses are expected; everything else is programmed at once."""
    calls: list[tuple[bool, bool]] = []

    def patient_configure(node: Node | None, patient: bool) -> NodeConfig:
        calls.append((node is not None, patient))
        return NodeConfig(
            node_name="node-1", node_port_prefixes={Family.IPV4: ()} if patient else {}
        )

    kernel = FakeKernel()
    source = ScriptedSource(FIRST)

    async def case() -> None:
        stop = asyncio.Event()
        timings = SyncTimings(addresses_wait_s=0.3)
        made = Daemon(source, kernel, patient_configure, FAMILIES, timings=timings)
        daemon = asyncio.create_task(made.run(stop))
        await _poll(lambda: addresses(kernel))
        assert calls == [(False, True)]
        await _poll(lambda: len(calls) > 1 or daemon.done())
        stop.set()
        await asyncio.wait_for(daemon, 10)

    asyncio.run(case())
    assert calls == [(False, True), (False, False)]


def test_addresses_are_not_expected_once_a_node_had_some() -> None:
    """Although there is time left."""
    calls: list[bool] = []

    def patient_configure(node: Node | None, patient: bool) -> NodeConfig:
        calls.append(patient)
        return configure(node)

    async def case() -> None:
        stop = asyncio.Event()
        node = Changes(node=Node(name="node-1", addresses=(bytes((192, 0, 2, 1)),)))
        source = ScriptedSource(FIRST, [node])
        timings = SyncTimings(addresses_wait_s=3600)
        daemon = Daemon(source, FakeKernel(), patient_configure, FAMILIES, timings=timings)
        running = asyncio.create_task(daemon.run(stop))
        await _poll(lambda: len(calls) == 2)
        stop.set()
        await asyncio.wait_for(running, 10)

    asyncio.run(case())
    assert calls == [True, False]


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
        await _poll(lambda: "foreign change" in hooks.threads)
        kernel.errors.append(OSError("no memory"))
        await _poll(lambda: {"failed", "cleanup failed"} <= hooks.threads.keys())
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
        await _poll(lambda: addresses(kernel))
        await doing
        await _poll(lambda: addresses(kernel))
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
        await _poll(lambda: not addresses(kernel))

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
        await _poll(lambda: addresses(kernel))
        assert kernel.transactions > before
        await asyncio.to_thread(other.clear)

    run_and_change(kernel, other, Queued(FIRST), doing(), configured)
