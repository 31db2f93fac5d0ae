"""What deploy/lock.sh has written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement

_ENTRY = re.compile(r"^([\w.-]+==[^\\\n]+)((?:\\\n +--hash=sha256:[0-9a-f]{64} ?)+)$", re.M)


def entries(path: Path) -> dict[Requirement, int]:
    """Return what a list names, and how many hashes it gives for each."""
    found = _ENTRY.finditer(path.read_text())
    return {Requirement(one[1].strip()): one[2].count("--hash=") for one in found}


def versions(path: Path, environment: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the versions that a list names, by package; for this machine's Python if not given."""
    return {
        one.name: next(iter(one.specifier)).version
        for one in entries(path)
        if one.marker is None or one.marker.evaluate(dict(environment))
    }
