"""kubectl, as a command that may have to be reached in some way first."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

_TIMEOUT_S = 300.0


class Kubectl:
    """
    Runs kubectl. `command` is how: "kubectl --context kind-kind", for instance.

    Raises RuntimeError with kubectl's own words when it fails.
    """

    def __init__(self, command: str, namespace: str) -> None:
        self._command = shlex.split(command)
        self._namespace = namespace

    def argv(self, *arguments: str, namespace: str = "") -> list[str]:
        """Return the words of a command, in the tests' namespace unless another is given."""
        return [*self._command, f"--namespace={namespace or self._namespace}", *arguments]

    def __call__(self, *arguments: str, namespace: str = "", given: str | None = None) -> str:
        """Run a command, with something on its standard input; return what it printed."""
        argv = self.argv(*arguments, namespace=namespace)
        done = subprocess.run(
            argv, input=given, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{shlex.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def apply(self, *objects: Any, namespace: str = "") -> None:
        """Create or change objects."""
        content = {"apiVersion": "v1", "kind": "List", "items": objects}
        self("apply", "-f", "-", namespace=namespace, given=json.dumps(content))

    def get(self, *what: str, namespace: str = "") -> Any:
        """Return an object, or a list."""
        return json.loads(self("get", *what, "--output=json", namespace=namespace))

    def items(self, *what: str, namespace: str = "") -> list[Any]:
        """Return the items of a list."""
        found: list[Any] = self.get(*what, namespace=namespace)["items"]
        return found

    def rolled_out(self, kind: str, *names: str, namespace: str = "") -> None:
        """Wait until the pods of these DaemonSets or Deployments are as they should be."""
        for name in names:
            self(
                *("rollout", "status", kind, name, f"--timeout={_TIMEOUT_S - 10:.0f}s"),
                namespace=namespace,
            )


def ready_pods(pods: Sequence[Any]) -> list[Any]:
    """Return those of some pods that are ready and stay."""
    return [
        pod
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in pod.get("status", {}).get("conditions", ())
        )
    ]
