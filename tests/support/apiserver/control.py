"""
Commands for a stand-in in a process of its own: HTTP over a UNIX socket.

A UNIX socket is found by its path, in whatever network namespace the server listens:

    curl --unix-socket CONTROL http://stand-in/compact --data '{}'
    curl --unix-socket CONTROL http://stand-in/fail_next \
        --data '{"args": ["services", 503], "kwargs": {"retry_after_s": 1}}'
"""

from __future__ import annotations

import functools
import http.client
import inspect
import json
import os
import socket
import subprocess
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
from aiohttp import web
from support.apiserver import commands
from support.apiserver.api import Api
from support.apiserver.host import Host
from support.apiserver.standin import ADDRESSES, carry_out

from nfproxy.tools.lab import Namespace

_ROOT = Path(__file__).parents[3]
_START_S = 20.0
_BODY_MAX = 1 << 30  # objects for a benchmark come as one body
_COMMANDS = {
    name: function
    for name, function in inspect.getmembers(commands, inspect.isfunction)
    if not name.startswith("_") and function.__module__ == commands.__name__
}


class _Call(msgspec.Struct):
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


async def serve(host: Host, path: Path) -> web.AppRunner:
    """Take commands at a UNIX socket until the runner is cleaned up."""

    async def handle(request: web.Request) -> web.Response:
        function = _COMMANDS.get(request.match_info["command"])
        if function is None:
            return _answer(404, error=f"the commands are {', '.join(_COMMANDS)}")
        try:
            call = msgspec.json.decode(await request.read() or b"{}", type=_Call)
            result = await carry_out(function, host, call.args, call.kwargs)
        except (LookupError, TypeError, ValueError, msgspec.MsgspecError) as error:
            return _answer(400, error=str(error), type=type(error).__name__)
        return _answer(200, result=result)

    app = web.Application(client_max_size=_BODY_MAX)
    app.router.add_post("/{command}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    return runner


def _answer(code: int, **content: Any) -> web.Response:
    body = msgspec.json.encode(content)
    return web.Response(body=body, status=code, content_type="application/json")


class StandInProcess(Api):
    """
    A stand-in in a process of its own, so its work is not ours; else like `StandIn`.

    Of its settings only those that the command line has can be given here; `configure` has all.
    """

    def __init__(
        self,
        namespace: Namespace | None = None,
        *,
        addresses: Sequence[str] = ADDRESSES,
        port: int = 0,
        **settings: Any,
    ) -> None:
        where = [word for address in addresses for word in ("--address", address)]
        argv = [
            *("env", f"PYTHONPATH={_ROOT}{os.pathsep}{_ROOT / 'tests'}"),
            *(sys.executable, "-P", "-m", "support.apiserver", "--port", str(port), *where),
        ]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        start: Callable[..., subprocess.Popen[Any]] = (
            namespace.start if namespace else subprocess.Popen
        )
        self.process = start(argv, **pipes)
        assert self.process.stdout
        said = self.process.stdout.readline()
        if not said:
            raise RuntimeError(f"the stand-in ended with {self.process.wait()} before it listened")
        facts = json.loads(said)
        self.port, self.directory = facts["port"], Path(facts["directory"])
        self._connection = _UnixConnection(facts["control"])
        if settings:
            self.configure(**settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process. Idempotent."""
        self._connection.close()
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()  # that ends it
        self.process.wait()
        self.process.stdout.close()

    def _perform(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> Any:
        body = msgspec.json.encode(_Call([*args], kwargs))
        self._connection.request("POST", f"/{function.__name__}", body)
        answer = json.loads(self._connection.getresponse().read())
        if "error" in answer:
            error = {"LookupError": LookupError}.get(answer.get("type"), ValueError)
            raise error(answer["error"])
        return msgspec.convert(answer["result"], _result_type(function))


@functools.cache
def _result_type(function: Callable[..., Any]) -> Any:
    return typing.get_type_hints(function)["return"]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("stand-in")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)
