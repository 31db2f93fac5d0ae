"""
The image that pods of the namespaces back end run, unpacked.

It is the one of support.image: built from the working tree by tests/tools/image.sh.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from support.containerspec import Image
from support.image import image_directory


class UnpackedImage(NamedTuple):
    """The root directory of an image, and what its configuration says."""

    root: Path
    image: Image


def nfproxy_image() -> UnpackedImage:
    """Return the image that deploy/Dockerfile makes of this working tree."""
    directory = image_directory()
    config = json.loads((directory / "config.json").read_text())["config"]
    return UnpackedImage(directory / "root", Image(config["Entrypoint"], config["Env"]))
