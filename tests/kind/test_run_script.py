"""
tests/kind/run.sh, with programs in place of docker, kind and kubectl that only note their calls.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from nfproxy import __version__

pytestmark = pytest.mark.doubles

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_IMAGE = f"ghcr.io/nfproxy/nfproxy:{__version__}"

_TOOL = """#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
case "$*" in
    "get clusters") cat "$CLUSTERS" ;;
    "get nodes"*) echo kind-control-plane ;;
    inspect*) echo 172.18.0.2 ;;
esac
"""


class Script:
    """Runs the script; `calls` is what was called since."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        tools = directory / "bin"
        tools.mkdir()
        for name in ("docker", "kind", "kubectl"):
            (tools / name).write_text(_TOOL)
            (tools / name).chmod(0o755)
        self._calls = directory / "calls"
        self.clusters = directory / "clusters"
        self.logs = directory / "logs"
        self.logs.mkdir()
        for file in (self._calls, self.clusters):
            file.touch()

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        paths = {"CALLS": str(self._calls), "CLUSTERS": str(self.clusters)}
        path = f"{self._directory / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [_HERE / "run.sh", "--logs", self.logs, *arguments],
            env={**os.environ, **paths, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        """The calls so far, one line each."""
        return self._calls.read_text().splitlines()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """The script."""
    return Script(tmp_path)


def _in_order(wanted: Sequence[str], lines: Sequence[str]) -> bool:
    rest = iter(lines)
    return all(any(one in line for line in rest) for one in wanted)


_STEPS = (
    "kind create cluster --name kind --image kindest/node:v1.35",
    f"docker build --tag {_IMAGE} --file {_ROOT}/deploy/Dockerfile {_ROOT}",
    f"kind load docker-image {_IMAGE} --name kind",
    f"kubectl --context kind-kind apply --kustomize {_ROOT}/deploy/kustomize/overlays/kind",
    "rollout status daemonset nfproxy",
    "docker run --detach --name nfproxy-outside --network kind",
)
_CLEANING = ("docker rm --force nfproxy-outside", "kind delete cluster --name kind")


def test_a_dry_run_prints_the_commands_and_does_nothing(script: Script) -> None:
    """With --dry-run every command is printed, that of pytest with its arguments, too."""
    done = script("--dry-run", "--kubernetes", "1.35", "-k", "affinity")
    printed = done.stderr.replace("'", "").splitlines()
    assert done.returncode == 0
    pytest_command = "-m pytest --cluster=kind tests/kind -k affinity"
    assert _in_order([*_STEPS, pytest_command, *_CLEANING], printed), done.stderr
    assert script.calls == []


def test_all_is_removed_after_a_success(script: Script) -> None:
    """The steps are taken in order, and cluster and outside host are removed at the end."""
    done = script("--kubernetes", "1.35", "--version")  # pytest's: it runs no tests
    assert done.returncode == 0, done.stderr
    routes = [
        f"docker exec nfproxy-outside ip -{family} route add {to} via 172.18.0.2"
        for family, to in ((4, "198.51.100.0/24"), (6, "2001:db8:1::/64"))
    ]
    assert _in_order([*_STEPS, *routes, *_CLEANING], script.calls), script.calls
    assert "kind export logs" not in "\n".join(script.calls)


def test_logs_are_collected_after_a_failure(script: Script) -> None:
    """A failure of the tests is the script's, and logs are collected before all is removed."""
    done = script("--no-such-option")  # pytest's exit code for wrong usage
    assert done.returncode == 4, done.stderr
    assert _in_order(["kind export logs --name kind", *_CLEANING], script.calls), script.calls
    assert {path.name for path in script.logs.iterdir()} >= {"objects", "nodes"}


def test_the_cluster_can_be_kept(script: Script) -> None:
    """With --keep nothing is removed."""
    assert script("--keep", "--version").returncode == 0
    assert not any("delete cluster" in call or "rm --force" in call for call in script.calls)


def test_a_cluster_that_exists_is_left_alone(script: Script) -> None:
    """If there is a cluster called kind, the script says so and touches nothing."""
    script.clusters.write_text("other\nkind\n")
    done = script("--version")
    assert done.returncode == 1
    assert 'a cluster called "kind"' in done.stderr
    assert script.calls == ["docker info", "kind get clusters"]


@pytest.mark.parametrize("version", ["1.2", ""])
def test_an_unknown_version_is_refused(script: Script, version: str) -> None:
    """Only the versions that have an image can be asked for; the message names them."""
    done = script("--kubernetes", version)
    assert done.returncode == 1
    assert "1.36" in done.stderr
    assert script.calls == []


def test_the_workflow_runs_every_version(script: Script) -> None:
    """The GitHub workflow's matrix has the versions that the script has images for."""
    images = re.findall(r"\[(1\.\d+)\]=kindest/node:v(\S+)@", (_HERE / "run.sh").read_text())
    workflow = yaml.safe_load((_ROOT / ".github" / "workflows" / "kind.yml").read_text())
    matrix = workflow["jobs"]["kind"]["strategy"]["matrix"]["include"]
    assert {(one["kubernetes"], one["patch"]) for one in matrix} == set(images)
