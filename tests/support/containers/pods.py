"""
Kubelet, as far as a pod of a DaemonSet on its node's network can see.

A pod's volumes are made, its init containers run to their end one after another, then its
container runs, is started again when it ends, is probed, and is stopped within its grace
period. Nothing is probed before it is asked: liveness by `KubeletPod.check_alive`, since a test
is over before three periods of a liveness probe are.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from support.containers import cgroups
from support.containers.runtime import Container
from support.containers.spec import (
    Image,
    Json,
    Node,
    Surroundings,
    UnsupportedError,
    check_pod,
    runtime_config,
)
from support.containers.volumes import Projection

from nfproxy.tools.lab import Namespace

ACCOUNT_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"
_ACCOUNT_VOLUME = "kube-api-access"
_INIT_TIMEOUT_S = 120.0
_PROBE_S = 0.05  # the pause between questions to a readiness probe
_WAIT_S = 120.0  # machines may be slow

_numbers = itertools.count(1)


class ServiceAccount(NamedTuple):
    """What a pod is given to speak to the API server with."""

    token: str
    ca: str
    namespace: str = "kube-system"

    def files(self) -> dict[str, str]:
        """Return the files of the pod's volume."""
        return {"token": self.token, "ca.crt": self.ca, "namespace": self.namespace}


class Kubelet:
    """
    Runs pods on one node. `configmaps` are those of the pods' namespace.

    `root` and `image` are the one image there is, whatever name a pod gives it.
    """

    def __init__(
        self,
        namespace: Namespace,
        node: Node,
        scratch: Path,
        root: Path,
        image: Image,
    ) -> None:
        self.namespace = namespace
        self.node = node
        self.root = root
        self.image = image
        self._scratch = scratch

    def start(
        self, pod: Json, configmaps: Mapping[str, Mapping[str, str]], account: ServiceAccount | None
    ) -> KubeletPod:
        """Start a pod, and return at once. Raises UnsupportedError."""
        check_pod(pod)
        directory = self._scratch / f"{self.node.name}-pod-{next(_numbers)}"
        directory.mkdir(parents=True)
        return KubeletPod(self, pod, directory, configmaps, account)


