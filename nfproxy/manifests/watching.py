"""
The file system's events about the manifest files.

inotify watches given directories; it follows neither a link nor a directory that is replaced by
another of its name. So beside the tree itself, the watch covers the way to it, name by name: every
directory on the path, and the targets of links.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
from watchfiles import Change, awatch

from nfproxy.errors import reason_of
from nfproxy.host.paths import follow

# An event is passed on after a step without another, and after the limit at the latest.
_STEP_MS = 20
_LIMIT_MS = 400

_Identity = tuple[int, int]


class Targets(msgspec.Struct, frozen=True):
    """
    What to watch.

    `tree` is a directory to watch with all below it, "" for none. `names` maps each directory on
    the way to the names in it that matter. `identities` are those of all these directories:
    when one is replaced by another, the watch has to be set up again.
    """

    tree: str
    names: dict[str, frozenset[str]]
    identities: dict[str, _Identity]


def targets(path: str, links: Iterable[str]) -> Targets:
    """Return what to watch for all changes at and below a path with links in it."""
    root = os.path.abspath(path)  # noqa: PTH100 - without following links
    real = os.path.realpath(root)
    names: dict[str, set[str]] = {}
    for place in (root, *links):
        for directory, name in follow(os.path.abspath(place)).lookups:  # noqa: PTH100
            if not os.path.isdir(directory):  # noqa: PTH112 - the way breaks off before
                break
            if place == root or not f"{directory}/".startswith(f"{real.rstrip('/')}/"):
                names.setdefault(directory, set()).add(name)
    tree = root if _identity(root) and Path(root).is_dir() else ""
    identities = {place: _identity(place) for place in (*names, *filter(None, [tree]))}
    return Targets(
        tree,
        {directory: frozenset(names[directory]) for directory in sorted(names)},
        {place: identity for place, identity in identities.items() if identity},
    )


def _identity(path: str) -> _Identity | None:
    """Return what a directory is, whatever its name; None where there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Watch:
    """
    Waits until something may have changed at or below its targets.

    Use within one event loop: `aim` and `wait` in turns, and `close` in the end.
    """

    def __init__(self) -> None:
        self._targets: Targets | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._paths: set[str] = set()
        self.error = ""

    async def aim(self, wanted: Targets) -> None:
        """Watch these targets and no others. No event after the return is missed."""
        if wanted == self._targets and not self.error:
            return
        await self.close()
        self._targets, self.error = wanted, ""
        ways = [directory for directory in wanted.names if directory in wanted.identities]
        self._tasks = [asyncio.create_task(self._listen(ways, wanted.names))]
        if wanted.tree:
            self._tasks.append(asyncio.create_task(self._listen([wanted.tree], None)))
        # awatch opens inotify before it first waits, so one turn of the loop is enough.
        await asyncio.sleep(0)
        if self.error:
            self._changed.clear()  # known at once, no reason to wake up for

    async def wait(self, timeout_s: float | None) -> set[str]:
        """Return the paths that events named: at an event, or after the timeout."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        self._changed.clear()
        paths, self._paths = self._paths, set()
        return paths

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks, self._targets = [], None

    async def _listen(self, paths: list[str], names: dict[str, frozenset[str]] | None) -> None:
        """Wake `wait` at changes: in a whole tree, or of some names in some directories."""

        def matters(change: Change, path: str) -> bool:
            directory, _, name = path.rpartition("/")
            return names is None or name in names.get(directory or "/", ())

        try:
            async for changes in awatch(
                *paths,
                watch_filter=matters,
                debounce=_LIMIT_MS,
                step=_STEP_MS,
                recursive=names is None,
                force_polling=False,
                ignore_permission_denied=True,
            ):
                self._paths |= {path for _, path in changes}
                self._changed.set()
        except OSError as error:
            self.error = reason_of(error)
            self._changed.set()
        except RuntimeError:  # the library's own: too many watches; a directory just gone
            self.error = "the kernel gives no watch"
            self._changed.set()
