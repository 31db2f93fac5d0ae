"""
Containers run by crun, in network namespaces of the lab, out of an unpacked image.

A container gets the network namespace of the process that starts it, as a container of a pod on
its node's network does. crun runs in a process and a mount namespace of its own: when the tests
end, however they end, the kernel ends the container and forgets its mounts. The image's root
is the lower layer of an overlay, so that places to mount at can be made, as on a real node, and
nothing is written to the image.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nfproxy.tools.lab import Namespace

_STOP_POLL_S = 0.005

#: $1: directory of the container, $2: image root, $3: id, the rest: options of crun.
_START = """
directory=$1 image=$2 name=$3
shift 3
mount -t tmpfs -o mode=755 layer "$directory/layer"
mkdir "$directory/layer/upper" "$directory/layer/work"
mount -t overlay -o \
"lowerdir=$image,upperdir=$directory/layer/upper,workdir=$directory/layer/work" \
image "$directory/root"
# crun refuses machines with both versions of cgroups, although it needs no more than the first
[ ! -d /sys/fs/cgroup/unified ] || mount -t tmpfs covered /sys/fs/cgroup/unified
exec crun --root "$directory/state" "$@" run --bundle "$directory" "$name"
"""


class Container:
    """
    A container that was started. Its output, both streams together, is kept in a file.

    `directory` holds its bundle and is left when it has ended.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        image: Path,
        config: Callable[[Path], dict[str, Any]],
    ) -> None:
        """Start it; `config` is asked for the configuration, given the path of the root."""
        self.directory = directory
        for part in ("layer", "root", "state"):
            (directory / part).mkdir(parents=True)
        made = config(directory / "root")
        (directory / "config.json").write_text(json.dumps(made, indent=1))
        cgroups = "cgroupfs" if "cgroupsPath" in made["linux"] else "disabled"
        self._output = directory / "output"
        with self._output.open("wb") as output:
            self._process: subprocess.Popen[Any] = namespace.start(
                [
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                    *("sh", "-euc", _START, "container", str(directory), str(image)),
                    *(directory.name, f"--cgroup-manager={cgroups}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._namespace = namespace

    @property
    def output(self) -> str:
        """Everything it printed so far."""
        return self._output.read_text("utf-8", "replace")

    @property
    def exit_code(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """The process id of the container's first process. Raises LookupError."""
        for pid in _descendants(self._process.pid):
            # in the namespaces of the tests, of crun, and of the container, where it is 1
            if re.search(r"^NSpid:\t.*\t1$", _status(pid), re.M) and _depth(pid) == 2 + _depth(
                os.getpid()
            ):
                return pid
        raise LookupError(f"no process in {self.directory.name}:\n{self.output}")

    def status(self) -> dict[str, str]:
        """Return what /proc/PID/status says of its first process."""
        lines = (line.partition(":") for line in _status(self.pid).splitlines())
        return {name: value.strip() for name, _, value in lines}

    def wait(self, timeout_s: float) -> int:
        """Wait for its end; return its exit status. Raises TimeoutError."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.directory.name} runs on:\n{self.output}") from None

    def stop(self, grace_s: float) -> int:
        """Send SIGTERM, and SIGKILL when the grace period is over; return its exit status."""
        if self.exit_code is None:
            # all of the session: crun hands it on to the container, unshare takes no notice
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while self.exit_code is None and time.monotonic() < deadline:
            time.sleep(_STOP_POLL_S)
        code = self.exit_code
        self._namespace.stop(self._process)
        return -signal.SIGKILL if code is None else code

    def kill(self) -> None:
        """Let its first process be killed, as when memory runs out."""
        os.kill(self.pid, signal.SIGKILL)

    def remove(self) -> None:
        """End it, and remove its directory."""
        self.stop(0)
        shutil.rmtree(self.directory, ignore_errors=True)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def _depth(pid: int) -> int:
    """Return how many process namespaces see a process."""
    found = re.search(r"^NSpid:(.*)$", _status(pid), re.M)
    return len(found[1].split()) if found else 0


def _descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (
            found := re.search(r"^PPid:\t(\d+)", _status(int(entry.name)), re.M)
        ):
            parents[int(entry.name)] = int(found[1])
    made, seen = [], [pid]
    while seen:
        one = seen.pop()
        children = [child for child, parent in parents.items() if parent == one]
        made += children
        seen += children
    return made
