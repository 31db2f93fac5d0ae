"""A directory of manifests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.manifests.following import service


@pytest.fixture
def root(tmp_path) -> Path:
    made = tmp_path / "manifests"
    made.mkdir()
    (made / "a.yaml").write_text(service("one", 1))
    return made
