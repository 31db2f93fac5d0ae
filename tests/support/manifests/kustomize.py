"""
Overlays and components of deploy/kustomize, built by the real kustomize.

The program is the one that tests/tools/kustomize.sh fetches, once; NFPROXY_TEST_KUSTOMIZE names
another instead: a command that builds the directory it is given, as in "kubectl kustomize".
"""

from __future__ import annotations

import copy
import functools
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from support.manifests.objects import Object

_ROOT = Path(__file__).parents[3]
KUSTOMIZE = _ROOT / "deploy" / "kustomize"


#: Overlays that run something else than nfproxy, for a while.
ONE_OFF = ("cleanup", "cleanup-kube-proxy", "preflight")


def overlays(*, one_off: bool = False) -> list[str]:
    """Return the names that `overlay` takes; those of one-off DaemonSets only if asked for."""
    names = ["base", *_names("overlays", "Kustomization")]
    return [name for name in names if one_off or name not in ONE_OFF]


def components() -> list[str]:
    """Return the names that `compose` takes."""
    return _names("components", "Component")


def _names(folder: str, kind: str) -> list[str]:
    found = sorted((KUSTOMIZE / folder).glob("*/kustomization.yaml"))
    assert all(yaml.safe_load(path.read_text())["kind"] == kind for path in found)
    return [path.parent.name for path in found]


def overlay(name: str) -> list[Object]:
    """Return the objects of deploy/kustomize/overlays/NAME, or of "base"; a copy each time."""
    return build(KUSTOMIZE / "base" if name == "base" else KUSTOMIZE / "overlays" / name)


def build(directory: Path) -> list[Object]:
    """
    Return the objects of a directory with a kustomization; built once, a copy each time.

    Raises ValueError with what kustomize says against it.
    """
    return copy.deepcopy(_built(directory.resolve()))


def compose(*components: str, base: str = "base") -> list[Object]:
    """
    Return the objects of an overlay (or "base") with some of deploy/kustomize/components.

    As a user's own kustomization.yaml would have them.
    """
    return copy.deepcopy(_composed(components, base))


@functools.cache
def _built(directory: Path) -> list[Object]:
    done = subprocess.run(
        [*_command(), directory], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode or done.stderr:  # deprecated fields are warnings
        raise ValueError(f"{directory}: {done.stderr.strip()}")
    return [item for item in yaml.safe_load_all(done.stdout) if item is not None]


@functools.cache
def _composed(components: Sequence[str], base: str) -> list[Object]:
    below = KUSTOMIZE / ("base" if base == "base" else f"overlays/{base}")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve()
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(below, root)],
            "components": [os.path.relpath(KUSTOMIZE / "components" / n, root) for n in components],
        }
        (root / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return _built.__wrapped__(root)


@functools.cache
def _command() -> Sequence[str]:
    given = os.environ.get("NFPROXY_TEST_KUSTOMIZE")
    if given:
        return shlex.split(given)
    script = _ROOT / "tests" / "tools" / "kustomize.sh"
    path = subprocess.run([script, "--path"], capture_output=True, text=True, check=True).stdout
    return path.strip(), "build"
