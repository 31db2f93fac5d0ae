"""Facts about the machine that the figures depend on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def facts() -> dict[str, str]:
    """Return what a reader needs to compare figures."""
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load average": f"{os.getloadavg()[0]:.2f} at the start",
        "Python": platform.python_version(),
        "nft": _nft(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _nft() -> str:
    done = subprocess.run(["nft", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1].removeprefix("v")
