"""Which nodes have which proxy, in every state between kube-proxy alone and nfproxy alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from support.manifests import KUSTOMIZE, Object, build, check, compose, find, overlay
from support.manifests.kubeproxy import ELSEWHERE, daemon_set

LABEL = "nfproxy.io/proxy"

#: Nodes by what their label says; "" has none.
NODES = ("", "nfproxy", "kube-proxy")


def selects(daemonset: Object, label: str) -> bool:
    """Return whether a DaemonSet runs on a Linux node with our label (""), as its author means."""
    labels = {"kubernetes.io/os": "linux", **({LABEL: label} if label else {})}
    pod = daemonset["spec"]["template"]["spec"]
    if not pod.get("nodeSelector", {}).items() <= labels.items():
        return False
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = required["nodeSelectorTerms"] if required else [{"matchExpressions": []}]
    return any(all(fits(wanted, labels) for wanted in t["matchExpressions"]) for t in terms)


def fits(wanted: Object, labels: Mapping[str, str]) -> bool:
    """Return whether labels satisfy an expression. Source: nodeaffinity's requirements."""
    among = labels.get(wanted["key"]) in wanted["values"]
    return {"In": among, "NotIn": not among}[wanted["operator"]]


def patched(scratch: Path, *patches: str) -> Object:
    """Return kube-proxy's DaemonSet after kubectl patch --patch-file, with one after the other."""
    (scratch / "daemonset.yaml").write_text(yaml.safe_dump(daemon_set()))
    contents = [(KUSTOMIZE / "kube-proxy" / f"{name}.yaml").read_text() for name in patches]
    target = {"kind": "DaemonSet", "name": "kube-proxy"}
    named = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: kube-proxy}\n"
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["daemonset.yaml"],
        "patches": [{"patch": named + content, "target": target} for content in contents],
    }
    (scratch / "kustomization.yaml").write_text(yaml.safe_dump(content))
    (made,) = build(scratch)
    check([made], *ELSEWHERE)
    return made


@pytest.mark.parametrize(
    ("patches", "ours", "expected"),
    [
        ((), None, {"": "kube-proxy", "nfproxy": "kube-proxy", "kube-proxy": "kube-proxy"}),
        (("trial",), "trial", {"": "kube-proxy", "nfproxy": "nfproxy", "kube-proxy": "kube-proxy"}),
        (("off",), "kubeadm", {"": "nfproxy", "nfproxy": "nfproxy", "kube-proxy": "kube-proxy"}),
        (
            ("trial", "off"),
            "kubeadm",
            {"": "nfproxy", "nfproxy": "nfproxy", "kube-proxy": "kube-proxy"},
        ),
        (
            ("trial", "off", "trial"),
            "trial",
            {"": "kube-proxy", "nfproxy": "nfproxy", "kube-proxy": "kube-proxy"},
        ),
        (
            ("off", "on"),
            None,
            {"": "kube-proxy", "nfproxy": "kube-proxy", "kube-proxy": "kube-proxy"},
        ),
    ],
    ids=["before", "trial", "switched", "trial, switched", "back to trial", "back"],
)
def test_every_node_has_one_proxy(
    tmp_path: Path, patches: tuple[str, ...], ours: str | None, expected: Mapping[str, str]
) -> None:
    """One at a time: two would take turns with connections, none would lose them."""
    running = [patched(tmp_path, *patches)]
    if ours is not None:
        running.append(find(overlay(ours), "DaemonSet"))
    found = {
        label: "+".join(d["metadata"]["name"] for d in running if selects(d, label))
        for label in NODES
    }
    assert expected == found


def test_the_way_back_leaves_kube_proxy_as_it_was(tmp_path: Path) -> None:
    """But for an empty affinity."""
    back = patched(tmp_path, "trial", "off", "on")
    back["spec"]["template"]["spec"].pop("affinity", None)
    assert daemon_set() == back


def test_a_trial_on_another_cluster_is_a_component() -> None:
    """It goes with any overlay."""
    daemonset = find(compose("trial", base="eks"), "DaemonSet")
    assert [selects(daemonset, label) for label in NODES] == [False, True, False]


def test_a_node_given_back_is_left_alone_by_every_overlay() -> None:
    """And one without a label, or ours, is served, unless nfproxy is on trial."""
    for name in ("base", "eks", "k3s", "kind", "kubeadm", "rke2"):
        daemonset = find(overlay(name), "DaemonSet")
        assert [selects(daemonset, label) for label in NODES] == [True, True, False]


@pytest.mark.parametrize("name", ["trial", "off", "on"])
def test_patches_say_how_to_use_them(name: str) -> None:
    """The command in their heading names the file itself."""
    text = (KUSTOMIZE / "kube-proxy" / f"{name}.yaml").read_text()
    assert f"patch daemonset kube-proxy --patch-file kube-proxy/{name}.yaml\n" in text
