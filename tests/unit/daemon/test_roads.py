"""How many functions an event passes on its way into the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import yaml
from support.client.scriptedserver import FOREVER_S, scripted

import nfproxy
from nfproxy.apiserver.connection import ClientSettings, Connection
from nfproxy.apiserver.source import ApiServerSource
from nfproxy.clock import monotonic_s
from nfproxy.daemon.loop import Daemon
from nfproxy.dataplane.kernel import Kernel
from nfproxy.kube.source import Source
from nfproxy.manifests.source import ManifestSource
from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.netlink.messages import NLM_F_ACK, NLMSG_ERROR

PACKAGE = str(Path(nfproxy.__file__).parent) + "/"

#: Where the event is, in one form or another: its line or file is read, its object decoded, put
#: into the cache and taken from it, its Service planned, compared with the kernel, and encoded.
STATIONS = (
    *("ListWatch.received", "read_text", "Builder.document", "decode_slice"),
    *("ObjectCache.put", "ObjectCache.replace_file", "ObjectCache.take", "Daemon._take_in"),
    *("plan_service", "transition", "element_requests"),
)

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default", "resourceVersion": "1"},
    "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
}
COMPLETE = {
    "type": "BOOKMARK",
    "object": {
        "metadata": {
            "resourceVersion": "10",
            "annotations": {"k8s.io/initial-events-end": "true"},
        }
    },
}


def endpoints(*addresses: str) -> dict[str, Any]:
    """Return the EndpointSlice of the Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1",
            "namespace": "default",
            "resourceVersion": str(10 + len(addresses)),
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


class Road:
    """
    Counts the functions of nfproxy that an event passes.

    A function counts if it is on the call stack at one of the `STATIONS`, or when the socket is
    written to, and was called after the event arrived: it is a station, or leads to one. So does
    the innermost coroutine that was waiting for the event; those that await it do not. Not counted
    are helpers that compute a part and return, comprehensions, generator expressions and lambdas,
    and the standard library. Property getters count like functions.
    """

    def __init__(self) -> None:
        self.functions: dict[str, None] = {}
        self._called: set[FrameType] = set()

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record in this thread, and in every thread that starts."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
            self._called.clear()

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        # The argument of the RESUME instruction is 0 at the start of a function, and something
        # else where a coroutine or generator goes on that was waiting.
        if code.co_code[frame.f_lasti + 1] & 3 == 0 and not code.co_name.startswith("<"):
            self._called.add(frame)
        if code.co_qualname in STATIONS:
            self.arrived(frame)

    def arrived(self, frame: FrameType | None) -> None:
        """Take down who called whom up to here."""
        stack: list[str] = []
        was_called = True
        while frame is not None and was_called:
            code = frame.f_code
            if code.co_filename.startswith(PACKAGE) and not code.co_name.startswith("<"):
                was_called = frame in self._called
                stack.append(f"{code.co_filename.removeprefix(PACKAGE)} {code.co_qualname}")
            frame = frame.f_back
        self.functions.update(dict.fromkeys(reversed(stack)))

    def __str__(self) -> str:
        return "\n".join(f"{n} {name}" for n, name in enumerate(self.functions, 1))


