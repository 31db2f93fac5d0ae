"""
The objects that the suite makes in a real cluster: pods that ask and answer, with the peer.

All run nfproxy's image, which has Python and is on the nodes already, with the peer from a
ConfigMap: no other image is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kind.cluster import SERVER_PORT, Json

LABEL = "nfproxy-test"
PEER = Path(__file__).with_name("peer.py")
SLEEP = "import time\nwhile True: time.sleep(3600)"


def peer_configmap() -> Json:
    """Return the ConfigMap with the peer."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "peer"},
        "data": {PEER.name: PEER.read_text()},
    }


def asking(name: str, image: str, *, host_network: bool) -> Json:
    """Return the DaemonSet of the pods that ask, on the node's network or their own."""
    spec = {
        **_pod([_container(image, ["-c", SLEEP])]),
        "hostNetwork": host_network,
        "terminationGracePeriodSeconds": 0,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }


def answering(name: str, number: int, node: str, image: str, linger_s: float) -> Json:
    """Return a Deployment with one pod of a workload, on a node as long as pods may come there."""
    server = {
        **_container(image, [f"/peer/{PEER.name}", "serve", "$(NAME)", str(SERVER_PORT)]),
        "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": {
            "tcpSocket": {"port": SERVER_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
    }
    server["args"] = [*server["args"], str(linger_s)]
    preferred = {
        "weight": 100,
        "preference": {
            "matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
            ]
        },
    }
    spec = {
        **_pod([server]),
        "affinity": {
            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}
        },
        "terminationGracePeriodSeconds": 60,
    }
    labels = {LABEL: name, "part": str(number)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{name}-{number}", "labels": {LABEL: name}},
        "spec": {
            "replicas": 1,
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def service(name: str, workload: str, spec: dict[str, Any]) -> Json:
    """Return a dual-stack Service before a workload, with port 80 of TCP and UDP."""
    ports = [
        {"name": word.lower(), "protocol": word, "port": 80, "targetPort": SERVER_PORT}
        for word in ("TCP", "UDP")
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {LABEL: workload}},
        "spec": {
            "selector": {LABEL: workload},
            "ipFamilyPolicy": "RequireDualStack",
            "ports": ports,
            **spec,
        },
    }


def _pod(containers: list[Json]) -> Json:
    return {
        "containers": containers,
        "tolerations": [{"operator": "Exists", "key": "node-role.kubernetes.io/control-plane"}],
        "volumes": [{"name": "peer", "configMap": {"name": "peer"}}],
        "automountServiceAccountToken": False,
    }


def _container(image: str, arguments: list[str]) -> Json:
    return {
        "name": "peer",
        "image": image,
        "command": ["python3"],
        "args": arguments,
        # Without a share of its own a pod waits for all others: on a busy machine its answers
        # come many seconds late, which looks like lost packets.
        "resources": {"requests": {"cpu": "100m"}},
        "volumeMounts": [{"name": "peer", "mountPath": "/peer", "readOnly": True}],
    }
