"""Runs nfproxy's own commands on the nodes, as a person would."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from nfproxy.tools.demo.results import DemoError
from nfproxy.tools.demo.workspace import Workspace
from nfproxy.tools.lab import LabNode

CLUSTER_CIDR = "10.244.0.0/16,fd00:10:244::/48"

_READY = "ready after "
_READY_S = 30.0
_TAIL_LINES = 25


class NodeDaemon:
    """
    ``nfproxy run`` on one node. One thread uses it.

    The lab ends the process with everything else on the node.
    """

    def __init__(self, node: LabNode, workspace: Workspace) -> None:
        self.node = node
        self.log = workspace.path / f"{node.name}.log"
        self._facts = ["--hostname-override", node.name, "--cluster-cidr", CLUSTER_CIDR]
        self._manifests = workspace.manifests
        self._process: subprocess.Popen[Any] | None = None
        self._read_from = 0

    @property
    def command(self) -> list[str]:
        """The command that starts this installation's nfproxy."""
        return [sys.executable, "-m", "nfproxy"]

    def arguments(self, command: str) -> list[str]:
        """Return a command with the arguments for this node and the demo's manifests."""
        option = "--manifests" if command == "run" else "-f"
        return [command, option, str(self._manifests), *self._facts]

    def start(self) -> None:
        """Start it; see `wait`."""
        with self.log.open("ab") as log:
            self._read_from = log.tell()
            self._process = self.node.namespace.start(
                [*self.command, *self.arguments("run")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Return once it has programmed the kernel. Raises DemoError."""
        deadline = time.monotonic() + _READY_S
        while _READY not in self._new_text():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"nfproxy on {self.node.name} was not ready in {_READY_S:g} s")
            time.sleep(0.01)

    def check(self) -> None:
        """Raise DemoError where it has exited."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise DemoError(f"nfproxy on {self.node.name} exited with code {code}")

    def stop(self) -> None:
        """End it as a service manager does; its rules stay in the kernel."""
        process, self._process = self._process, None
        if process is not None:
            self.node.namespace.stop(process)

    def call(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run another of nfproxy's commands on the node."""
        return self.node.namespace.run([*self.command, command, *more], check=False)

    def diff(self, expected: int) -> str:
        """Return the output of ``nfproxy diff``. Raises DemoError at another exit code."""
        done = self.call(*self.arguments("diff"))
        if done.returncode != expected:
            raise DemoError(
                f"nfproxy diff on {self.node.name} exited with {done.returncode} and not with "
                f"{expected}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout.rstrip()

    def first_sync(self) -> str:
        """Return the log line of its first sync since its last start, "" without one."""
        line = next((line for line in self._new_text().splitlines() if "synced " in line), "")
        return line.split(maxsplit=2)[-1] if line else ""  # without its time and level

    def end_of_log(self) -> str:
        """Return the end of its log, "" without a log."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    def _new_text(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._read_from)
            return log.read().decode("utf-8", "replace")
