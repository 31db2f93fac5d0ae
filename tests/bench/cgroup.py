"""The memory of a program and its children, the kernel's included, where a cgroup can be made."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.containers import cgroups


class Cgroup:
    """A memory cgroup for one program after the other; made by `cgroup`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_v2 = (path / "memory.peak").exists()

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs another inside."""
        join = f'echo $$ >"{self._path}/cgroup.procs" && exec "$@"'
        return ["sh", "-c", join, "sh", *command]

    def used(self) -> int:
        """Return the bytes in use."""
        return self._read("memory.current" if self._is_v2 else "memory.usage_in_bytes")

    def kernel(self) -> int:
        """Return the bytes of them that the kernel itself uses."""
        if not self._is_v2:
            return self._read("memory.kmem.usage_in_bytes")
        lines = (self._path / "memory.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("kernel "))

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[int]]:
        """Yield a list that has the most bytes that were in use meanwhile, once it is over."""
        name = "memory.peak" if self._is_v2 else "memory.max_usage_in_bytes"
        most: list[int] = []
        with (self._path / name).open("r+") as file:  # v2: a peak since its own file was written
            file.write("0")
            file.flush()
            yield most
            file.seek(0)
            most.append(int(file.read()))

    def _read(self, name: str) -> int:
        return int((self._path / name).read_text())


@contextlib.contextmanager
def cgroup(name: str) -> Iterator[Cgroup | None]:
    """Make a cgroup and remove it; None where this machine lets us make none."""
    path = cgroups.directory(cgroups.new_path(name))
    if path is None:
        yield None
        return
    path.mkdir(parents=True)
    try:
        yield Cgroup(path)
    finally:
        with contextlib.suppress(OSError):
            while (path / "cgroup.procs").read_text():  # what ends at this moment
                time.sleep(0.02)
        cgroups.sweep()
