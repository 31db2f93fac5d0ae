"""
Files of a host whose root is mounted somewhere, as it sees them; whoever wrote them may be hostile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nfproxy.errors import InputError
from nfproxy.text import shorten

_LIMIT = 1 << 20  # bytes of a file that are looked at
_LINKS = 40  # as the kernel
_MOST = 1000  # names of a directory


class Root:
    """
    A directory that stands for ``/``.

    Symbolic links are followed as a process with that root would: never out of it.
    """

    def __init__(self, directory: Path) -> None:
        """Take the directory; it need not exist."""
        self.directory = directory

    def find(self, path: str) -> Path:
        """Return where a path of the host is here. Raises InputError for a circle of links."""
        waiting = list(reversed(PurePosixPath("/", path).parts[1:]))
        done: list[str] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                done = done[:-1]
                continue
            try:
                target = str(self.directory.joinpath(*done, part).readlink())
            except (OSError, ValueError):
                done.append(part)
                continue
            links += 1
            if links > _LINKS:
                raise InputError(f"{shorten(path)}: too many symbolic links")
            if target.startswith("/"):
                done = []
            waiting += [p for p in reversed(PurePosixPath(target).parts) if p != "/"]
        return self.directory.joinpath(*done)

    def read(self, path: str) -> str | None:
        """
        Return a file's text, at most a megabyte of it, None where there is none.

        What is not UTF-8 is replaced. Never waits: a pipe or a device is no file. Raises
        InputError where it cannot be read.
        """
        try:
            number = os.open(self.find(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{shorten(path)}: {_why(error)}") from None
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise InputError(f"{shorten(path)}: is no file")
            with os.fdopen(number, "rb", closefd=False) as file:
                return file.read(_LIMIT).decode("utf-8", "replace")
        except OSError as error:
            raise InputError(f"{shorten(path)}: {_why(error)}") from None
        finally:
            os.close(number)

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; none where it cannot be read."""
        try:
            with os.scandir(self.find(path)) as entries:
                found = [entry.name for entry, _ in zip(entries, range(_MOST), strict=False)]
        except (OSError, ValueError, InputError):
            return []
        return sorted(found)

    def matches(self, pattern: str) -> Iterator[str]:
        """Yield the files that a path with wildcards in its last part means, sorted."""
        folder, _, last = pattern.rpartition("/")
        if not any(sign in last for sign in "*?["):
            yield pattern
            return
        for name in self.names(folder or "/"):
            if PurePosixPath(name).match(last):
                yield f"{folder}/{name}"


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
