"""
The image that pods of the namespaces back end run, unpacked.

It is built from the working tree as it is, unless NFPROXY_TEST_IMAGE names what
tests/tools/image.sh has printed before.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from support.containerspec import Image

_SCRIPT = Path(__file__).parents[1] / "tools" / "image.sh"


class UnpackedImage(NamedTuple):
    """The root directory of an image, and what its configuration says."""

    root: Path
    image: Image


def nfproxy_image() -> UnpackedImage:
    """Return the image that deploy/Dockerfile makes of this working tree; built when it is new."""
    directory = Path(os.environ.get("NFPROXY_TEST_IMAGE") or _build())
    config = json.loads((directory / "config.json").read_text())["config"]
    return UnpackedImage(directory / "root", Image(config["Entrypoint"], config["Env"]))


def _build() -> str:
    done = subprocess.run([_SCRIPT], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()
