"""
Runs one credential plugin, and sees to it that no process of it outlives this one's purpose.

A script, not a module to import; its arguments are the plugin's path and arguments. Standard input
is a pipe from nfproxy: when it closes, because nfproxy gives up or has died in whatever way, the
plugin ends with all its processes. So do those that it leaves behind. The exit status is the
plugin's, or 128 and the number of the signal that ended it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_END_TRIES, _END_PAUSE_S = 400, 0.005  # how long killed processes may take to end


def main() -> int:
    """Run the plugin; return its exit status."""
    prctl = ctypes.CDLL(None).prctl
    # A process whose parent ends becomes a child of this one, which can find and end it.
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # A crash must not leave a core dump: the plugin's memory holds credentials.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    plugin = os.fork()
    if plugin == 0:
        _become_plugin(prctl)
    status = _wait(plugin, reader)
    _end_all(plugin)
    if status is None:
        return 128 + signal.SIGKILL
    return -status + 128 if status < 0 else status


def _become_plugin(prctl: Callable[..., int]) -> None:
    try:
        os.setpgid(0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the kubeconfig names it
    except OSError as error:
        os.write(2, f"{error.strerror}\n".encode())
    os._exit(126)


def _wait(plugin: int, children: int) -> int | None:
    """Return how the plugin ended (negative: by a signal), None if nfproxy does not wait."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(children, select.POLLIN)
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == plugin:
            return os.waitstatus_to_exitcode(status)
        if ended:
            continue
        ready = [descriptor for descriptor, _ in poll.poll()]
        if 0 in ready and not os.read(0, 4096):
            return None
        if children in ready:
            os.read(children, 4096)


def _end_all(group: int) -> None:
    """Kill the plugin's process group, and every process that has become our child."""
    for _ in range(_END_TRIES):
        _kill(os.killpg, group)
        for process in _children():
            _kill(os.kill, process)
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            select.select([], [], [], _END_PAUSE_S)


def _kill(how: Callable[[int, int], None], number: int) -> None:
    try:
        how(number, signal.SIGKILL)
    except OSError:  # it has ended, or belongs to another user
        return


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123
            return [int(word) for word in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return []


if __name__ == "__main__":
    sys.exit(main())
