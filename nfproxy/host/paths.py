"""
Paths with symbolic links, and files of a host whose root directory is mounted somewhere.

The authors of a host's files may be hostile.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nfproxy.errors import InputError, reason_of
from nfproxy.text import shorten

_FILE_LIMIT = 1 << 20  # bytes that are read of a file
_LINKS = 40  # as the kernel
_NAMES_LIMIT = 1000  # names of one directory


class Walk(NamedTuple):
    """
    How the kernel gets to a path.

    `end` is the path without links, None after more links than the kernel follows. `lookups` are
    the names it looks up on the way, each as (directory, name).
    """

    end: str | None
    lookups: list[tuple[str, str]]


def follow(path: str, root: str = "") -> Walk:
    """
    Follow an absolute path with its symbolic links, as a process with that root directory would.

    A part that is missing counts as a directory. Nothing is opened.
    """
    here, links = "/", 0
    lookups = []
    waiting = deque(path.split("/"))
    while waiting:
        name = waiting.popleft()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120 - of text
            continue
        lookups.append((here, name))
        place = f"{here.rstrip('/')}/{name}"
        try:
            target = os.readlink(f"{root.rstrip('/')}{place}")  # noqa: PTH115 - the text
        except (OSError, ValueError):  # no link, or missing, or a name that no file can have
            here = place
            continue
        links += 1
        if links > _LINKS:
            return Walk(None, lookups)
        if target.startswith("/"):
            here = "/"
        waiting.extendleft(reversed(target.split("/")))
    return Walk(here, lookups)


class HostRoot:
    """
    A directory that stands for ``/``.

    Follows symbolic links as a process with that root directory would: never out of it. Holds no
    open files; any thread may call it.
    """

    def __init__(self, directory: Path) -> None:
        """Take the directory; it need not exist."""
        self.directory = directory

    def find(self, path: str) -> Path:
        """Return where a path of the host is here. Raises InputError where links form a circle."""
        end = follow(path, str(self.directory)).end
        if end is None:
            raise InputError(f"{shorten(path)}: too many symbolic links")
        return self.directory / end.lstrip("/")

    def read(self, path: str) -> str | None:
        """
        Return the first megabyte of a file's text, None where there is no such file.

        Replaces what is not UTF-8. Never waits: a pipe or a device is not read. Raises InputError
        where the file cannot be read.
        """
        try:
            number = os.open(self.find(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{shorten(path)}: {reason_of(error)}") from None
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise InputError(f"{shorten(path)}: not a regular file")
            with os.fdopen(number, "rb", closefd=False) as file:
                return file.read(_FILE_LIMIT).decode("utf-8", "replace")
        except OSError as error:
            raise InputError(f"{shorten(path)}: {reason_of(error)}") from None
        finally:
            os.close(number)

    def names(self, path: str) -> list[str]:
        """Return the sorted names in a directory; none where it cannot be read."""
        try:
            with os.scandir(self.find(path)) as entries:
                found = [entry.name for entry, _ in zip(entries, range(_NAMES_LIMIT), strict=False)]
        except (OSError, ValueError, InputError):
            return []
        return sorted(found)

    def matches(self, pattern: str) -> Iterator[str]:
        """Yield the files that match a path with wildcards in its last part, sorted by name."""
        folder, _, last = pattern.rpartition("/")
        if not any(sign in last for sign in "*?["):
            yield pattern
            return
        for name in self.names(folder or "/"):
            if PurePosixPath(name).match(last):
                yield f"{folder}/{name}"
