"""
Pods that do something once on each node: look whether it is fit, remove what a proxy has left.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.manifests import Object, compose, overlay
from support.manifests.kustomize import ONE_OFF
from support.manifests.podrules import containers

from nfproxy import __version__
from nfproxy.cli.cleanup import command as cleanup
from nfproxy.cli.preflight import command as preflight

NAME = "app.kubernetes.io/name"


def daemon_set(objects: list[Object]) -> Object:
    """Return the only DaemonSet."""
    (found,) = (item for item in objects if item["kind"] == "DaemonSet")
    return found


def pod(name: str, base: str = "") -> Any:
    """Return the pod spec of a one-off DaemonSet; of preflight on some overlay."""
    objects = compose(name, base=base) if base else overlay(name)
    return daemon_set(objects)["spec"]["template"]["spec"]


def added(container: Object) -> list[str]:
    """Return the capabilities of a container; all others are dropped."""
    capabilities = container["securityContext"]["capabilities"]
    assert capabilities["drop"] == ["ALL"]
    found: list[str] = capabilities.get("add", [])
    return found


@pytest.mark.parametrize("name", ONE_OFF)
def test_a_one_off_daemonset_is_none_of_nfproxys_pods(name: str) -> None:
    """Nothing that selects those selects it, and it has an image of this version."""
    made = daemon_set(overlay(name))
    labels = {NAME: f"nfproxy-{name}"}
    assert made["metadata"]["name"] == f"nfproxy-{name}"
    assert made["spec"]["selector"] == {"matchLabels": labels}
    assert made["spec"]["template"]["metadata"]["labels"] == labels
    images = {container["image"] for container in containers(made["spec"]["template"]["spec"])}
    assert images == {f"ghcr.io/nfproxy/nfproxy:{__version__}"}


@pytest.mark.parametrize("name", ONE_OFF)
def test_a_one_off_daemonset_has_the_privileges_that_it_needs_while_it_runs(name: str) -> None:
    """What remains of the pod, so that its state can be seen, has none."""
    needed = {
        "cleanup": ["NET_ADMIN"],
        "cleanup-kube-proxy": ["NET_ADMIN", "NET_RAW"],
        "preflight": ["NET_ADMIN", "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE"],
    }
    spec = pod(name)
    (one_off,), (left,) = spec["initContainers"], spec["containers"]
    assert added(one_off) == needed[name]
    assert added(left) == []
    assert left["command"] == ["sleep", "infinity"]
    assert "volumeMounts" not in left
    assert spec["hostNetwork"] is True
    assert spec["tolerations"] == [{"operator": "Exists"}]
    for container in (one_off, left):
        context = {**spec["securityContext"], **container["securityContext"]}
        assert context["privileged"] is False
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_only_preflight_has_credentials() -> None:
    """Those that nfproxy would have."""
    having = [name for name in ONE_OFF if pod(name).get("automountServiceAccountToken") is True]
    assert having == ["preflight"]
    assert pod("preflight")["serviceAccountName"] == "nfproxy"


@pytest.mark.parametrize("base", ["base", "eks", "kubeadm"])
def test_preflight_has_nfproxys_configuration_and_the_hosts_files(base: str) -> None:
    """With whatever overlay it is put on; nothing can be written to."""
    spec = pod("preflight", base)
    (check_up,) = spec["initContainers"]
    word, root, proc, config, name = check_up["args"]
    assert (word, root, proc) == ("preflight", "--host-root=/host", "--proc=/host/proc")
    assert name == "--hostname-override=$(NODE_NAME)"
    path = config.removeprefix("--config=").rpartition("/")[0]
    mounts = {mount["mountPath"]: mount["name"] for mount in check_up["volumeMounts"]}
    assert mounts["/host"] == "host"
    assert mounts[path] == "config"
    assert all(mount["readOnly"] for mount in check_up["volumeMounts"])
    assert {"name": "host", "hostPath": {"path": "/", "type": "Directory"}} in spec["volumes"]
    preflight.make_context("preflight", [root, proc, config, name])  # raises what click says


def test_clean_up_after_kube_proxy_takes_the_lock_and_sees_processes() -> None:
    """So that no iptables rule of another program gets lost, and a proxy that runs is noticed."""
    spec = pod("cleanup-kube-proxy")
    (one_off,) = spec["initContainers"]
    assert spec["hostPID"] is True
    assert one_off["args"] == ["cleanup", "--kube-proxy"]
    assert one_off["volumeMounts"] == [{"name": "xtables-lock", "mountPath": "/run/xtables.lock"}]
    source = {"path": "/run/xtables.lock", "type": "FileOrCreate"}
    assert spec["volumes"] == [{"name": "xtables-lock", "hostPath": source}]
    assert cleanup.make_context("cleanup", one_off["args"][1:]).params["kube_proxy"] is True


def test_clean_up_after_nfproxy_waits_until_nfproxy_has_gone() -> None:
    """By an anti-affinity with nfproxy's own pods; none with a priority has to wait for it."""
    spec = pod("cleanup")
    (one_off,) = spec["initContainers"]
    (term,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    labels = daemon_set(overlay("base"))["spec"]["template"]["metadata"]["labels"]
    assert term == {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": labels},
    }
    assert "nodeAffinity" not in spec["affinity"]
    assert "priorityClassName" not in spec
    assert one_off["args"] == ["cleanup"]
    assert one_off.get("volumeMounts", []) == []
    assert cleanup.make_context("cleanup", []).params["kube_proxy"] is False
