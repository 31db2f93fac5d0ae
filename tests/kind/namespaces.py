"""
A cluster of network namespaces: nfproxy's DaemonSet as rendered, and the rest played.

Each node is a namespace, in which crun runs the pod of the rendered DaemonSet, from the image
built from deploy/Dockerfile. Pods that ask and answer are the peer in namespaces of their own.
The API server is the stand-in, on the nodes' network, with the CA that signed its certificate in
the pods' service account and with the rendered RBAC objects in force. What controllers do, this
module and `kind.controllers` do: Services get addresses, EndpointSlices follow pods.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kind.clients import Client
from kind.cluster import FAMILIES, SERVER_PORT, Backend, Cluster, Node, Service
from kind.controllers import (
    NAMESPACE,
    SERVICE_CIDR,
    Endpoint,
    node_object,
    service_object,
    slice_name,
    slices,
)
from support.apiserver import StandIn
from support.containers import cgroups
from support.containers.image import BuiltImage
from support.containers.pods import Kubelet, KubeletPod, ServiceAccount
from support.containers.spec import Image
from support.containers.spec import Node as NodeFacts
from support.manifests import Object, find

from nfproxy.tools.lab import Cluster as Network
from nfproxy.tools.lab import Host, Pod
from nfproxy.tools.lab.cluster import UNDERLAY_GATEWAY

PEER = Path(__file__).with_name("peer.py")
API_PORT = 6443
CONTROL_PLANE = "kind-control-plane"
USER = "system:serviceaccount:kube-system:nfproxy"
DROPPED_S = (
    2.0  # longer than until a SYN is sent again: an ICMPv6 error in answer to the first may come
)
# while connect() still holds the socket, and is forgotten then

_GRACE_S = 30.0  # as pods have it


class Server:
    """A pod that answers, and what its endpoint says of it."""

    def __init__(self, workload: str, pod: Pod, process: subprocess.Popen[Any]) -> None:
        self.workload = workload
        self.pod = pod
        self.process = process
        self.terminating = False

    @property
    def name(self) -> str:
        """The pod's name, which it answers with."""
        return self.pod.name

    def endpoint(self) -> Endpoint:
        """Return what EndpointSlices say of it."""
        return Endpoint(self.name, self.pod.node.name, _addresses(self.pod), self.terminating)


