"""
The stand-in as tests and benchmarks see it: a context manager with commands.

>>> with StandIn() as api:
...     api.apply(service("web"), endpoint_slice("web", "10.244.1.11"))
...     kubeconfig = api.write_kubeconfig(path)
...     api.wait_for_watches("services")
...     api.close_watches("services", abort=True)
"""

from __future__ import annotations

import asyncio
import inspect
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
from support.apiserver.api import Api
from support.apiserver.host import Host
from support.apiserver.server import Settings

from nfproxy.tools.lab import Namespace

ADDRESSES = ("127.0.0.1", "::1")


class StandIn(Api):
    """
    A stand-in in a thread of this process, listening in a network namespace (None: ours).

    It listens when the constructor returns. `settings` are those of `Settings`.
    """

    def __init__(
        self,
        namespace: Namespace | None = None,
        *,
        addresses: Sequence[str] = ADDRESSES,
        port: int = 0,
        **settings: Any,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="apiserver-"))
        self._make_socket = namespace.socket if namespace else socket.socket
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="API server stand-in", daemon=True
        )
        self._thread.start()
        wanted = msgspec.convert(settings, Settings)
        self._addresses = tuple(addresses)
        self._beside: list[Beside] = []
        try:
            self._host: Host = self._run(self._open(tuple(addresses), port, wanted))
        except BaseException:
            self._end()
            raise
        self.port = self._host.listener.port

    async def _open(self, addresses: Sequence[str], port: int, settings: Settings) -> Host:
        return Host(self.directory, self._make_socket, addresses, port, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def beside(self, **settings: Any) -> Beside:
        """Start another API server of the same cluster, at another port; it ends with this one."""
        made = Beside(self, self._run(self._open_beside(msgspec.convert(settings, Settings))))
        self._beside.append(made)
        return made

    async def _open_beside(self, settings: Settings) -> Host:
        return Host(self.directory, self._make_socket, self._addresses, 0, settings, self._host)

    @property
    def changed_s(self) -> float:
        """When the last change was about to be sent to watches, on the monotonic clock."""
        return self._host.server.changed_s

    def close(self) -> None:
        """End it, with all connections. Idempotent."""
        if self._thread.is_alive():
            for other in self._beside:
                other.close()
            self._run(self._host.close())
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _perform(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> Any:
        return self._run(carry_out(function, self._host, args, kwargs))

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Beside(Api):
    """Another API server beside a stand-in; see `StandIn.beside`."""

    def __init__(self, first: StandIn, host: Host) -> None:
        self.directory = first.directory
        self.port = host.listener.port
        self._host = host
        self._run = first._run

    def close(self) -> None:
        """End it, with all connections."""
        self._run(self._host.close())

    def _perform(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> Any:
        return self._run(carry_out(function, self._host, args, kwargs))


async def carry_out(
    function: Callable[..., Any], host: Host, args: Sequence[Any], kwargs: Any
) -> Any:
    """Carry out a command, in the event loop of the server."""
    result = function(host, *args, **kwargs)
    return await result if inspect.isawaitable(result) else result
