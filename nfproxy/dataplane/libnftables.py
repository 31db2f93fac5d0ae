"""
Nft text into the kernel, by libnftables in a short-lived child process.

The child may crash or hang without harm: each script is one transaction, in force as a
whole or not at all, and the caller learns which sentence to log.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from nfproxy.errors import DataplaneError, MissingFeatureError, TransactionError
from nfproxy.netlink.sockets import NOT_PERMITTED_REMEDY

_CHILD = Path(__file__).with_name("libnftables_child.py")
_ERROR_LIMIT = 1200
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE)
TIMEOUT_S = 120.0

#: Codes of the DataplaneError of a child that crashed, or did not finish in time.
CRASHED, TIMED_OUT = "libnftables crashed", "libnftables timed out"


def load_text(
    text: str,
    *,
    check: bool = False,
    timeout_s: float = TIMEOUT_S,
    started: Callable[[int], object] = lambda _: None,
) -> str:
    """
    Run an nft script as one transaction and return what it prints.

    With `check` the script is only validated (libnftables' dry run). `started` is told the child's
    process id, which is also its netlink port, before it changes anything. Raises TransactionError
    where it is refused, DataplaneError where the child crashed or hung (then the script may or may
    not be in force: read back before going on), MissingFeatureError without libnftables.
    """
    return _run("--check" if check else "--run", text, timeout_s, started)


def library_version(timeout_s: float = TIMEOUT_S) -> str:
    """
    Return the version of libnftables, such as ``1.0.6``, "" where it does not say.

    It says so with each listing in JSON. Raises as `load_text` does.
    """
    found = re.search(r'"version": *"([^"]{1,32})"', _run("--json", "list tables", timeout_s))
    return found[1] if found else ""


def _run(
    mode: str, text: str, timeout_s: float, started: Callable[[int], object] = lambda _: None
) -> str:
    command = [sys.executable, "-I", "-S", str(_CHILD), mode, _bindings_path()]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: what has been begun is to be finished
        )
    except OSError as error:
        raise DataplaneError(f"cannot start a process for libnftables: {error}") from error
    with child:
        started(child.pid)
        try:
            out, err = child.communicate(text.encode(), timeout_s)
        except BaseException as error:
            child.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise DataplaneError(
                f"libnftables did not finish within {timeout_s:g} s; its process was killed",
                code=TIMED_OUT,
            ) from None
    errors = cut(err.decode("utf-8", "replace"))
    if child.returncode == 0:
        return out.decode("utf-8", "replace")
    if child.returncode == 1:
        # libnftables gives no number: its text is all there is.
        remedy = NOT_PERMITTED_REMEDY if os.strerror(errno.EPERM) in errors else ""
        raise TransactionError(f"libnftables refused the script: {errors}", remedy)
    if child.returncode == 3:
        raise MissingFeatureError(
            f"libnftables cannot be loaded ({errors})",
            "install the package libnftables1 (Debian, Ubuntu), nftables (Alpine, Arch, RHEL)",
        )
    raise DataplaneError(
        f"libnftables ended with {_ending(child.returncode)} ({errors})", code=CRASHED
    )


def _ending(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    if -code in _CRASHES:
        return (
            f"{signal.Signals(-code).name}, as an older one can on what a newer nft wrote into "
            "this network namespace: see `nft list ruleset`"
        )
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _bindings_path() -> str:
    """Return the directory that holds the Python bindings (pip-nftables)."""
    found = importlib.util.find_spec("nftables")
    if found is None or found.origin is None:
        raise MissingFeatureError(
            "the Python bindings of libnftables are missing", "pip install pip-nftables"
        )
    origin = Path(found.origin)
    return str(origin.parents[1] if origin.name == "__init__.py" else origin.parent)


def cut(text: str) -> str:
    """
    Return an error text fit for a log line.

    For a failing element libnftables prints the whole command, megabytes of it.
    """
    lines = [line[:200].strip() for line in text.splitlines() if line.strip(" ^~\t")]
    joined = " | ".join(lines[:6])
    return joined[:_ERROR_LIMIT] or "no message"
