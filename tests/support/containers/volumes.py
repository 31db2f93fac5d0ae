"""
Volumes as kubelet makes them: files behind the link ``..data``, exchanged as a whole.

Source: Kubernetes 1.36 pkg/volume/util/atomic_writer.go, pkg/volume/projected.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

_numbers = itertools.count(1)


class Projection:
    """A volume of a ConfigMap, or of a service account's token, in a directory."""

    def __init__(self, directory: Path, files: Mapping[str, str], mode: int = 0o644) -> None:
        """Make it; `mode` is that of every file."""
        self.directory = directory
        self._mode = mode
        directory.mkdir(mode=0o755, parents=True)
        self.write(files)

    def write(self, files: Mapping[str, str]) -> None:
        """Let the volume hold exactly these files: everyone sees all of the change or nothing."""
        current = self.directory / "..data"
        old = self.directory / current.readlink() if current.is_symlink() else None
        new = self.directory / f"..2026_01_01_00_00_00.{next(_numbers)}"
        new.mkdir(mode=0o755)
        for name, content in files.items():
            (new / name).write_text(content)
            (new / name).chmod(self._mode)
        partial = self.directory / "..data_tmp"
        partial.symlink_to(new.name)
        partial.replace(current)
        for name in files:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(Path("..data", name))
        for link in self.directory.iterdir():
            if not link.name.startswith("..") and link.name not in files:
                link.unlink()
        if old is not None:
            shutil.rmtree(old)
