"""The memory cgroup of a container, where this machine lets us make one."""

from __future__ import annotations

import contextlib
import itertools
import os
from functools import cache
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PARENT = "nfproxy-tests-"
_numbers = itertools.count(1)


@cache
def writable() -> bool:
    """
    Return whether a container's memory can be limited here: as root, outside of user namespaces.

    On cgroup v2 a container's own root cgroup has processes in it and can have no children with
    controllers; there, and without root, containers run without a limit.
    """
    trial = Path(f"/nfproxy-trial-{os.getpid()}")
    base = _base()
    if base is None or not os.access(base, os.W_OK):
        return False
    made = base / trial.name
    try:
        made.mkdir()
        return (made / _limit_file()).exists()
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            made.rmdir()


def new_path(name: str) -> str:
    """Return a cgroup path for a container, "" where there can be none."""
    return f"/{_PARENT}{os.getpid()}/{name}-{next(_numbers)}" if writable() else ""


def sweep() -> None:
    """Remove the cgroups of this process, and those that processes which are gone have left."""
    for base in (_ROOT, *(path for path in _ROOT.iterdir() if path.is_dir())):
        for parent in base.glob(f"{_PARENT}*"):
            pid = int(parent.name.removeprefix(_PARENT))
            if pid == os.getpid() or not Path(f"/proc/{pid}").exists():
                for made in (*parent.iterdir(), parent):
                    with contextlib.suppress(OSError):  # a file; or a process is in it yet
                        made.rmdir()


def directory(path: str) -> Path | None:
    """Return the directory of a cgroup, which may not be there yet; None where there is none."""
    base = _base()
    return base / path.lstrip("/") if path and base is not None else None


def peak_bytes(path: str) -> int | None:
    """Return the most memory a cgroup has used so far, None where there is no cgroup."""
    where = directory(path)
    if where is None:
        return None
    name = "memory.peak" if _unified() else "memory.max_usage_in_bytes"
    try:
        return int((where / name).read_text())
    except OSError:
        return None


def limit_bytes(path: str) -> int | None:
    """Return the limit in force in a cgroup, None where there is no cgroup."""
    where = directory(path)
    return int((where / _limit_file()).read_text()) if where is not None else None


def _unified() -> bool:
    return (_ROOT / "cgroup.controllers").exists()


def _base() -> Path | None:
    base = _ROOT if _unified() else _ROOT / "memory"
    return base if base.is_dir() else None


def _limit_file() -> str:
    return "memory.max" if _unified() else "memory.limit_in_bytes"
