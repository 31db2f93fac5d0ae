"""Commands in a namespace of their own, and a directory for manifests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.commands import Commands

from nfproxy.tools.lab import Lab


@pytest.fixture
def lab(namespaces_allowed: None) -> Iterator[Lab]:
    """A lab without namespaces yet."""
    with Lab() as made:
        yield made


@pytest.fixture
def commands(lab: Lab, tmp_path: Path) -> Commands:
    """nfproxy's commands in a new, empty network namespace."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Commands(lab.namespace("node"), scratch)


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """An empty directory."""
    directory = tmp_path / "manifests"
    directory.mkdir()
    return directory
