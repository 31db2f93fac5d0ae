"""
Run tests in a guest of ``tests/run.sh --kernels``, and report to the host how they ended.

Called by the guest's first process, as root, in the namespaces the kernel began with. What
arguments pytest is to have on this kernel, each time it runs, stands in a file of the host's; the
outcome goes to the third serial port, as a line of JSON for each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
ARGUMENTS = ROOT / "pytest-arguments.json"
RESULTS = Path("/dev/ttyS2")
REPORT = Path("/tmp/report.xml")

#: For a test. The machine is emulated, and the one that does it may be busy.
TIMEOUT_S = 300


def run_tests(arguments: list[str]) -> dict[str, object]:
    """Run pytest, and return its exit status and how many tests there were of each outcome."""
    REPORT.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "CI": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
        "NFPROXY_GUEST": "1",  # see conftest.py
        "NFPROXY_TEST_KUSTOMIZE": f"{ROOT}/kustomize build",
        "NO_COLOR": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT}/tests",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    options = ["-p", "no:cacheprovider", f"--junit-xml={REPORT}", f"--timeout={TIMEOUT_S}"]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=False)
    return {"exit": done.returncode, **_counts()}


def _counts() -> dict[str, int]:
    """Return the numbers of pytest's report; none where it wrote no report."""
    if not REPORT.exists():
        return {}
    suite = ElementTree.parse(REPORT).getroot().find("testsuite")  # noqa: S314 # our own
    assert suite is not None
    names = ("tests", "failures", "errors", "skipped")
    return {name: int(suite.attrib[name]) for name in names}


def main() -> None:
    """Run all that was asked for."""
    release = os.uname().release
    by_kernel: dict[str, list[list[str]]] = json.loads(ARGUMENTS.read_text())
    for arguments in by_kernel[".".join(release.split(".")[:2])]:
        result = {"release": release, **run_tests(arguments)}
        with RESULTS.open("w") as port:
            port.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
