"""
The image that pods of the namespaces back end run, unpacked.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from support.containerspec import Image

_ROOT = Path(__file__).parents[2]


class UnpackedImage(NamedTuple):
    """The root directory of an image, and what its configuration says."""

    root: Path
    image: Image


def nfproxy_image() -> UnpackedImage:
    return UnpackedImage(Path("/"), Image([str(_ROOT / ".venv/bin/nfproxy")]))
