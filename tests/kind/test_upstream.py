"""Kubernetes' own conformance tests of Services, when E2E_TEST names their program."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from kind.existing import ExistingCluster

pytestmark = [pytest.mark.needs_cluster, pytest.mark.needs_e2e, pytest.mark.timeout(3600)]

_FOCUS = r"\[sig-network\] Services.*\[Conformance\]"
_SKIP = r"\[Disruptive\]|\[Serial\]"


def test_conformance_of_services(cluster: ExistingCluster, tmp_path: Path) -> None:
    """
    The specs [sig-network] Services that are part of conformance pass.

    E2E_TEST is a command, so that it can be run where the nodes are reached, and KUBECONFIG is
    what it uses.
    """
    command = [
        *shlex.split(os.environ["E2E_TEST"]),
        *("--provider=skeleton", "--ginkgo.no-color", f"--ginkgo.focus={_FOCUS}"),
        *(f"--ginkgo.skip={_SKIP}", f"--report-dir={tmp_path}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20000:]
    assert " 0 Failed" in done.stdout
    assert "Ran 0 of" not in done.stdout
