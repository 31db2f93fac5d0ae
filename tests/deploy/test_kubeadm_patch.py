"""
kubeadm's patch target ``kubeproxydaemonset``: kubeadm's own DaemonSet, which then runs nfproxy.

kubeadm merges the file strategically, as kustomize does.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.manifests import KUSTOMIZE, Object, build, check, find, overlay
from support.manifests.kubeproxy import ELSEWHERE, config_maps, daemon_set

from nfproxy.config.flags import Flags
from nfproxy.config.load import load

PATCH = KUSTOMIZE.parent / "kubeadm" / "kubeproxydaemonset+strategic.yaml"
NAMED = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: kube-proxy}\n"


@pytest.fixture
def patched(tmp_path: Path) -> Object:
    """kubeadm's DaemonSet with the patch."""
    (tmp_path / "daemonset.yaml").write_text(yaml.safe_dump(daemon_set()))
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["daemonset.yaml"],
        "patches": [
            {
                "patch": NAMED + PATCH.read_text(),
                "target": {"kind": "DaemonSet", "name": "kube-proxy"},
            }
        ],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    (made,) = build(tmp_path)
    return made


def test_the_pod_is_the_one_of_overlay_kubeadm(patched: Object) -> None:
    """Except for names, and for what decides on which nodes it runs."""
    check([patched], *ELSEWHERE)
    pod = patched["spec"]["template"]["spec"]
    ours = find(overlay("kubeadm"), "DaemonSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container.pop("name") == "kube-proxy"
    assert container.pop("command") == ["nfproxy"]  # the image's entry point
    assert container.pop("imagePullPolicy") == "IfNotPresent"
    (expected,) = ours["containers"]
    del expected["name"]
    renamed = [{**m, "name": "config"} for m in container["volumeMounts"]]
    for mount in renamed:
        mount.setdefault("readOnly", True)
    assert {**container, "volumeMounts": renamed} == expected
    (prepare,), (same,) = pod["initContainers"], ours["initContainers"]
    prepare["volumeMounts"] = [
        {**m, "name": "config" if m["name"] == "kube-proxy" else m["name"]}
        for m in prepare["volumeMounts"]
    ]
    assert prepare == same
    assert {volume["name"] for volume in pod["volumes"]} == {"kube-proxy", "sysctls"}
    other = {"containers", "initContainers", "volumes", "serviceAccountName", "affinity"}
    other |= {"automountServiceAccountToken"}
    assert {k: v for k, v in pod.items() if k not in other} == {
        k: v for k, v in ours.items() if k not in other
    }


@pytest.mark.parametrize("mode", ["", "iptables", "ipvs", "nftables"])
def test_kubeadms_configuration_is_taken_in_every_mode(tmp_path: Path, mode: str) -> None:
    """kubeadm 1.37 writes ``mode: iptables``; older ones leave it unset."""
    (maps,) = config_maps("kubeadm")
    text = maps["data"]["config.conf"].replace('mode: ""', f'mode: "{mode}"')
    path = tmp_path / "config.conf"
    path.write_text(text)
    loaded = load(Flags.of(config=str(path)))

    assert loaded.config.mode == "nftables"
    assert all("mode" in text for text in loaded.warnings)
    assert len(loaded.warnings) == (mode != "nftables")
