"""
Credential plugins: programs that print credentials.

A plugin may hang, print without end, or leave processes behind. So it runs below a small process
(``plugin_child.py``) that ends all of them when nfproxy no longer waits, or is gone.

Source: ``client.authentication.k8s.io`` ExecCredential, and client-go's package
``plugin/pkg/client/auth/exec``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from nfproxy.errors import NfproxyError, reason_of
from nfproxy.host.processes import pids_with_variable
from nfproxy.mismatch import UNREADABLE, mismatch
from nfproxy.text import one_line, quoted, shown_path

#: How long a plugin may run.
PLUGIN_S = 30.0

_CHILD = Path(__file__).with_name("plugin_child.py")
_END_S = 3.0  # how long its processes may take to end
_MAX_OUTPUT = 1 << 20  # bytes
_SHOWN_ERRORS = 4096  # bytes: the last that it printed
_NOT_STARTED = 126
_MARK = "NFPROXY_PLUGIN_RUN"  # a variable that all processes of one run inherit
_REMEDY = "run it by hand to see why"


class Plugin(msgspec.Struct, frozen=True):
    """
    What to run: ``users[].user.exec`` of a kubeconfig.

    `command` is a path, or a name to find in ``PATH``. `environment` comes on top of this process's
    own. `cluster` is what a plugin learns of the cluster that asks for it, None for nothing.
    """

    command: str
    api_version: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    install_hint: str = ""
    cluster: Mapping[str, Any] | None = None


class PluginStatus(msgspec.Struct, rename="camel"):
    """The credentials: a token, or a client certificate with its key."""

    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: str | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: PluginStatus


class PluginError(NfproxyError):
    """A credential plugin gave no credentials. Another run may."""


class PluginRunner:
    """
    Runs credential plugins, one run at a time. For the event loop's thread.

    Requests that come while one runs wait for it. A run that hangs is ended after `PLUGIN_S`; the
    next request starts another.
    """

    def __init__(self) -> None:
        self._running: asyncio.Task[PluginStatus] | None = None

    async def run(self, plugin: Plugin) -> PluginStatus:
        """Return the credentials. Raises PluginError."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(_run(plugin))
        # A request that is cancelled must not end the run that others wait for.
        return await asyncio.shield(self._running)

    async def aclose(self) -> None:
        """End the plugin that runs, with all its processes. Idempotent."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def plugin_error(plugin: Plugin, reason: str, remedy: str = _REMEDY) -> PluginError:
    """Return the error for a plugin that gave nothing that can be used."""
    return PluginError(f"credential plugin {shown_path(plugin.command)}: {reason}", remedy)


async def _run(plugin: Plugin) -> PluginStatus:
    environment = {**os.environ, **dict(plugin.environment), "KUBERNETES_EXEC_INFO": _info(plugin)}
    mark = secrets.token_hex(8)
    environment[_MARK] = mark
    path = shutil.which(plugin.command, path=environment.get("PATH", os.defpath))
    if path is None:
        raise _not_found(plugin)
    words = (sys.executable, "-I", "-S", str(_CHILD), path, *plugin.arguments)
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            env=environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,  # a terminal's ^C is for nfproxy, which then ends the plugin
        )
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise plugin_error(plugin, f"cannot be started: {reason_of(error)}") from error
    try:
        async with asyncio.timeout(PLUGIN_S):
            output, errors, _ = await asyncio.gather(
                _output(process), _last_errors(process), process.wait()
            )
    except TimeoutError:
        reason = f"did not end within {PLUGIN_S:.0f} s, and was killed"
        raise plugin_error(plugin, reason) from None
    finally:
        await _end(process, f"{_MARK}={mark}")
    if output is None:
        raise plugin_error(plugin, f"printed more than {_MAX_OUTPUT >> 20} MB")
    if process.returncode:
        raise plugin_error(plugin, _failure(process.returncode, errors))
    return _credential(plugin, output)


def _info(plugin: Plugin) -> str:
    """Return what the plugin learns, as JSON: ``KUBERNETES_EXEC_INFO``."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.cluster is not None:
        spec["cluster"] = plugin.cluster
    info = {"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}
    return msgspec.json.encode(info).decode()


def _not_found(plugin: Plugin) -> PluginError:
    if "/" not in plugin.command:
        reason = "is not in PATH"
    elif Path(plugin.command).exists():
        reason = "cannot be executed by this user"
    else:
        reason = "does not exist"
    hint = one_line(plugin.install_hint) or "install it on this node, or in the container's image"
    return plugin_error(plugin, reason, hint)


async def _output(process: Process) -> bytes | None:
    """Return standard output; None where it is too long, which ends the plugin."""
    stream = cast("StreamReader", process.stdout)
    parts: list[bytes] = []
    size = 0
    while part := await stream.read(1 << 16):
        parts.append(part)
        size += len(part)
        if size > _MAX_OUTPUT:
            parts = []
            cast("StreamWriter", process.stdin).close()
    return b"".join(parts) if size <= _MAX_OUTPUT else None


async def _last_errors(process: Process) -> bytes:
    """Read standard error to its end, so that it never blocks; return the last bytes."""
    stream = cast("StreamReader", process.stderr)
    last = b""
    while part := await stream.read(1 << 16):
        last = (last + part)[-_SHOWN_ERRORS:]
    return last


async def _end(process: Process, mark: str) -> None:
    """
    End the plugin and all its processes: closing the pipe does that.

    If the process that does it was killed, those with `mark` in their environment are ended here.
    """
    cast("StreamWriter", process.stdin).close()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if (process.returncode or 0) < 0:
        for pid in await asyncio.to_thread(pids_with_variable, mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    # Without an end of its pipes, the event loop would keep them.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await asyncio.gather(*map(_drain, (process.stdout, process.stderr)))


async def _drain(stream: StreamReader | None) -> None:
    if stream is not None:
        await stream.read()


def _failure(code: int, errors: bytes) -> str:
    said = one_line(errors.decode(errors="replace")[-200:])
    if code == _NOT_STARTED:
        return f"cannot be started: {said}" if said else "cannot be started"
    if code > 128:
        try:
            how = f"was ended by {signal.Signals(code - 128).name}"
        except ValueError:
            how = f"failed with status {code}"
    else:
        how = f"failed with status {code}"
    return f"{how}: {said}" if said else how


def _credential(plugin: Plugin, output: bytes) -> PluginStatus:
    """Return what a plugin printed. Its output may be secret: no error quotes it."""
    try:
        found = msgspec.json.decode(output, type=_ExecCredential)
    except UNREADABLE:
        if not output.strip():
            raise plugin_error(plugin, "printed nothing") from None
        what = mismatch(output, _ExecCredential)
        raise plugin_error(plugin, f"printed no ExecCredential: {what}") from None
    if found.kind != "ExecCredential":
        raise plugin_error(plugin, f"printed kind {quoted(found.kind)}, not ExecCredential")
    if found.api_version != plugin.api_version:
        raise plugin_error(
            plugin,
            f"printed apiVersion {quoted(found.api_version)}; the kubeconfig asks for "
            f"{quoted(plugin.api_version)}",
            "set the kubeconfig's exec.apiVersion to the plugin's",
        )
    status = found.status
    if not status.token and not (status.client_certificate_data and status.client_key_data):
        raise plugin_error(plugin, "gave neither a token nor a client certificate with its key")
    return status
