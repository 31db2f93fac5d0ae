"""
Leave to make namespaces: root's own, or that of a private user namespace.
"""

import ctypes
import errno
import os
from pathlib import Path

from nfproxy.errors import MissingFeatureError

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

REMEDY = (
    "Run it as root (sudo), or allow unprivileged user namespaces: "
    "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), "
    "kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces=10000; "
    "in a container, run it with --privileged."
)

_libc = ctypes.CDLL(None, use_errno=True)
_entered = False


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (unshare(2)). Raises OSError."""
    if _libc.unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace behind `fd`. Raises OSError."""
    if _libc.setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def in_private_namespace() -> bool:
    """Say whether `enter_private_namespace` moved this process into a user namespace."""
    return _entered


def can_make_network_namespaces() -> bool:
    """
    Try it: enter a new one and come back.

    Not in a thread: one that has been joined may still exist for the kernel, which
    then refuses to move the process into a user namespace.
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
    Make sure that this process may build a lab; return whether it had to move.

    A process that may make network namespaces is left as it is. Another is moved,
    for good, into its own user, network and mount namespaces, where it is root.
    Call it early: the kernel moves only a process without other threads.
    Raises MissingFeatureError when the machine does not allow that.
    """
    global _entered
    if _entered or can_make_network_namespaces():
        return False
    user, group = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS)
        # an unprivileged process may map its group only after giving up setgroups(2)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:
        raise MissingFeatureError(_explain(error)) from error
    if not can_make_network_namespaces():
        raise MissingFeatureError(f"This user namespace may not make network namespaces. {REMEDY}")
    _entered = True
    return True


def _explain(error: OSError) -> str:
    if error.errno == errno.EINVAL:
        return f"A process with several threads cannot enter a user namespace. {REMEDY}"
    return f"Network namespaces need root or a user namespace ({error.strerror}). {REMEDY}"
