"""
The chart and the kustomize manifests describe the same objects.

For each overlay and each component there are values that make the chart say the same, object
by object; what only a release of Helm has is named in `without_release`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

import pytest
import yaml
from support.manifests import Object, compose, named, overlay
from support.manifests.helm import CHART, Values, preset, render
from support.manifests.kustomize import components, overlays
from tools.helm import Helm, versions

#: What stands in the base for the user to replace.
BASE: Values = {"apiServers": ["https://put-the-api-server-here.invalid:6443"]}

MONITORED: Values = {
    "metrics": {name: {"enabled": True} for name in ("podMonitor", "rules", "dashboard")}
}

#: The overlays that are not the base with one of the chart's presets.
OTHER_OVERLAYS: Mapping[str, Values] = {
    "base": BASE,
    "monitoring": {**preset("kubeadm"), **MONITORED},
    "preflight": {**preset("kubeadm"), "preflight": {"enabled": True}},
}

#: Each component → the values that do the same.
COMPONENTS: Mapping[str, Values] = {
    "api-servers": {
        "apiServers": [
            "https://control-plane-1.invalid:6443",
            "https://control-plane-2.invalid:6443",
        ]
    },
    "monitoring": MONITORED,
    "preflight": {"preflight": {"enabled": True}},
    "service-connections": {
        "metrics": {
            **MONITORED["metrics"],
            "podMonitor": {"enabled": True, "serviceConnections": True},
        }
    },
    "selinux": {"seLinuxOptions": {"type": "spc_t"}},
    "trial": {"trial": {"enabled": True}},
    "without-prepare": {"prepare": {"enabled": False}},
}

#: Components that change what another has.
BESIDE: Mapping[str, tuple[str, ...]] = {"service-connections": ("monitoring",)}

RELEASE_LABELS = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
)
POD_ANNOTATIONS = ("checksum/config",)


def without_release(objects: Iterable[Object]) -> dict[tuple[str, str, str], Object]:
    """
    Return objects by kind, namespace and name, without what chart and manifests need not share.

    Helm labels objects with its release, and the chart lets a change of the ConfigMap replace
    the pods, by an annotation. Files in ConfigMaps are compared as the data they hold. A pull
    policy is explicit in the chart: the API server's default. Volumes and ports
    have no order.
    """
    return {named(item): _plain(copy.deepcopy(item)) for item in objects}


def as_text(objects: Mapping[tuple[str, str, str], Object]) -> str:
    """Return objects as text in a fixed order, of which pytest shows the lines that differ."""
    return yaml.safe_dump_all(objects[name] for name in sorted(objects))


def _plain(item: Object) -> Object:
    _remove(item["metadata"], "labels", RELEASE_LABELS)
    if item["kind"] == "ConfigMap":
        item["data"] = {key: _data(text) for key, text in item["data"].items()}
    if item["kind"] == "DaemonSet":
        template = item["spec"]["template"]
        _remove(template["metadata"], "annotations", POD_ANNOTATIONS)
        spec = template["spec"]
        if not spec.setdefault("initContainers", []):  # kustomize leaves an empty list
            del spec["initContainers"]
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            if container.get("imagePullPolicy") == "IfNotPresent":
                del container["imagePullPolicy"]
            container.get("volumeMounts", []).sort(key=itemgetter("mountPath"))
            container.get("ports", []).sort(key=itemgetter("name"))
        spec["volumes"].sort(key=itemgetter("name"))
    return item


def _remove(data: dict[str, Any], key: str, names: Iterable[str]) -> None:
    kept = {name: value for name, value in data.get(key, {}).items() if name not in names}
    if kept:
        data[key] = kept
    else:
        data.pop(key, None)


def _data(text: str) -> Any:
    """Return what a file in a ConfigMap says; files that are no YAML or JSON as they are."""
    return yaml.safe_load(text)


@pytest.mark.parametrize("helm", versions(), ids=str)
@pytest.mark.parametrize("name", [*overlays(), "preflight"])
def test_the_chart_with_a_preset_is_the_overlay(name: str, helm: Helm) -> None:
    """With the preset of an overlay's name the chart has the overlay's objects and no others."""
    values = OTHER_OVERLAYS.get(name) or preset(name)

    expected = without_release(overlay(name))

    assert as_text(expected) == as_text(without_release(render(helm, values)))


@pytest.mark.parametrize("helm", versions(), ids=str)
@pytest.mark.parametrize(("name", "values"), COMPONENTS.items(), ids=[*COMPONENTS])
def test_a_value_does_what_a_component_does(name: str, values: Values, helm: Helm) -> None:
    """Each component has values that change the chart's objects in the same way."""
    expected = without_release(compose(*BESIDE.get(name, ()), name))
    if name == "api-servers":  # the component lets the placeholder stand, which no longer counts
        kubeconfig = expected["ConfigMap", "kube-system", "nfproxy"]["data"]["kubeconfig.conf"]
        kubeconfig["clusters"][0]["cluster"]["server"] = values["apiServers"][0]

    assert as_text(expected) == as_text(without_release(render(helm, BASE, values)))


def test_every_component_is_compared() -> None:
    """A new component cannot be forgotten in the chart."""
    assert set(components()) == set(COMPONENTS)


def test_every_preset_is_compared() -> None:
    """Each preset has the name of an overlay."""
    presets = {path.stem for path in (CHART / "presets").iterdir()}

    assert presets == {*overlays()} - {*OTHER_OVERLAYS}