class KubeletPod:
    """
    A pod on its node. `outputs` are those of its containers by name, ended ones too.

    `restarts` counts how often its container was started again.
    """

    def __init__(
        self,
        kubelet: Kubelet,
        pod: Json,
        directory: Path,
        configmaps: Mapping[str, Mapping[str, str]],
        account: ServiceAccount | None,
    ) -> None:
        self.restarts = 0
        self.failure = ""  # why it does not run
        self._kubelet = kubelet
        self._directory = directory
        self.projections: dict[str, Projection] = {}
        self._pod = _with_account(pod) if account else pod
        self._volumes = self._make_volumes(configmaps, account)
        self._ended: list[Container] = []
        self.cgroup = ""
        self.container: Container | None = None
        self._deleted = threading.Event()
        self._thread = threading.Thread(target=self._run, name=directory.name, daemon=True)
        self._thread.start()

    # -- what it is made of -----------------------------------------------------------------

    def _make_volumes(
        self, configmaps: Mapping[str, Mapping[str, str]], account: ServiceAccount | None
    ) -> dict[str, Path]:
        made: dict[str, Path] = {}
        base = self._directory / "volumes"
        for volume in self._pod.get("volumes", ()):
            name = volume["name"]
            match volume:
                case {"configMap": {"name": source}}:
                    self.projections[name] = Projection(base / name, configmaps[source])
                    made[name] = base / name
                case {"hostPath": {"path": path}}:
                    made[name] = Path(path)
                case {"emptyDir": _}:
                    (base / name).mkdir(parents=True)
                    (base / name).chmod(0o777)
                    made[name] = base / name
                case {"projected": _} if account and name == _ACCOUNT_VOLUME:
                    # the token is for the pod's user alone, as all its containers have one
                    made[name] = base / name
                    self.projections[name] = Projection(base / name, account.files(), 0o600)
                case _:
                    raise UnsupportedError(f"volume {volume}")
        return made

    def renew_account(self, account: ServiceAccount) -> None:
        """Exchange the service account's files, as kubelet does before a token expires."""
        self.projections[_ACCOUNT_VOLUME].write(account.files())

    def update_configmap(self, volume: str, data: Mapping[str, str]) -> None:
        """Exchange a ConfigMap's files, as kubelet does about a minute after a change."""
        self.projections[volume].write(data)

    # -- its life ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            for one in self._pod.get("initContainers", ()):
                while not self._deleted.is_set():
                    started = self._start(one)
                    if started.wait(_INIT_TIMEOUT_S) == 0:
                        break
                    self.restarts += 1
                    self._deleted.wait(1.0)
            (main,) = self._pod["containers"]
            while not self._deleted.is_set():
                self.container = self._start(main)
                while self.container.exit_code is None and not self._deleted.is_set():
                    time.sleep(_PROBE_S)
                if not self._deleted.is_set():
                    self.restarts += 1
                    self._deleted.wait(0.0 if self.restarts < 2 else 1.0)
        except BaseException as error:
            self.failure = repr(error)
            raise

    def _start(self, container: Json) -> Container:
        kubelet = self._kubelet
        directory = self._directory / f"{container['name']}-{len(self._ended)}"
        self.cgroup = cgroups.new_path(directory.name)

        def config(root: Path) -> dict[str, Any]:
            around = Surroundings(kubelet.image, kubelet.node, root, self._volumes, self.cgroup)
            return runtime_config(self._pod, container, around)

        made = Container(kubelet.namespace, directory, kubelet.root, config)
        self._ended.append(made)
        return made

    def running(self) -> Container:
        """Return its container. Raises LookupError before there is one."""
        if self.container is None:
            raise LookupError(f"{self._directory.name} has no container yet:\n{self.output}")
        return self.container

    @property
    def output(self) -> str:
        """What its containers printed so far, init containers first."""
        return "".join(f"--- {one.directory.name}\n{one.output}" for one in list(self._ended))

    def exit_codes(self) -> list[int | None]:
        """How its containers ended, in the order they were started."""
        return [one.exit_code for one in self._ended]

    def delete(self) -> int:
        """Stop it in its grace period, and remove it; return its container's exit status."""
        self._deleted.set()
        self._thread.join(_INIT_TIMEOUT_S)
        grace_s = float(self._pod.get("terminationGracePeriodSeconds", 30))
        code = self.container.stop(grace_s) if self.container else 0
        for one in self._ended:
            one.remove()
        return code

    def memory(self) -> tuple[int | None, int | None]:
        """Return the limit of its container's memory and the most it used; None: no cgroups."""
        return cgroups.limit_bytes(self.cgroup), cgroups.peak_bytes(self.cgroup)

    # -- probes -----------------------------------------------------------------------------

    def ready(self) -> bool:
        """Ask the readiness probe once."""
        return self._probe("readinessProbe")

    def check_alive(self) -> bool:
        """Ask the liveness probe once."""
        return self._probe("livenessProbe")

    def wait_ready(self, timeout_s: float = _WAIT_S) -> None:
        """Wait until it is ready. Raises TimeoutError with what it printed."""
        self.wait_until(self.ready, "ready", timeout_s)

    def wait_until(
        self, condition: Callable[[], bool], what: str, timeout_s: float = _WAIT_S
    ) -> None:
        """Wait for something. Raises TimeoutError with what the pod printed."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.failure or time.monotonic() > deadline:
                text = f"{self._directory.name} is not {what}: {self.failure}\n{self.output}"
                raise TimeoutError(text)
            time.sleep(_PROBE_S)

    def _probe(self, name: str) -> bool:
        (container,) = self._pod["containers"]
        if self.container is None or self.container.exit_code is not None:
            return False
        probe = container.get(name)
        if probe is None:
            return True
        asked = probe["httpGet"]
        host = asked.get("host") or self._kubelet.node.addresses[0]
        port = _port(container, asked["port"])
        return 200 <= get(self._kubelet.namespace, host, port, asked["path"]) < 400


def get(namespace: Namespace, host: str, port: int, path: str, timeout_s: float = 5.0) -> int:
    """Return the status of a HTTP answer, 0 where there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    with contextlib.closing(connection):
        sock = connection.sock = namespace.socket(family, socket.SOCK_STREAM)
        sock.settimeout(timeout_s)
        try:
            sock.connect((host, port))
            connection.request("GET", path, headers={"Connection": "close"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0


def _port(container: Json, port: int | str) -> int:
    for named in container.get("ports", ()):
        if named.get("name") == port:
            return int(named["containerPort"])
    return int(port)


def _with_account(pod: Json) -> Json:
    """Return the pod with its service account mounted, as the API server's admission adds it."""
    mount = {"name": _ACCOUNT_VOLUME, "mountPath": ACCOUNT_DIRECTORY, "readOnly": True}

    def mounted(one: Json) -> Json:
        return {**one, "volumeMounts": [*one.get("volumeMounts", ()), mount]}

    volume = {"name": _ACCOUNT_VOLUME, "projected": {}}
    made = {**pod, "volumes": [*pod.get("volumes", ()), volume]}
    for part in ("initContainers", "containers"):
        if part in pod:
            made[part] = [mounted(one) for one in pod[part]]
    return made
