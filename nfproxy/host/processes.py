"""Processes: what the kernel allows this one, and which others run in its network namespace."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from typing import NamedTuple

from nfproxy.text import shown_name

log = logging.getLogger(__name__)

_PROC = Path("/proc")
_OOM_TRIES = 2  # as kube-proxy
_PR_SET_NAME = 15
_NET_ADMIN = 12  # CAP_NET_ADMIN, a bit's number
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO


class Privileges(NamedTuple):
    """
    What a process may do.

    `capabilities` is the bit mask of its effective capabilities. `has_seccomp_filter` says that a
    filter may forbid system calls as well.
    """

    capabilities: int
    has_seccomp_filter: bool

    @property
    def may_administer_network(self) -> bool:
        """Whether CAP_NET_ADMIN is among the capabilities."""
        return bool(self.capabilities >> _NET_ADMIN & 1)


def own_privileges(proc: Path = _PROC) -> Privileges:
    """Return the privileges of this process."""
    lines = (proc / "self/status").read_text("ascii", "replace").splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Privileges(int(status.get("CapEff", "0"), 16), status.get("Seccomp", "0") != "0")


def may_administer_network() -> bool:
    """Return whether this process has CAP_NET_ADMIN."""
    return own_privileges().may_administer_network


def pids_in_this_network(proc: Path = _PROC, *, surely: bool = False) -> list[int]:
    """
    Return the processes of this network namespace, by number.

    Processes whose network namespace the kernel hides from this one are among them, unless they
    have to be here `surely`.
    """
    here = _link(proc / "self/ns/net") or _link(_PROC / "self/ns/net")
    places = {here} - {""} if surely else {here, ""}
    pids = sorted(int(path.name) for path in proc.iterdir() if path.name.isdigit())
    return [pid for pid in pids if _link(proc / str(pid) / "ns/net") in places]


def name_of(pid: int, proc: Path = _PROC) -> str:
    """Return the name of a process (up to 15 characters), "" if it has ended."""
    try:
        return (proc / str(pid) / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def starter_of(pid: int, name: str, proc: Path = _PROC) -> str:
    """
    Return what started a process: ``kube-flannel (pid 812)``.

    "" if it has ended, has another name by now (its number went to another one), or is a child of
    the first process, which also takes in children of processes that have ended.
    """
    try:
        # The name, in parentheses, may hold anything; the state and the parent follow it.
        head, _, rest = (proc / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")
        parent = int(rest.split()[1])
    except (OSError, ValueError, IndexError):
        return ""
    started_by = name_of(parent, proc) if parent > 1 and head.partition("(")[2] == name else ""
    return f"{shown_name(started_by)} (pid {parent})" if started_by else ""


def set_process_name(name: str) -> None:
    """Set the name of this thread, of the process if it is the first, and of later threads."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def command_line_of(pid: int, proc: Path = _PROC) -> list[str]:
    """Return the words of a process's command line; none if it has ended, or is the kernel's."""
    try:
        text = (proc / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return []
    return [word for word in text.split("\0") if word]


def pids_with_variable(variable: str, proc: Path = _PROC) -> list[int]:
    """Return the processes that this one may look at whose environment has ``NAME=VALUE``."""
    wanted, found = variable.encode(), []
    for directory in proc.iterdir():
        if directory.name.isdigit():
            try:
                if wanted in (directory / "environ").read_bytes().split(b"\0"):
                    found.append(int(directory.name))
            except OSError:  # it has ended, or is another user's
                continue
    return found


def are_others_hidden(proc: Path = _PROC) -> bool:
    """Return whether a pid namespace hides processes of the node from this one."""
    return _link(proc / "self/ns/pid") not in (_INITIAL_PID_NAMESPACE, "")


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def set_oom_score_adj(value: int, *, path: Path = _PROC / "self/oom_score_adj") -> None:
    """
    Set this process's OOM score adjustment (``oomScoreAdj``, -1000 to 1000).

    Never raises, and logs a failure at level debug. Lowering the value takes CAP_SYS_RESOURCE,
    which nfproxy's container does not have: there the kubelet sets it, for pods of priority class
    system-node-critical.
    """
    for left in reversed(range(_OOM_TRIES)):
        try:
            path.write_text(f"{value}\n", "ascii")
        except OSError as error:
            if not left:
                log.debug(
                    "cannot set the OOM score adjustment to %d: %s; it stays at what %s says; "
                    "lowering it takes the capability SYS_RESOURCE",
                    value,
                    error.strerror,
                    path,
                )
        else:
            return
