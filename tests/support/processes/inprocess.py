"""A daemon in this process, with a source and a kernel that follow a script."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from support.kernel.fake import FakeKernel
from support.objects.model import changes, endpoint_slice, service

from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.nft import schema
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


async def poll(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
