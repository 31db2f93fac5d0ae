"""A cluster that kubectl reaches, with nfproxy installed by its manifests: kind, or any other."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from kind import objects
from kind.clients import Client
from kind.cluster import Backend, Cluster, Node, Service
from kind.kubectl import Kubectl, ready_pods

_NAMESPACE = "nfproxy-test"
_SYSTEM = "kube-system"
_LINGER_S = 5.0  # until all nodes know that an endpoint is about to go
_DROPPED_S = 3.0
_WAIT_S = 120.0
_POLL_S = 0.5
OUTSIDE = "nfproxy-outside"

#: Kills the processes of a pod, found by its uid in their cgroup: $1 with "-", $2 with "_".
_KILL = """
for file in /proc/[0-9]*/cgroup; do
    grep -qe "$1" -e "$2" "$file" 2>/dev/null || continue
    process=${file%/cgroup}
    tr '\\0' ' ' <"$process/cmdline" | grep -q 'nfproxy run' && kill -9 "${process#/proc/}"
done
"""


def from_options(config: pytest.Config) -> ExistingCluster:
    """Return the cluster that the command line names."""
    kubectl, on_node, outside = (
        config.getoption(name) for name in ("kubectl", "on_node", "outside")
    )
    if config.getoption("cluster") == "kind":
        kubectl = kubectl or "kubectl --context kind-kind"
        on_node = on_node or "docker exec {node}"
        outside = outside or (
            "docker run --interactive --rm --network container:" + OUTSIDE + " "
            "--volume {peer}:/peer.py:ro --entrypoint python3 {image} /peer.py ask"
        )
    return ExistingCluster(
        kubectl or "kubectl", on_node, outside or shlex.join([sys.executable, "{peer}", "ask"])
    )


class ExistingCluster(Cluster):
    """
    The cluster. `on_node` is a command before commands for a node, "{node}" in it being its name.

    `outside` runs the peer, "{peer}", outside of the cluster, where "{image}" is nfproxy's.
    """

    patience_s = 30.0

    def __init__(self, kubectl: str, on_node: str, outside: str) -> None:
        self.kubectl = Kubectl(kubectl, _NAMESPACE)
        self._on_node = on_node
        self.kubectl.rolled_out("daemonset", "nfproxy", namespace=_SYSTEM)
        daemonset = self.kubectl.get("daemonset", "nfproxy", namespace=_SYSTEM)
        self.image: str = daemonset["spec"]["template"]["spec"]["containers"][0]["image"]
        self.nodes = [_node(item) for item in self.kubectl.items("nodes")]
        self._clients: dict[tuple[str, str], Client] = {}
        self.kubectl.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
        )
        askers = {"pod": False, "host": True}
        self.kubectl.apply(
            objects.peer_configmap(),
            *(objects.asking(n, self.image, host_network=on) for n, on in askers.items()),
        )
        self.kubectl.rolled_out("daemonset", *askers)
        for kind in askers:
            for pod in self.kubectl.items("pods", f"--selector=app={kind}"):
                self._clients[kind, pod["spec"]["nodeName"]] = self._client_in(pod)
        words = shlex.split(outside.format(peer=objects.PEER, image=self.image))
        self.outside = self._client("outside", words)
        for client in self.clients():  # they stay for all tests: none is to leave them behind
            client.open()

    def close(self) -> None:
        """Remove everything that was made."""
        for client in (*self._clients.values(), self.outside):
            client.close()
        self.kubectl("delete", "namespace", _NAMESPACE, "--timeout=240s")

    def run_on(self, node: str, *command: str) -> str:
        """Run a command on a node; return what it printed. Raises CalledProcessError."""
        if not self._on_node:
            raise RuntimeError("this case runs commands on nodes: see --on-node")
        argv = [*shlex.split(self._on_node.format(node=node)), *command]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    # -- who asks ---------------------------------------------------------------------------

    def pod_on(self, node: str) -> Client:
        """Return the pod on a node that asks."""
        return self._clients["pod", node]

    def host(self, node: str) -> Client:
        """Return a process on a node's own network."""
        return self._clients["host", node]

    def _client_in(self, pod: Any) -> Client:
        name = pod["metadata"]["name"]
        command = ("python3", f"/peer/{objects.PEER.name}", "ask")
        words = self.kubectl.argv("exec", "--stdin", name, "--", *command)
        return self._client(f"{name} on {pod['spec']['nodeName']}", words)

    def _client(self, name: str, words: Sequence[str]) -> Client:
        def start() -> subprocess.Popen[Any]:
            return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

        return Client(name, start, _DROPPED_S)

    # -- who answers ------------------------------------------------------------------------

    def deploy(self, name: str, nodes: Sequence[str], *, linger_s: float = _LINGER_S) -> None:
        """Run one pod that answers on each of these nodes."""
        made = [
            objects.answering(name, number, node, self.image, max(linger_s, _LINGER_S))
            for number, node in enumerate(nodes)
        ]
        if made:
            self.kubectl.apply(*made)
            self._rolled_out(name)

    def _rolled_out(self, name: str) -> None:
        found = self.kubectl.items("deployments", f"--selector={objects.LABEL}={name}")
        self.kubectl.rolled_out("deployment", *(item["metadata"]["name"] for item in found))

    def _pods(self, name: str) -> list[Any]:
        return self.kubectl.items("pods", f"--selector={objects.LABEL}={name}")

    def backends(self, name: str) -> list[Backend]:
        """Return a workload's pods that are ready."""
        return [
            Backend(pod["metadata"]["name"], pod["spec"]["nodeName"])
            for pod in ready_pods(self._pods(name))
        ]

    def expose(self, name: str, *, service: str = "", **spec: Any) -> Service:
        """Make a dual-stack Service before a workload, and return it."""
        self.kubectl.apply(objects.service(service or name, name, spec))
        return Service(self.kubectl.get("service", service or name))

    def set_ingress(self, service: Service, addresses: Iterable[str]) -> None:
        """Let a load balancer have given a Service these addresses."""
        status = {"loadBalancer": {"ingress": [{"ip": a, "ipMode": "VIP"} for a in addresses]}}
        self.kubectl(
            *("patch", "service", service.name, "--subresource=status", "--type=merge"),
            f"--patch={json.dumps({'status': status})}",
        )

    def remove(self, name: str) -> None:
        """Remove a workload, and the Services before it."""
        self.kubectl("delete", "services,deployments", f"--selector={objects.LABEL}={name}")

    def roll(self, name: str) -> None:
        """Exchange all pods of a workload, a new one being ready before an old one ends."""
        old = {pod["metadata"]["name"] for pod in self._pods(name)}
        self.kubectl("rollout", "restart", "deployment", f"--selector={objects.LABEL}={name}")
        self._rolled_out(name)
        self.wait(lambda: not old & {pod["metadata"]["name"] for pod in self._pods(name)})

    def drain(self, node: str) -> None:
        """Let no new pods come to a node, and evict those of workloads; they come up elsewhere."""
        self.kubectl(
            *("drain", node, "--ignore-daemonsets", f"--pod-selector={objects.LABEL}"),
            "--timeout=120s",
        )

    def uncordon(self, node: str) -> None:
        """Let pods come to a node again."""
        self.kubectl("uncordon", node)

    # -- nfproxy ----------------------------------------------------------------------------

    def proxy_pod(self, node: str) -> Any:
        """Return nfproxy's pod on a node. Raises LookupError."""
        for pod in self.kubectl.items(
            "pods", "--selector=app.kubernetes.io/name=nfproxy", namespace=_SYSTEM
        ):
            if pod["spec"].get("nodeName") == node and "deletionTimestamp" not in pod["metadata"]:
                return pod
        raise LookupError(f"no pod of nfproxy on {node}")

    def roll_proxy(self) -> None:
        """Exchange the DaemonSet's pods, one node after the other, each until it is ready."""
        self.kubectl("rollout", "restart", "daemonset", "nfproxy", namespace=_SYSTEM)
        self.kubectl.rolled_out("daemonset", "nfproxy", namespace=_SYSTEM)

    def crash_proxy(self, node: str) -> None:
        """Kill nfproxy's process on a node, and wait until it is ready again."""
        uid = self.proxy_pod(node)["metadata"]["uid"]
        before = _restarts(self.proxy_pod(node))
        self.run_on(node, "sh", "-c", _KILL, "kill", uid, uid.replace("-", "_"))

        def again() -> bool:
            pod = self.proxy_pod(node)
            return _restarts(pod) > before and bool(ready_pods([pod]))

        self.wait(again)

    def proxy_file(self, node: str, path: str) -> str:
        """Return what is in a file, as nfproxy's container sees it."""
        name = self.proxy_pod(node)["metadata"]["name"]
        return self.kubectl("exec", name, "--", "cat", path, namespace=_SYSTEM)

    def proxy_log(self, node: str) -> str:
        """Return what nfproxy logged since its container was started last."""
        name = self.proxy_pod(node)["metadata"]["name"]
        return self.kubectl("logs", name, namespace=_SYSTEM)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for something to happen. Raises TimeoutError with the pods there are."""
        deadline = time.monotonic() + _WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                pods = self.kubectl("get", "pods", "--all-namespaces", "--output=wide")
                raise TimeoutError(pods)
            time.sleep(_POLL_S)


def _node(item: Mapping[str, Any]) -> Node:
    found = {
        "IPv6" if ":" in entry["address"] else "IPv4": entry["address"]
        for entry in item["status"]["addresses"]
        if entry["type"] == "InternalIP"
    }
    return Node(item["metadata"]["name"], found)


def _restarts(pod: Any) -> int:
    return int(pod["status"]["containerStatuses"][0]["restartCount"])
