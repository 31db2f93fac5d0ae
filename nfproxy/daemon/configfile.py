"""
The configuration file is read once; when it is rewritten, the process ends, to be started anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from nfproxy.errors import ConfigError

_LOOK_S = 5.0


class ConfigChangedError(ConfigError):
    """The configuration file is another one now."""


async def until_config_changes(path: str, look_s: float = _LOOK_S) -> None:
    """
    Wait until the file has another content, then raise ConfigChangedError.

    As kube-proxy does, for a file that is written to or replaced under its name. A ConfigMap's
    update is something else: it puts a link to another file in place and removes this one, and
    all nodes of a cluster would start anew at once. Whoever edits a ConfigMap restarts the
    DaemonSet.
    """
    real = Path(os.path.realpath(path))  # noqa: ASYNC240 - at start, once
    first = _digest(real)
    seen = _stamp(real)
    while True:
        await asyncio.sleep(look_s)
        stamp = _stamp(real)
        if stamp == seen or stamp is None:
            continue
        seen = stamp
        digest = _digest(real)
        if digest is not None and digest != first:
            raise ConfigChangedError(f"{path} has changed; ending, to be started with it")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
