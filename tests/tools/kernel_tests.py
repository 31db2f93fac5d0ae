"""
Run tests on Debian's kernels, each in a virtual machine: what ``tests/run.sh --kernels`` does.

usage: kernel_tests.py [--selection] [KERNEL…] [PYTEST ARGUMENT…]

Kernels are those of kernel_images.sh beside this file: 6.1 and 6.12, both by default. Without
pytest's arguments, everything runs that is for them: tests/packets, then tests/kernels, which leave
modules of the kernel behind. With --selection, the DaemonSet runs on the older kernel, and on the
newer one the tests of tests/packets that tests/kernels/selection.txt names, as emulation takes its
time. Paths are relative to the repository.

QEMU emulates the machine in software, with two processors, so no rights are needed, and none of
this machine's kernel: it is several times as slow as this machine. The disks are read-only and the
guest has no network but its own. Exits with 0 when every test passed on every kernel. A guest that
runs none, skips some, warns on its console, or hangs, has failed.
"""

from __future__ import annotations

import json
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = Path(__file__).with_name("kernel_images.sh")
KUSTOMIZE = Path(__file__).with_name("kustomize.sh")

KERNELS = ("6.1", "6.12")

Rounds = Sequence[Sequence[str]]  # pytest's arguments, for each time it runs
_SELECTED = "@tests/kernels/selection.txt"
_DAEMONSET = "tests/kernels/test_daemonset.py"
_ALL: Rounds = (("-n", "2", "tests/packets"), ("tests/kernels",))
EVERYTHING: Mapping[str, Rounds] = dict.fromkeys(KERNELS, _ALL)
SELECTION: Mapping[str, Rounds] = {"6.1": [(_DAEMONSET,)], "6.12": [(_SELECTED,)]}

#: What of the repository is on the guest's disk.
_CONTENT = ("LICENSE", "README.md", "deploy", "nfproxy", "pyproject.toml", "rulesets", "tests")

#: The label that kernel_images.sh gives the disk stands in place of its name, which is not fixed.
#: A kernel that panics ends the machine; one that is interrupted for long has not hung.
_COMMAND_LINE = (
    "console=ttyS0 root=PARTUUID=6e667078-01 rootwait rootfstype=ext4 ro init=/nfproxy-init "
    "oops=panic panic=-1 nowatchdog mitigations=off"
)
_MACHINE = (
    *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max"),
    *("-smp", "2", "-m", "1536", "-nodefaults", "-display", "none", "-no-reboot"),
)

#: Longer than a test may run: TIMEOUT_S of tests/kernels/guest.py.
_SILENCE_S = 360.0
_TROUBLE = re.compile(r"WARNING: CPU|BUG: |Oops: |Kernel panic")
_SHOWN_LINES = 40


class Guest(NamedTuple):
    """What one machine is made of."""

    kernel: Path
    modules: Path
    root: Path
    repository: Path


class Round(NamedTuple):
    """How one run of pytest ended in a guest. `release` is what uname -r says."""

    release: str
    exit: int
    tests: int = 0
    failures: int = 0
    errors: int = 0
    skipped: int = 0

    @property
    def passed(self) -> int:
        """The number of tests that passed."""
        return self.tests - self.failures - self.errors - self.skipped


class Outcome(NamedTuple):
    """What a guest did. `reason` is why it failed although pytest says otherwise, or ""."""

    kernel: str
    rounds: Sequence[Round]
    reason: str
    console: str
    seconds: float

    @property
    def good(self) -> bool:
        """Return whether there were tests, and all passed."""
        return not self.reason and all(
            one.exit == 0 and one.passed == one.tests > 0 for one in self.rounds
        )

    def __str__(self) -> str:
        passed = sum(one.passed for one in self.rounds)
        tests = sum(one.tests for one in self.rounds)
        release = self.rounds[0].release if self.rounds else self.kernel
        reason = f": {self.reason}" if self.reason else ""
        return f"Linux {release}: {passed} of {tests} tests passed, {self.seconds:.0f} s{reason}"


def rounds_by_kernel(arguments: Sequence[str]) -> dict[str, Rounds]:
    """Return the kernels that are asked for, and pytest's arguments for each of its runs."""
    given = list(arguments)
    default = EVERYTHING
    if given[:1] == ["--selection"]:
        given.pop(0)
        default = SELECTION
    kernels = []
    while given and re.fullmatch(r"\d+\.\d+", given[0]):
        kernels.append(given.pop(0))
    # one that is unknown is refused by kernel_images.sh
    return {name: [given] if given else default.get(name, ()) for name in kernels or KERNELS}


