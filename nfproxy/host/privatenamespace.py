"""Namespaces for this process: those that root may make, or those of a private user namespace."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from nfproxy.errors import MissingFeatureError

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

REMEDY = (
    "run it as root (sudo), or allow unprivileged user namespaces: "
    "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), "
    "kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces=10000; "
    "in a container, run it with --privileged"
)

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_entered = False


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (unshare(2)). Raises OSError."""
    _check("unshare", _libc.unshare(flags))


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace behind `fd`. Raises OSError."""
    _check("setns", _libc.setns(fd, CLONE_NEWNET))


def _check(name: str, result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


def in_private_namespace() -> bool:
    """Return whether `enter_private_namespace` moved this process into a user namespace."""
    return _entered


def can_make_network_namespaces() -> bool:
    """
    Enter a new network namespace and come back; return whether that worked.

    This does not use a thread: the kernel may still know one that has been joined, and then
    refuses to move the process into a user namespace.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        setns(home)
    except PermissionError:
        return False
    finally:
        os.close(home)
    return True


def enter_private_namespace() -> bool:
    """
    Make sure that this process may make network namespaces; return whether it had to move.

    A process that may make them stays where it is. Any other moves, for good, into its own user,
    network and mount namespaces, where it is root. Call this early: the kernel moves only a process
    without other threads. Raises MissingFeatureError where the machine does not allow it.
    """
    global _entered
    if _entered or can_make_network_namespaces():
        return False
    user, group = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS)
        # An unprivileged process may map its group only after giving up setgroups(2).
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:
        what = (
            "a process with several threads cannot enter a user namespace"
            if error.errno == errno.EINVAL
            else f"network namespaces need root or a user namespace ({error.strerror})"
        )
        raise MissingFeatureError(what, REMEDY) from error
    if not can_make_network_namespaces():
        raise MissingFeatureError("this user namespace may not make network namespaces", REMEDY)
    _entered = True
    return True


def in_new_network_namespace(function: Callable[[], T]) -> T:
    """
    Call a function in a new network namespace, which ends with the call.

    Raises MissingFeatureError if this process may not make one, which takes CAP_SYS_ADMIN.
    """

    def work() -> T:
        try:
            unshare(CLONE_NEWNET)
        except OSError as error:
            what = f"cannot make a new network namespace ({error.strerror})"
            raise MissingFeatureError(what, "run with CAP_SYS_ADMIN") from error
        return function()

    # A network namespace belongs to a thread. This one never comes back from its own, so it must
    # not be a thread that does other work.
    with ThreadPoolExecutor(1, "network-namespace") as thread:
        return thread.submit(work).result()
