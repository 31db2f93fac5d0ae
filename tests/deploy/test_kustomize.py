"""What the manifests in deploy/kustomize say, whatever they are put together from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from support.manifests import KUSTOMIZE, Object, build, check, compose, find, overlay
from support.manifests.kubeproxy import ELSEWHERE
from support.manifests.kustomize import ONE_OFF, components, overlays
from support.manifests.podrules import containers

from nfproxy import __version__

#: Overlays that take kube-proxy's own ConfigMap, and so make none.
OF_KUBE_PROXY = ("eks", "kubeadm", "monitoring", "trial")

#: A component that makes nfproxy's pod one that looks whether nfproxy could run.
PREFLIGHT = "preflight"

Combination = tuple[str, tuple[str, ...]]


def combinations(*, one_off: bool) -> list[Combination]:
    """Return every overlay, and base and kubeadm with every component.."""
    added = [name for name in components() if name != PREFLIGHT]
    return [
        *((name, ()) for name in overlays(one_off=one_off)),
        *itertools.product(("base", "kubeadm"), ((name,) for name in added)),
        *itertools.product(("base", "eks") if one_off else (), ((PREFLIGHT,),)),
        ("base", tuple(added)),
    ]


def rendered(combination: Combination) -> list[Object]:
    """Return the objects of a combination of an overlay with components."""
    base, added = combination
    return compose(*added, base=base) if added else overlay(base)


def title(combination: Combination) -> str:
    """Return what to call a combination."""
    return "+".join((combination[0], *combination[1]))


@pytest.fixture(params=combinations(one_off=True), ids=title)
def everything(request: pytest.FixtureRequest) -> list[Object]:
    """The objects of every combination."""
    return rendered(request.param)


@pytest.fixture(params=combinations(one_off=False), ids=title)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """The objects of every combination that runs nfproxy."""
    return rendered(request.param)


@pytest.fixture(params=["base", "eks", "kubeadm"])
def preflight(request: pytest.FixtureRequest) -> list[Object]:
    """The objects that check whether nodes are fit, with several configurations."""
    return compose(PREFLIGHT, base=request.param)


def pod(objects: list[Object], name: str = "nfproxy") -> Mapping[str, Any]:
    """Return the pod spec of a DaemonSet."""
    spec: Mapping[str, Any] = find(objects, "DaemonSet", name)["spec"]["template"]["spec"]
    return spec


def security(objects: list[Object]) -> Iterator[Mapping[str, Any]]:
    """Return what is in force for each container of each pod, its pod's settings included."""
    for item in objects:
        if item["kind"] in ("DaemonSet", "Job"):
            spec = item["spec"]["template"]["spec"]
            for container in containers(spec):
                yield {**spec.get("securityContext", {}), **container["securityContext"]}


def test_every_kustomization_is_built_by_a_test() -> None:
    """One that is put elsewhere, or called otherwise, would be built by none."""
    names = ("kustomization.yaml", "kustomization.yml", "Kustomization")
    found = {path.parent for name in names for path in KUSTOMIZE.rglob(name)}
    expected = {KUSTOMIZE / "components" / name for name in components()}
    others = [name for name in overlays(one_off=True) if name != "base"]
    expected |= {KUSTOMIZE / "overlays" / name for name in others}
    assert expected | {KUSTOMIZE / "base"} == found
    assert {"api-servers", "preflight", "selinux", "trial", "without-prepare"} <= {*components()}
    assert {"eks", "k3s", "kind", "kubeadm", "rke2", "trial"} <= {*others}
    assert {*ONE_OFF} <= {*others}


def test_a_kustomization_that_cannot_be_built_is_an_error() -> None:
    """And not an empty list of objects, in which every test finds nothing wrong."""
    with pytest.raises(ValueError, match="unable to find one of"):
        build(KUSTOMIZE / "components")


def test_what_is_rendered_is_what_kubernetes_takes(everything: list[Object]) -> None:
    """Strictly: no field is unknown, nothing refers to what is not there."""
    check(everything, *ELSEWHERE)


def test_all_is_in_kube_system_and_labelled(everything: list[Object]) -> None:
    """
    So that all of it is found by one label: kubectl get all -A -l app.kubernetes.io/name=nfproxy.
    """
    for item in everything:
        metadata = item["metadata"]
        assert metadata.get("namespace") in ("kube-system", None)
        assert metadata["labels"]["app.kubernetes.io/name"] == "nfproxy"


def test_containers_have_no_privileges_but_one_capability(objects: list[Object]) -> None:
    """Nothing more than CAP_NET_ADMIN, on a file system that cannot be written to."""
    contexts = [*security(objects)]
    assert contexts
    for context in contexts:
        assert context["privileged"] is False
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["runAsUser"] == 0


