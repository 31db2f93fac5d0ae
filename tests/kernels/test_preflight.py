"""
``nfproxy preflight`` on a kernel that users have.
"""

from __future__ import annotations

import os
from pathlib import Path

from kernels import modules
from support.commands import Commands

from nfproxy.lab import Lab


def test_debians_kernels_are_fit(tmp_path: Path) -> None:
    """
    What nfproxy needs of the kernel is there, and is loaded when it is asked for.
    """
    modules.unload()
    with Lab() as lab:
        commands = Commands(lab.here("node"), tmp_path)
        result = commands.run("preflight", "-o", "json", node="")
    levels = {check["check"]: check["level"] for check in result.data["checks"]}
    of_the_kernel = ("privileges", "kernel", "program", "families", "libnftables", "conntrack")
    assert {name: levels[name] for name in of_the_kernel} == dict.fromkeys(of_the_kernel, "ok"), (
        result.out
    )
    assert os.uname().release in result.out