class RecordingSocket:
    """A netlink socket that acknowledges what it is given, and no kernel behind it."""

    def __init__(self) -> None:
        self.on_send: Callable[[FrameType], None] = lambda _: None
        self.sent = 0
        self._answers: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.on_send(sys._getframe(1))
        self.sent += 1
        at = 0
        while at < len(data):
            length, _, flags, sequence, _ = struct.unpack_from("=IHHII", data, at)
            if flags & NLM_F_ACK:
                header = struct.pack("=IHHIIi", 36, NLMSG_ERROR, 0, sequence, 0, 0)
                self._answers.append(header + data[at : at + 16])
            at += (length + 3) & ~3
        return len(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self._answers:
            raise BlockingIOError
        return self._answers.pop(0)

    def getsockname(self) -> tuple[int, int]:
        return 1, 0

    def bind(self, address: object) -> None:
        pass

    def setsockopt(self, *args: object) -> None:
        pass

    def close(self) -> None:
        pass


class EmptyKernel(Kernel):
    """The real way to netlink, for tables that are empty and chains that load."""

    def load(self, text: str) -> None:
        pass

    def expect_load(self) -> None:
        pass

    def table_row(self, *args: Any) -> None:
        return None

    def chains(self, *args: Any) -> list[Any]:
        return []

    def elements(self, *args: Any) -> Iterator[Any]:
        return iter(())

    def set_names(self, *args: Any) -> list[str]:
        return []


@contextlib.asynccontextmanager
async def proxying(
    source: Source, sock: RecordingSocket, begin: Callable[[], Any]
) -> AsyncIterator[None]:
    """Run the daemon until it has programmed its first objects, and on."""
    with mock.patch("socket.socket", return_value=sock):
        kernel = EmptyKernel()
    config = NodeConfig(node_name="n1")
    daemon = Daemon(source, kernel, lambda node, patient: config, [Family.IPV4])
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))
    try:
        await begin()
        async with asyncio.timeout(FOREVER_S):
            while not sock.sent:  # noqa: ASYNC110 - the sending thread knows no event loop
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # until the daemon waits again, and has tidied up
        async with asyncio.timeout(FOREVER_S):
            while daemon._schedule.idle_s(monotonic_s()) < 60:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        # Threads that are already running are not recorded.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        yield
    finally:
        stop.set()
        await running


async def road(sock: RecordingSocket, change: Callable[[], Any]) -> Road:
    """Return the road of a change, up to the moment when the socket is written to."""
    found = Road()
    loop, sent = asyncio.get_running_loop(), asyncio.Event()

    def arrived(frame: FrameType) -> None:
        if not sent.is_set():
            found.arrived(frame)
            loop.call_soon_threadsafe(sent.set)

    with found.recording():
        sock.on_send = arrived
        result = change()
        if result is not None:
            await result
        await asyncio.wait_for(sent.wait(), FOREVER_S)
    return found


def test_an_endpointslice_event_passes_few_functions():
    """From a line of the watch stream to the netlink socket."""

    async def case() -> Road:
        sock = RecordingSocket()
        async with (
            scripted() as server,
            Connection(ClientSettings(master=server.url, qps=-1), print) as connection,
            ApiServerSource(connection, "n1", print) as source,
        ):
            streams = {}

            async def begin() -> None:
                for path, objects in (
                    ("/services", [SERVICE]),
                    ("/endpointslices", [endpoints("10.244.1.1")]),
                    ("/servicecidrs", []),
                    ("/nodes", []),
                ):
                    streams[path] = stream = await server.asked(path)
                    events = [{"type": "ADDED", "object": obj} for obj in objects]
                    await stream.send(*events, COMPLETE)

            async with proxying(source, sock, begin):
                event = {"type": "MODIFIED", "object": endpoints("10.244.1.1", "10.244.1.2")}
                return await road(sock, lambda: streams["/endpointslices"].send(event))

    found = asyncio.run(case())
    assert len(found.functions) <= 18, f"{len(found.functions)}\n{found}"
    assert "ObjectCache.put" in str(found)


def test_a_changed_manifest_file_passes_few_functions(tmp_path):
    """From the scan that finds it to the netlink socket."""
    path = tmp_path / "slice.yaml"

    def write(*addresses: str) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(yaml.safe_dump(endpoints(*addresses)))
        fresh.rename(path)

    async def case() -> Road:
        (tmp_path / "service.yaml").write_text(yaml.safe_dump(SERVICE))
        write("10.244.1.1")
        sock = RecordingSocket()
        async with (
            ManifestSource(str(tmp_path), "n1", print) as source,
            proxying(source, sock, lambda: asyncio.sleep(0)),
        ):
            return await road(sock, lambda: write("10.244.1.1", "10.244.1.2"))

    found = asyncio.run(case())
    assert len(found.functions) <= 27, f"{len(found.functions)}\n{found}"
    assert "ObjectCache.replace_file" in str(found)
