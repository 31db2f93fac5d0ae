"""The daemon's loop, with a source and a kernel that fail in ways that are rare in practice."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest
from support.kernel.fake import FakeKernel
from support.objects.model import changes, endpoint_slice, service
from support.processes.inprocess import (
    FIRST,
    SECOND,
    BrokenKernel,
    ScriptedSource,
    Step,
    addresses,
    configure,
    poll,
)

from nfproxy.daemon import Daemon, SyncTimings
from nfproxy.errors import ConfigError, InputError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.changes import Changes
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft.schema import TABLE


class SlowSource(ScriptedSource):
    """A source whose first reading never ends."""

    async def load(self) -> Changes:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


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
        await poll(lambda: until() or daemon.done())
        stop.set()
        await asyncio.wait_for(daemon, 10)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(both())
    assert until()


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

    assert not kernel.table_row(Family.IPV4, TABLE)


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
    assert not kernel.table_row(Family.IPV4, TABLE)


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
        await poll(lambda: addresses(kernel))
        assert calls == [(False, True)]
        await poll(lambda: len(calls) > 1 or daemon.done())
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
        await poll(lambda: len(calls) == 2)
        stop.set()
        await asyncio.wait_for(running, 10)

    asyncio.run(case())
    assert calls == [True, False]
