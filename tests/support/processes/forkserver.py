"""
A program that has all of nfproxy's modules, and becomes one of its commands when asked to.

Each request comes over the socket that is its standard input, and makes a copy of this process,
which is a child of the process that asked. `forked.py` is the other side.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import platform
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import nfproxy
from nfproxy.cli import run_main
from nfproxy.host.privatenamespace import setns

_CLONE = {"x86_64": 56, "aarch64": 220}  # the number of clone(2)
_CLONE_PARENT = 0x8000
_PR_SET_PDEATHSIG = 1
_FILES = 4  # the network namespace, and three standard ones
_MOST_BYTES = 1 << 17
_ARGUMENTS = slice(47, 49)  # where they begin and end, among the fields of /proc/self/stat

_libc = ctypes.PyDLL(None)  # without letting go of the interpreter's lock
_api = ctypes.pythonapi


def is_possible() -> bool:
    """Return whether this machine's clone(2) is known."""
    return platform.machine() in _CLONE


def _import_all() -> None:
    for module in pkgutil.walk_packages(nfproxy.__path__, "nfproxy."):
        if module.name.rpartition(".")[2] not in ("__main__", "libnftables_child", "plugin_child"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # so that a copy does not touch, and thereby copy, all pages


def _fork() -> int:
    """Make a child of this process's parent: os.fork() with CLONE_PARENT."""
    _api.PyOS_BeforeFork()
    pid = int(_libc.syscall(_CLONE[platform.machine()], _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if pid:
        _api.PyOS_AfterFork_Parent()
    else:
        _api.PyOS_AfterFork_Child()
    if pid < 0:
        raise OSError("no process could be made")  # never let -1 pass for the number of one
    return pid


def _next_command() -> list[str]:
    """Answer requests; in a copy, return the words of the command that it is to become."""
    with socket.socket(fileno=os.dup(0)) as requests:
        while True:
            message, files, _, _ = socket.recv_fds(requests, _MOST_BYTES, _FILES)
            if not message:
                sys.exit()
            if not (pid := _fork()):
                break
            requests.send(str(pid).encode())
            for file in files:
                os.close(file)
    request = json.loads(message)
    os.setsid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != request["parent"]:
        sys.exit(1)  # it has ended already
    setns(files[0])
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
    os.closerange(3, max(files) + 1)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    words: list[str] = request["words"]
    exec(request["prepare"], {})  # noqa: S102 - a test's own words
    _show_command_line([sys.executable, "-P", "-m", "nfproxy", *words])
    return words


def _show_command_line(words: Sequence[str]) -> None:
    """Write it over the one of this program, for others to read: see /proc/PID/cmdline."""
    # The name of the program, in parentheses, is the only field with spaces.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = (int(field) for field in fields[_ARGUMENTS.start - 2 : _ARGUMENTS.stop - 2])
    text = b"".join(word.encode() + b"\0" for word in words)
    assert len(text) < end - begin, "the command line is longer than this program's"
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, text, len(text))


def _become(words: Sequence[str]) -> NoReturn:
    """
    Run a command, and end as an interpreter does, but without taking all modules apart.

    That would copy every page: it takes half of the processor time of a short command.
    """
    status: object = 1
    sys.argv = ["nfproxy", *words]
    try:
        run_main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined] - waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    _import_all()
    _become(_next_command())
