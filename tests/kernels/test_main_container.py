"""The DaemonSet without its init container, which a component of the manifests takes away."""

from __future__ import annotations

from pathlib import Path

from kernels import modules
from kernels.node import NEEDED, api_server, check_confined, running


def test_the_main_container_needs_no_other(tmp_path: Path) -> None:
    """
    Without the init container, too, the kernel loads what is needed.

    The sysctls are as the kernel has them, which the log says.
    """
    with api_server() as api, running(api, tmp_path, "without-prepare") as pod:
        assert modules.loaded() >= NEEDED
        assert pod.restarts == 0
        check_confined(pod)
        assert "cannot set net.netfilter.nf_conntrack_" in pod.output