def images(kernels: Sequence[str]) -> dict[str, Path]:
    """Return the directories of the images by name, "guest" among them; made if need be."""
    lines = output_of(IMAGES, *kernels).splitlines()
    return {name: Path(path) for name, path in map(str.split, lines)}


def output_of(script: Path, *arguments: str) -> str:
    """Return what a script prints; where it fails, it has said why, and this ends, too."""
    done = subprocess.run([script, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


@contextmanager
def repository_disk(python: Path, rounds: Mapping[str, Rounds]) -> Iterator[Path]:
    """Give a disk with this repository, compiled by the guest's Python, and pytest's arguments."""
    with tempfile.TemporaryDirectory(prefix="nfproxy-kernels-") as scratch:
        stage, disk = Path(scratch, "stage"), Path(scratch, "repository.img")
        stage.mkdir()
        for name in _CONTENT:
            source = REPOSITORY / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", ".*")
                shutil.copytree(source, stage / name, symlinks=True, ignore=ignored)
            else:
                shutil.copy2(source, stage)
        shutil.copy2(output_of(KUSTOMIZE, "--path").strip(), stage)
        (stage / "pytest-arguments.json").write_text(json.dumps(rounds))
        compiled = ("-m", "compileall", "-q", "-s", stage, "-p", "/nfproxy", stage)
        subprocess.run([python, *compiled], check=True)
        with disk.open("wb") as made:
            made.truncate(256 << 20)  # only what is used takes up space
        options = ("-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", "nfproxy")
        subprocess.run(["/sbin/mke2fs", *options, "-d", stage, disk], check=True)
        yield disk


def boot(name: str, guest: Guest) -> Outcome:
    """Run a machine to its end, and print what the tests print while they do."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nfproxy-kernel-") as scratch:
        console, results = Path(scratch, "console"), Path(scratch, "results")
        command = [*_MACHINE, "-kernel", str(guest.kernel), "-append", _COMMAND_LINE]
        for port in (f"file:{console}", "stdio", f"file:{results}"):
            command += ["-serial", port]
        for disk in (guest.root, guest.modules, guest.repository):
            drive = f"id={disk.stem},file={disk},format=raw,if=none,readonly=on"
            command += ["-drive", drive, "-device", f"nvme,drive={disk.stem},serial={disk.stem}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            reason = _show_output(process)
        finally:
            process.kill()
            process.wait()
        rounds = _rounds(results)
        log = console.read_text("utf-8", "replace") if console.exists() else ""
    if not reason and (trouble := _TROUBLE.search(log)):
        reason = f"the kernel says {trouble[0]!r}"
    return Outcome(name, rounds, reason, log, time.monotonic() - start)


def _show_output(process: subprocess.Popen[bytes]) -> str:
    """Copy a machine's output to ours, to its end; return why it was given up, or ""."""
    assert process.stdout is not None
    while select.select([process.stdout], [], [], _SILENCE_S)[0]:
        # read1 would wait for the rest of a line
        data = process.stdout.raw.read(4096)  # type: ignore[attr-defined]
        if not data:
            process.wait()
            return "" if process.returncode == 0 else f"QEMU ended with {process.returncode}"
        sys.stdout.buffer.write(data.replace(b"\r", b""))
        sys.stdout.buffer.flush()
    return f"no output for {_SILENCE_S:.0f} s"


def _rounds(results: Path) -> list[Round]:
    text = results.read_text("utf-8", "replace") if results.exists() else ""
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [Round(**line) for line in lines]


def main(arguments: Sequence[str]) -> int:
    """Run it all; return the exit status."""
    rounds = rounds_by_kernel(arguments)
    made = images(list(rounds))
    guest = made.pop("guest")
    outcomes = []
    with repository_disk(guest / "python", rounds) as disk:
        for kernel, directory in made.items():
            print(f"==> kernel {kernel}: {(directory / 'release').read_text().strip()}", flush=True)
            vmlinuz, modules = directory / "vmlinuz", directory / "modules.img"
            outcome = boot(kernel, Guest(vmlinuz, modules, guest / "root.img", disk))
            if not outcome.reason and len(outcome.rounds) < len(rounds[kernel]):
                outcome = outcome._replace(reason="it ended before its tests did")
            if outcome.reason:
                print("--- the end of the console:")
                print("\n".join(outcome.console.splitlines()[-_SHOWN_LINES:]))
            outcomes.append(outcome)
    for outcome in outcomes:
        print(f"{'' if outcome.good else 'FAILED '}{outcome}")
    return 0 if all(outcome.good for outcome in outcomes) else 1


def _end(*_: object) -> None:
    """Let what is under way clean up."""
    sys.exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
