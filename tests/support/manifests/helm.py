"""
The chart of deploy/chart, rendered by the real Helm 3 and Helm 4.

::

    objects = render(HELM, preset("kubeadm"), {"trial": {"enabled": True}})
    daemonset = find(objects, "DaemonSet")
"""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from support.manifests import Object
from tools.helm import Helm, versions

CHART = Path(__file__).parents[3] / "deploy" / "chart"

Values = Mapping[str, Any]

#: What the chart cannot do without, where a test is about something else.
LEAST: Values = {"apiServers": ["https://192.0.2.10:6443"]}

IN_KUBE_SYSTEM = ("--namespace", "kube-system")

HELM = versions()[-1]
"""The newest, for tests of which it is enough that one version passes."""


class RefusedError(Exception):
    """Helm did not accept the values; the text is what it said."""


def preset(name: str) -> Values:
    """Return the values of deploy/chart/presets/NAME.yaml."""
    values: Values = yaml.safe_load((CHART / "presets" / f"{name}.yaml").read_text("utf-8"))
    return values


def render(helm: Helm, *values: Values, options: Sequence[str] = ()) -> list[Object]:
    """
    Return the objects of a release "nfproxy" in kube-system, without those of ``helm test``.

    Later values go over earlier ones, as of several files for ``--values``. Raises
    `RefusedError`.
    """
    text = template(helm, *values, options=("--skip-tests", *options))
    return [item for item in yaml.safe_load_all(text) if item is not None]


def template(helm: Helm, *values: Values, options: Sequence[str] = (), chart: Path = CHART) -> str:
    """Return what ``helm template`` prints of the chart."""
    return run(helm, "template", "nfproxy", chart, *IN_KUBE_SYSTEM, *options, values=values)


def notes(*values: Values, chart: Path = CHART) -> str:
    """Return what ``helm install`` says at the end; only Helm 4 says it without a cluster."""
    options = (*IN_KUBE_SYSTEM, "--dry-run=client")
    printed = run(HELM, "install", "nfproxy", chart, *options, values=values)
    return printed.partition("\nNOTES:\n")[2]


def run(helm: Helm, *arguments: str | Path, values: Sequence[Values] = ()) -> str:
    """Run helm without a cluster; return its output. Raises `RefusedError` if it fails."""
    texts = tuple(json.dumps(each) for each in values)
    code, output, errors = _run(helm.command, arguments, texts)
    if code:
        raise RefusedError(errors)
    return output


@functools.cache
def _run(
    command: Path, arguments: Sequence[str | Path], values: Sequence[str]
) -> tuple[int, str, str]:
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, f"{number}.json") for number in range(len(values))]
        for file, text in zip(files, values, strict=True):
            file.write_text(text, "utf-8")
        done = subprocess.run(
            [command, *arguments, *(f"--values={file}" for file in files)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={"HOME": directory, "KUBECONFIG": "/dev/null"},  # no user's repositories or cluster
        )
    return done.returncode, done.stdout, done.stderr
