"""
The container image that deploy/Dockerfile makes, unpacked: its files, packages and configuration.

It is that of the working tree, as tests/tools/image.sh has built it before; tests run in network
namespaces, where nothing can be fetched. NFPROXY_TEST_IMAGE may name a directory that the script
has printed, as tests/run.sh does: then no test looks whether the working tree has changed.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import subprocess
import tarfile
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple

SCRIPT = Path(__file__).parents[2] / "tools" / "image.sh"


@functools.cache
def image_directory() -> Path:
    """Return the directory that tests/tools/image.sh made. Raises with what the script said."""
    known = os.environ.get("NFPROXY_TEST_IMAGE")
    if known:
        return Path(known)
    done = subprocess.run(
        [SCRIPT, "--find"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return Path(done.stdout.strip())


class DebianPackage(NamedTuple):
    """An installed package; `manual`: it was asked for, and not because of others."""

    name: str
    version: str
    manual: bool


class BuiltImage:
    """An image in a directory that tests/tools/image.sh has printed."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.archive = directory / "image.tar"
        self.config: dict[str, Any] = json.loads((directory / "config.json").read_text())["config"]

    @property
    def site_packages(self) -> Path:
        """Where the Python packages are."""
        (found,) = self.root.glob("opt/nfproxy/lib/python3.*/site-packages")
        return found

    def python_packages(self) -> dict[str, Distribution]:
        """Return the installed Python packages, by normalized name."""
        found = distributions(path=[str(self.site_packages)])
        return {normalized(one.name): one for one in found}

    def debian_packages(self) -> dict[str, DebianPackage]:
        """Return the installed Debian packages by name."""
        status = (self.root / "var/lib/dpkg/status").read_text()
        states = (self.root / "var/lib/apt/extended_states").read_text()
        return _packages(status, states)

    def base_packages(self) -> dict[str, DebianPackage]:
        """Return the Debian packages of its base image, taken from the archive's first layer."""
        with tarfile.open(self.archive) as archive:
            index = _json(archive, "index.json")
            manifest = _json(archive, _blob(index["manifests"][0]))
            layer = archive.extractfile(_blob(manifest["layers"][0]))
            assert layer is not None
            with tarfile.open(fileobj=io.BytesIO(layer.read())) as files:
                names = {name.removeprefix("./"): name for name in files.getnames()}
                texts = [
                    files.extractfile(names[name])
                    for name in ("var/lib/dpkg/status", "var/lib/apt/extended_states")
                ]
                status, states = (text.read().decode() for text in texts if text)
        return _packages(status, states)


def normalized(name: str) -> str:
    """Return the name of a Python package as indexes compare it: ``Jinja2``, ``jinja2``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _packages(status: str, states: str) -> dict[str, DebianPackage]:
    automatic = {one["Package"] for one in _stanzas(states) if one["Auto-Installed"] == "1"}
    return {
        one["Package"]: DebianPackage(
            one["Package"], one["Version"], one["Package"] not in automatic
        )
        for one in _stanzas(status)
        if one["Status"] == "install ok installed"
    }


def _stanzas(text: str) -> list[dict[str, str]]:
    """Return the fields of each paragraph, the first lines of them."""
    return [
        dict(re.findall(r"^([\w-]+): (.*)$", part, re.M)) for part in text.strip().split("\n\n")
    ]


def _blob(descriptor: dict[str, str]) -> str:
    return "blobs/" + descriptor["digest"].replace(":", "/")


def _json(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    assert member is not None
    return json.load(member)