class NamespacesCluster(Cluster):
    """
    The cluster; `objects` are the rendered manifests, and `image` what their pods run.

    The constructor returns when nfproxy is ready on every node.
    """

    patience_s = 30.0

    def __init__(self, objects: Sequence[Object], image: BuiltImage) -> None:
        self._objects = objects
        self._scratch = Path(tempfile.mkdtemp(prefix="nfproxy-kind-"))
        self._exit = contextlib.ExitStack()
        self._exit.callback(cgroups.sweep)
        self._exit.callback(shutil.rmtree, self._scratch, ignore_errors=True)
        self._numbers = itertools.count(1)
        self._servers: list[Server] = []
        self._services: dict[str, list[Service]] = {}
        self._cordoned: set[str] = set()
        self._lock = threading.RLock()
        try:
            self._build(image)
        except BaseException:
            self.close()
            raise

    def _build(self, image: BuiltImage) -> None:
        self.network = self._exit.enter_context(Network(nodes=3, pods_per_node=1))
        self.nodes = [Node(host.name, _addresses(host)) for host in self.network.nodes]
        self.api = self._exit.enter_context(
            StandIn(
                self.network.underlay.namespace,
                addresses=UNDERLAY_GATEWAY,
                port=API_PORT,
                names=(CONTROL_PLANE,),
            )
        )
        self.api.set_rbac(list(self._objects))
        self.api.apply(*(node_object(host) for host in self.network.nodes), SERVICE_CIDR)
        self._clients = {
            host.name: self._exit.enter_context(contextlib.closing(self._client(host)))
            for host in self.network.hosts
        }
        self.outside = self._clients[self.network.client.name]
        self.kubelets = {host.name: self._kubelet(host, image) for host in self.network.nodes}
        self.accounts: dict[str, ServiceAccount] = {}
        self._pods: dict[str, KubeletPod] = {}
        self._exit.callback(self._stop_proxies)
        for name in self.kubelets:
            self._pods[name] = self.start_proxy(name)
        for pod in self._pods.values():
            pod.wait_ready()

    def close(self) -> None:
        """Remove everything that was made."""
        self._exit.close()

    # -- nfproxy ----------------------------------------------------------------------------

    def _kubelet(self, host: Host, image: BuiltImage) -> Kubelet:
        hosts = self._scratch / f"{host.name}-hosts"
        names = [f"{address} {CONTROL_PLANE}" for address in UNDERLAY_GATEWAY]
        hosts.write_text("\n".join(["127.0.0.1 localhost", "::1 localhost", *names, ""]))
        facts = NodeFacts(host.name, host.addresses[0], {"/etc/hosts": hosts})
        return Kubelet(host.namespace, facts, self._scratch, image.root, facts_of(image))

    def start_proxy(
        self,
        node: str,
        objects: Sequence[Object] | None = None,
        account: ServiceAccount | None = None,
    ) -> KubeletPod:
        """Start the pod of the DaemonSet on a node, or of another rendering of it."""
        rendered = self._objects if objects is None else objects
        pod = find(rendered, "DaemonSet")["spec"]["template"]["spec"]
        configmaps = {
            item["metadata"]["name"]: item["data"]
            for item in rendered
            if item["kind"] == "ConfigMap"
        }
        self.accounts[node] = account or self.new_account()
        return self.kubelets[node].start(pod, configmaps, self.accounts[node])

    def new_account(self) -> ServiceAccount:
        """Return a token of the DaemonSet's service account that is valid from now on."""
        token = secrets.token_urlsafe()
        self.api.add_token(token, USER)
        return ServiceAccount(token, self.api.ca_file.read_text())

    def proxy(self, node: str) -> KubeletPod:
        """Return nfproxy's pod on a node."""
        return self._pods[node]

    def stop_proxy(self, node: str) -> int:
        """Delete nfproxy's pod on a node; return its container's exit status."""
        return self._pods.pop(node).delete()

    @contextlib.contextmanager
    def without_proxy(self, node: str) -> Iterator[Kubelet]:
        """Have no pod of nfproxy on a node for a while, but its kubelet."""
        self.stop_proxy(node)
        try:
            yield self.kubelets[node]
        finally:
            self._pods[node] = self.start_proxy(node)
            self._pods[node].wait_ready()

    def roll_proxy(self) -> None:
        """Exchange the DaemonSet's pods, one node after the other, each until it is ready."""
        for node in self.nodes:
            self.stop_proxy(node.name)
            self._pods[node.name] = self.start_proxy(node.name)
            self._pods[node.name].wait_ready()

    def crash_proxy(self, node: str) -> None:
        """Kill nfproxy's process on a node, and wait until it is ready again."""
        pod = self.proxy(node)
        restarts = pod.restarts
        pod.running().kill()
        pod.wait_until(lambda: pod.restarts > restarts and pod.ready(), "ready again")

    def proxy_file(self, node: str, path: str) -> str:
        """Return what is in a file, as nfproxy's container sees it."""
        pid = self.proxy(node).running().pid
        if path.startswith("/proc/1/"):  # its /proc is out of reach from here
            return Path(f"/proc/{pid}", path.removeprefix("/proc/1/")).read_text()
        return Path(f"/proc/{pid}/root{path}").read_text()

    def proxy_log(self, node: str) -> str:
        """Return what nfproxy logged since its container was started last."""
        return self.proxy(node).running().output

    def _stop_proxies(self) -> None:
        for pod in self._pods.values():
            pod.delete()

    # -- who asks ---------------------------------------------------------------------------

    def pod_on(self, node: str) -> Client:
        """Return the pod on a node that asks."""
        number = [one.name for one in self.nodes].index(node) + 1
        return self._clients[self.network.pod(number, 1).name]

    def host(self, node: str) -> Client:
        """Return a process on a node's own network."""
        return self._clients[node]

    def _client(self, host: Host) -> Client:
        def start() -> subprocess.Popen[Any]:
            return host.namespace.start(
                [sys.executable, "-IS", str(PEER), "ask"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )

        return Client(host.name, start, DROPPED_S)

    # -- who answers ------------------------------------------------------------------------

    def deploy(self, name: str, nodes: Sequence[str], *, linger_s: float = 0.5) -> None:
        """Run one pod that answers on each of these nodes."""
        for node in nodes:
            self._start_server(name, node, linger_s)

    def _start_server(self, workload: str, node: str, linger_s: float) -> Server:
        number = [one.name for one in self.nodes].index(node)
        name = f"{workload}-{next(self._numbers)}"
        pod = self.network.add_pod(self.network.nodes[number], name)
        process = pod.namespace.start(
            [
                *(sys.executable, "-IS", str(PEER), "serve"),
                *(name, str(SERVER_PORT), str(linger_s)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        server = Server(workload, pod, process)
        with self._lock:
            self._servers.append(server)
            self._publish(workload)
        return server

    def _of(self, workload: str) -> list[Server]:
        return [server for server in self._servers if server.workload == workload]

    def backends(self, name: str) -> list[Backend]:
        """Return a workload's pods that are ready."""
        return [
            Backend(server.name, server.pod.node.name)
            for server in self._of(name)
            if not server.terminating
        ]

    def _publish(self, workload: str) -> None:
        """Write the EndpointSlices of the Services before a workload."""
        for service in self._services.get(workload, ()):
            self.api.apply(*slices(service, [one.endpoint() for one in self._of(workload)]))

    def _end(self, server: Server) -> None:
        """End a pod as kubelet and the endpoints controller do: it serves on while it ends."""
        with self._lock:
            server.terminating = True
            self._publish(server.workload)
        server.process.terminate()
        try:
            server.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            server.process.kill()
        with self._lock:
            self._servers.remove(server)
            self._publish(server.workload)
        self.network.remove_pod(server.pod)

    def roll(self, name: str) -> None:
        """Exchange all pods of a workload, a new one being ready before an old one ends."""
        for server in list(self._of(name)):
            self._start_server(name, server.pod.node.name, 0.5)
            self._end(server)

    def drain(self, node: str) -> None:
        """Let no new pods come to a node, and evict those of workloads; they come up elsewhere."""
        self._cordoned.add(node)
        others = itertools.cycle(n.name for n in self.nodes if n.name not in self._cordoned)
        for server in [one for one in self._servers if one.pod.node.name == node]:
            ending = threading.Thread(target=self._end, args=[server])
            ending.start()
            self._start_server(server.workload, next(others), 0.5)
            ending.join()

    def uncordon(self, node: str) -> None:
        """Let pods come to a node again."""
        self._cordoned.discard(node)

    def expose(self, name: str, *, service: str = "", **spec: Any) -> Service:
        """Make a dual-stack Service before a workload, and return it."""
        made = Service(service_object(service or name, next(self._numbers), spec))
        with self._lock:
            self._services.setdefault(name, []).append(made)
            self.api.apply(made.item)
            self._publish(name)
        return made

    def set_ingress(self, service: Service, addresses: Iterable[str]) -> None:
        """Let a load balancer have given a Service these addresses."""
        ingress = [{"ip": address, "ipMode": "VIP"} for address in addresses]
        service.item = {**service.item, "status": {"loadBalancer": {"ingress": ingress}}}
        self.api.apply(service.item)

    def remove(self, name: str) -> None:
        """Remove a workload, and the Services before it."""
        with self._lock:
            for service in self._services.pop(name, ()):
                self.api.delete("services", NAMESPACE, service.name)
                for family in FAMILIES:
                    self.api.delete("endpointslices", NAMESPACE, slice_name(service, family))
        for server in self._of(name):
            self._servers.remove(server)
            server.process.kill()
            self.network.remove_pod(server.pod)


def facts_of(image: BuiltImage) -> Image:
    """Return what an image's configuration says of its containers."""
    return Image(image.config["Entrypoint"], image.config["Env"])


def _addresses(host: Host) -> dict[str, str]:
    return dict(zip(FAMILIES, host.addresses[0], strict=True))
