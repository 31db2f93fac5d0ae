"""
``nfproxy`` with faults inside: takes the place of ``nfproxy/__main__.py`` in a copy of the package.

A fault is a file, named after it, in the directory ``faults`` beside this file. Its text says how
often it happens, or what it is about.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nfproxy import clock

FAULTS = Path(__file__).with_name("faults")
_PATIENCE_S = 5.0  # for a libnftables that hangs
_BUFFER = 1 << 18  # bytes for announcements of changes
_API_PATIENCE_S = 1.0  # for the API server, and the longest Retry-After

#: Runs in place of the child that runs libnftables: with a script at hand it does what one of the
#: files says, once.
_CHILD = """
import os, pathlib, runpy, sys, time, types
faults = pathlib.Path({faults!r})
scripts = sys.stdin.buffer
def readline():
    line = scripts.readline()
    for name in ("crash", "hang"):
        if line and (faults / name).exists():
            (faults / name).unlink(missing_ok=True)
            os.kill(os.getpid(), 11) if name == "crash" else None
            parent = os.getppid()
            while os.getppid() == parent:  # not longer than the test
                time.sleep(0.1)
    return line
sys.stdin = types.SimpleNamespace(
    buffer=types.SimpleNamespace(readline=readline, read=scripts.read)
)
runpy.run_path({child!r}, run_name="__main__")
"""


def taken(name: str) -> bool:
    """Return whether a fault is to happen now, and count that."""
    path = FAULTS / name
    try:
        left = int(path.read_text())
    except (OSError, ValueError):
        return False
    path.write_text(str(left - 1)) if left > 1 else path.unlink(missing_ok=True)
    return True


def refuse_transactions() -> None:
    """Let the kernel refuse transactions: by an errno, or for an element that one holds."""
    from nfproxy.errors import TransactionError
    from nfproxy.netlink import sockets
    from nfproxy.netlink.nftables import Request

    commit = sockets.NftSocket.commit

    def refusing(self: sockets.NftSocket, requests: Sequence[Request]) -> None:
        for name in ("ENOMEM", "ENOBUFS", "EPERM"):
            if requests and taken(name):
                raise TransactionError(f"injected: {name}", code=name)
        refused = FAULTS / "refused"
        if refused.exists():
            key = bytes.fromhex(refused.read_text())
            if any(key in request.payload for request in requests):
                raise TransactionError(f"injected: {os.strerror(errno.EINVAL)}", code="EINVAL")
        commit(self, requests)

    sockets.NftSocket.commit = refusing  # type: ignore[method-assign]


def break_libnftables() -> None:
    """Let the process that runs libnftables crash or hang."""
    from nfproxy.dataplane import libnftables

    child = FAULTS.with_name("child.py")
    child.write_text(_CHILD.format(faults=str(FAULTS), child=str(libnftables._CHILD)))
    libnftables._CHILD = child
    libnftables.Child.run.__defaults__ = (_PATIENCE_S,)


def shrink_buffer() -> None:
    """Let nfproxy lose announcements sooner than it would."""
    from nfproxy.dataplane.notifications import ForeignChanges

    _, *others = ForeignChanges.__init__.__defaults__ or ()
    ForeignChanges.__init__.__defaults__ = (_BUFFER, *others)


def hurry() -> None:
    """Let nfproxy wait for seconds where it would wait for minutes: a fault is shorter."""
    import functools

    import msgspec

    from nfproxy import backoff
    from nfproxy.apiserver import bodies, connection, reflector
    from nfproxy.apiserver.transport import ApiRequest

    backoff.MAX_RETRY_AFTER_S = bodies.PATIENCE_S = _API_PATIENCE_S
    timeouts = functools.partial(reflector.WatchTimeouts, relist_s=_API_PATIENCE_S)
    reflector.WatchTimeouts = timeouts  # type: ignore[assignment,misc]
    exchange = connection.exchange

    def impatient(transport: Any, server: Any, request: ApiRequest, *others: Any) -> Any:
        head_s = min(request.head_s, _API_PATIENCE_S)
        return exchange(transport, server, msgspec.structs.replace(request, head_s=head_s), *others)

    connection.exchange = impatient


def shift_clock() -> None:
    """Let the time of day jump by the seconds that the file ``clock`` holds."""

    def unix_s() -> float:
        try:
            return time.time() + float((FAULTS / "clock").read_text())
        except (OSError, ValueError):
            return time.time()

    def now() -> Any:
        return type(real())(time.monotonic(), int(unix_s() * 1e9))

    real = clock.now
    clock.unix_s, clock.now = unix_s, now


def fill_disk() -> None:
    """Let the disk be full that the log is on, while the file ``disk`` is there."""
    log = os.dup(2)
    full = os.open("/dev/full", os.O_WRONLY)
    was = False
    while True:
        time.sleep(0.05)
        if (FAULTS / "disk").exists() != was:
            was = not was
            os.dup2(full if was else log, 2)


if __name__ == "__main__":
    FAULTS.mkdir(exist_ok=True)
    shift_clock()  # before other modules import the clock's functions
    refuse_transactions()
    break_libnftables()
    shrink_buffer()
    hurry()
    from nfproxy.cli import run_main

    if sys.argv[1] == "run":
        threading.Thread(target=fill_disk, daemon=True).start()
    run_main()
