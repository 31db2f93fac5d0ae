"""
Commands of nfproxy as copies of a process that has all modules already.

A new interpreter takes a third of a second of processor time to import them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from support.processes import forkserver

from nfproxy.tools.lab import Namespace

_ROOM = 1 << 13  # bytes that a command line may have
_PATIENCE_S = 60.0


class Forked(subprocess.Popen[str]):
    """A child that another process made for this one; it has no pipes."""

    def __init__(self, pid: int, args: Sequence[str]) -> None:
        """Take its number, and its command line for messages."""
        assert pid > 1, pid  # kill(2) takes other numbers for all processes, or a group
        self.pid = pid
        self.args = list(args)
        self.returncode: int | None = None  # type: ignore[assignment]
        self.stdin = self.stdout = self.stderr = None
        self._child_created = True
        self._waitpid_lock = threading.Lock()
        self._sigint_wait_secs = 0.25

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, without looking again and again."""
        if timeout is not None and self.poll() is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                ended.poll(timeout * 1000)
            finally:
                os.close(descriptor)
            timeout = 0.0
        return super().wait(timeout)


class ForkServer:
    """A running `forkserver`; any thread may call it."""

    def __init__(self, process: subprocess.Popen[bytes], requests: socket.socket) -> None:
        self._process = process
        self._requests = requests
        self._lock = threading.Lock()

    def start(
        self,
        namespace: Namespace,
        words: Sequence[str],
        environment: Mapping[str, str],
        files: Sequence[int],
        prepare: str = "",
    ) -> Forked:
        """
        Start a command in a namespace, with three standard files and some variables more.

        It executes the statements `prepare` before.
        """
        request = {
            "words": list(words),
            "environment": os.environ | environment,
            "directory": str(Path.cwd()),
            "parent": os.getpid(),
            "prepare": prepare,
        }
        with self._lock:
            message = [json.dumps(request).encode()]
            socket.send_fds(self._requests, message, [namespace.fd, *files])
            answer = self._requests.recv(100)
        if not answer:
            raise RuntimeError("the process that has nfproxy's modules has ended")
        return Forked(int(answer), ["nfproxy", *words])


#: The one of this process, while there is one.
_running: list[ForkServer] = []


def fork_server() -> ForkServer | None:
    """Return the one that runs; None where it does not."""
    return _running[0] if _running else None


@contextlib.contextmanager
def running_fork_server(root: Path) -> Iterator[None]:
    """Have one for the package nfproxy in a directory, where this machine allows it."""
    if not forkserver.is_possible():
        yield
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(_PATIENCE_S)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", forkserver.__name__, "x" * _ROOM],
            env=os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"},
            stdin=theirs,
            start_new_session=True,
        )
        theirs.close()
        _running.append(ForkServer(process, ours))
        try:
            yield
        finally:
            _running.clear()
            ours.close()
            process.wait(_PATIENCE_S)