def test_of_the_host_only_network_sysctls_are_mounted(objects: list[Object]) -> None:
    """For the container that sets them, and no other."""
    spec = pod(objects)
    paths = [v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v]
    prepared = [container["name"] for container in spec.get("initContainers", ())]
    assert (paths, prepared) in (([], []), (["/proc/sys/net"], ["prepare"]))
    (main,) = spec["containers"]
    assert all(mount["readOnly"] for mount in main["volumeMounts"])
    assert "sysctls" not in [mount["name"] for mount in main["volumeMounts"]]


def test_the_pod_is_one_of_its_node(objects: list[Object]) -> None:
    """
    In the host's network and names, there before all others, on every node, whatever its taints.
    """
    spec = pod(objects)
    assert spec["hostNetwork"] is True
    assert not spec.get("hostPID")
    assert not spec.get("hostIPC")
    assert spec["dnsPolicy"] == "Default"
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["nodeSelector"]["kubernetes.io/os"] == "linux"
    strategy = find(objects, "DaemonSet")["spec"]["updateStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}


def test_the_container_is_probed_where_the_daemon_answers(objects: list[Object]) -> None:
    """Liveness asks for what a restart could mend, readiness for what has been programmed."""
    (main,) = pod(objects)["containers"]
    port = {port["name"]: port["containerPort"] for port in main["ports"]}
    assert port["healthz"] == 10256
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert main[probe]["httpGet"] == {"path": path, "port": "healthz"}
    assert "startupProbe" not in main


def test_resources_are_requested_modestly_and_processor_time_is_not_limited(
    objects: list[Object],
) -> None:
    """A proxy that is throttled lets every Service of its node wait."""
    for container in containers(pod(objects)):
        assert container["resources"] == {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"memory": "1Gi"},
        }


def test_all_containers_run_the_image_of_this_version(objects: list[Object]) -> None:
    """One place says which: images in base/kustomization.yaml."""
    images = {container["image"] for container in containers(pod(objects))}
    assert images == {f"ghcr.io/nfproxy/nfproxy:{__version__}"}


@pytest.mark.parametrize("directory", ["base", "overlays/cleanup-kube-proxy"])
def test_the_image_is_changed_in_one_place(directory: str) -> None:
    """By a kustomization's images, for every container."""
    data = yaml.safe_load((KUSTOMIZE / directory / "kustomization.yaml").read_text())
    assert data["images"] == [{"name": "ghcr.io/nfproxy/nfproxy", "newTag": __version__}]
    text = (KUSTOMIZE / directory / "daemonset.yaml").read_text()
    assert text.count("image: ghcr.io/nfproxy/nfproxy\n") == text.count("image:") == 2


def test_the_pod_has_credentials_and_nothing_else_has(objects: list[Object]) -> None:
    """Its ServiceAccount's token is mounted since the DaemonSet asks for it."""
    spec = pod(objects)
    assert spec["serviceAccountName"] == "nfproxy"
    assert spec["automountServiceAccountToken"] is True
    assert find(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    (subject,) = find(objects, "ClusterRoleBinding")["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "nfproxy", "namespace": "kube-system"}


@pytest.mark.parametrize("name", overlays())
def test_configuration_is_nfproxys_own_or_kube_proxys(name: str) -> None:
    """A ConfigMap is made where there is none to take over."""
    objects = overlay(name)
    made = [item["metadata"]["name"] for item in objects if item["kind"] == "ConfigMap"]
    used = [v["configMap"]["name"] for v in pod(objects)["volumes"] if "configMap" in v]
    if name in OF_KUBE_PROXY:
        assert "nfproxy" not in made
        assert used == {"eks": ["kube-proxy-config", "kube-proxy"]}.get(name, ["kube-proxy"])
    else:
        assert "nfproxy" in made
        assert used == ["nfproxy"]


def test_without_prepare_nothing_of_the_host_is_mounted() -> None:
    """And nothing else changes."""
    bare, whole = pod(compose("without-prepare")), {**pod(overlay("base"))}
    assert bare.get("initContainers", []) == []
    assert [volume["name"] for volume in bare["volumes"]] == ["config"]
    unchanged = {*whole} - {"initContainers", "volumes"}
    assert {key: bare[key] for key in unchanged} == {key: whole[key] for key in unchanged}


def test_selinux_does_not_confine_the_pod_where_that_is_asked_for() -> None:
    """For all of its containers."""
    context = pod(compose("selinux"))["securityContext"]
    assert context["seLinuxOptions"] == {"type": "spc_t"}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
