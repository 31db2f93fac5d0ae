"""kube-proxy in a cluster of nfproxy, as kubeadm installs it, in a mode of one's choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from kind.cluster import Json
from kind.existing import ExistingCluster
from kind.kubectl import ready_pods

_NAME, _SYSTEM = "kube-proxy", "kube-system"
_PATCHES = Path(__file__).parents[2] / "deploy" / "kustomize" / "kube-proxy"


class KubeProxy:
    """kube-proxy's DaemonSet, and the commands of deploy/docs/switching.md."""

    def __init__(self, cluster: ExistingCluster, mode: str) -> None:
        self._cluster = cluster
        self._kubectl = cluster.kubectl
        self._mode = mode
        self._nfproxy = _stripped(cluster.kubectl.get("daemonset", "nfproxy", namespace=_SYSTEM))

    def come(self) -> None:
        """Let kube-proxy's pods come to all nodes, and wait until they run."""
        configmap = self._kubectl.get("configmap", "nfproxy", namespace=_SYSTEM)
        version = self._kubectl.get("nodes")["items"][0]["status"]["nodeInfo"]["kubeletVersion"]
        self._kubectl.apply(*_objects(configmap["data"], self._mode, version), namespace=_SYSTEM)
        self._patch("on.yaml")
        self._kubectl.rolled_out("daemonset", _NAME, namespace=_SYSTEM)

    def go(self) -> None:
        """Let kube-proxy's pods leave all nodes; what they programmed stays."""
        self._patch("off.yaml")
        self._kubectl.rolled_out("daemonset", _NAME, namespace=_SYSTEM)
        self._cluster.wait(lambda: not self._pods(f"k8s-app={_NAME}"))

    def nfproxy_goes(self) -> None:
        """Delete nfproxy's DaemonSet; what its pods programmed stays."""
        self._kubectl("delete", "daemonset", "nfproxy", "--wait", namespace=_SYSTEM)
        self._cluster.wait(lambda: not self._pods("app.kubernetes.io/name=nfproxy"))

    def nfproxy_comes(self) -> None:
        """Create nfproxy's DaemonSet again, and wait until its pods say they have programmed."""
        self._kubectl.apply(self._nfproxy, namespace=_SYSTEM)
        self._cluster.wait(self._all_programmed)

    def _all_programmed(self) -> bool:
        names = [pod["metadata"]["name"] for pod in self._pods("app.kubernetes.io/name=nfproxy")]
        if len(names) < len(self._cluster.nodes):
            return False
        try:
            logs = [self._kubectl("logs", name, namespace=_SYSTEM) for name in names]
        except RuntimeError:  # it is being created
            return False
        return all("ready after" in log for log in logs)

    def nfproxy_is_ready(self) -> None:
        """Wait until nfproxy is ready everywhere."""
        self._kubectl.rolled_out("daemonset", "nfproxy", namespace=_SYSTEM)
        ready = ready_pods(self._pods("app.kubernetes.io/name=nfproxy"))
        assert len(ready) == len(self._cluster.nodes)

    def clean_up_kube_proxy(self, node: str) -> str:
        """Remove on a node what kube-proxy left; return what was said."""
        pod = self._cluster.proxy_pod(node)["metadata"]["name"]
        command = ("exec", pod, "--", "nfproxy", "cleanup", "--kube-proxy")
        return self._kubectl(*command, namespace=_SYSTEM)

    def clean_up_nfproxy(self, node: str) -> str:
        """
        Remove on a node what nfproxy left; return what was said.

        It is refused before kube-proxy has programmed the node, and tried again.
        """
        said = ""

        def removed() -> bool:
            nonlocal said
            said = self._kubectl(
                *("debug", f"node/{node}", "--profile=netadmin", f"--image={self._cluster.image}"),
                *("--attach", "--quiet", "--", "nfproxy", "cleanup"),
            )
            return "removed" in said

        self._cluster.wait(removed)
        return said

    def close(self) -> None:
        """Leave nfproxy alone in the cluster."""
        self.nfproxy_comes()
        self.go()
        self._kubectl("delete", "daemonset,configmap,serviceaccount", _NAME, namespace=_SYSTEM)
        self._kubectl("delete", "clusterrolebinding", f"nfproxy-test:{_NAME}")
        self.nfproxy_is_ready()
        for node in self._cluster.nodes:
            self.clean_up_kube_proxy(node.name)
        self._cluster.roll_proxy()  # with nothing to say about kube-proxy in their logs

    def _patch(self, file: str) -> None:
        path = str(_PATCHES / file)
        self._kubectl("patch", "daemonset", _NAME, "--patch-file", path, namespace=_SYSTEM)

    def _pods(self, selector: str) -> list[Any]:
        return self._kubectl.items("pods", f"--selector={selector}", namespace=_SYSTEM)


def _stripped(item: Json) -> Json:
    """Return an object as it can be created again."""
    return {
        **{key: item[key] for key in ("apiVersion", "kind", "spec")},
        "metadata": {key: item["metadata"][key] for key in ("name", "namespace", "labels")},
    }


def _objects(nfproxy: Json, mode: str, version: str) -> list[Json]:
    """Return what kubeadm makes for kube-proxy, with the addresses that nfproxy gets."""
    ours = yaml.safe_load(nfproxy["config.conf"])
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "clusterCIDR": ours.get("clusterCIDR", ""),
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf"},
        "conntrack": {"maxPerCore": 0},  # as kind has it: the limit is the whole machine's
    }
    metadata = {"name": _NAME, "namespace": _SYSTEM, "labels": {"k8s-app": _NAME}}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"nfproxy-test:{_NAME}"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:node-proxier",
            },
            "subjects": [{"kind": "ServiceAccount", "name": _NAME, "namespace": _SYSTEM}],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {
                "config.conf": json.dumps(config),
                "kubeconfig.conf": nfproxy["kubeconfig.conf"],
            },
        },
        _daemonset(version),
    ]


def _daemonset(version: str) -> Json:
    node_name = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    mounts = {_NAME: "/var/lib/kube-proxy", "lock": "/run/xtables.lock", "modules": "/lib/modules"}
    container = {
        "name": _NAME,
        "image": f"registry.k8s.io/kube-proxy:{version}",
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "/usr/local/bin/kube-proxy",
            "--config=/var/lib/kube-proxy/config.conf",
            "--hostname-override=$(NODE_NAME)",
        ],
        "env": [node_name],
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": name, "mountPath": at} for name, at in mounts.items()],
    }
    spec = {
        "serviceAccountName": _NAME,
        "hostNetwork": True,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [
            {"name": _NAME, "configMap": {"name": _NAME}},
            {"name": "lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
            {"name": "modules", "hostPath": {"path": "/lib/modules"}},
        ],
    }
    labels = {"k8s-app": _NAME}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": _NAME, "namespace": _SYSTEM, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
