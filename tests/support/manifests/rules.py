"""
What the API server demands of objects beside their shape, and what objects demand of each other.

Source: ``pkg/apis/*/validation`` of Kubernetes 1.36, for the fields that manifests here use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from support.manifests import podrules
from support.manifests.names import is_label_name, is_subdomain, labels
from support.manifests.objects import Object, named

_CLUSTER_SCOPED = ("ClusterRole", "ClusterRoleBinding")
_RBAC = "rbac.authorization.k8s.io"
_VERBS = {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
_PERCENT = re.compile(r"[1-9][0-9]?%|100%")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def of_object(item: Object) -> Iterator[str]:
    """Find what is wrong with an object for itself, whose shape is right."""
    yield from _metadata(item)
    special: dict[str, Callable[[Object], Iterator[str]]] = {
        "ConfigMap": _config_map,
        "Service": _service,
        "DaemonSet": _daemon_set,
        "Job": _job,
        "ClusterRole": _role,
        "Role": _role,
        "ClusterRoleBinding": _binding,
        "RoleBinding": _binding,
    }
    if item["kind"] in special:
        yield from special[item["kind"]](item)


def _metadata(item: Object) -> Iterator[str]:
    metadata = item.get("metadata") or {}
    if not is_subdomain(metadata.get("name")):
        yield f"metadata.name: {metadata.get('name')!r} is no DNS subdomain name"
    if (item["kind"] in _CLUSTER_SCOPED) == bool(metadata.get("namespace")):
        yield f"metadata.namespace: {metadata.get('namespace')!r} does not fit {item['kind']}"
    yield from labels("metadata.labels", metadata.get("labels"))
    for key in metadata.get("annotations") or {}:
        if not is_label_name(key):
            yield f"metadata.annotations: {key!r} is no key"


def _config_map(item: Object) -> Iterator[str]:
    for key in {**(item.get("data") or {}), **(item.get("binaryData") or {})}:
        if not _KEY.fullmatch(key):
            yield f"data: {key!r} is no key"


def _service(item: Object) -> Iterator[str]:
    ports = item["spec"].get("ports") or []
    yield from labels("spec.selector", item["spec"].get("selector"))
    if not ports and item["spec"].get("clusterIP") != "None":
        yield "spec.ports: is empty"
    for port in ports:
        if not 1 <= port["port"] <= 65535:
            yield f"spec.ports: {port['port']} is no port"
    if len(ports) > 1 and len({port.get("name") for port in ports} - {None}) != len(ports):
        yield "spec.ports: each needs a name of its own"


def _daemon_set(item: Object) -> Iterator[str]:
    spec = item["spec"]
    yield from _selected(spec["selector"], spec["template"])
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") not in ("RollingUpdate", "OnDelete"):
        yield f"spec.updateStrategy.type: {strategy['type']!r}"
    rolling = strategy.get("rollingUpdate") or {}
    if rolling and strategy.get("type") == "OnDelete":
        yield "spec.updateStrategy.rollingUpdate: is for type RollingUpdate"
    if (count := rolling.get("maxUnavailable")) is not None and not (
        (isinstance(count, int) and count > 0) or _PERCENT.fullmatch(str(count))
    ):
        yield f"spec.updateStrategy.rollingUpdate.maxUnavailable: {count!r}"
    pod = spec["template"]["spec"]
    if pod.get("restartPolicy", "Always") != "Always":
        yield "spec.template.spec.restartPolicy: only Always will do"
    yield from podrules.of_template("spec.template", spec["template"])


def _job(item: Object) -> Iterator[str]:
    pod = item["spec"]["template"]["spec"]
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        yield "spec.template.spec.restartPolicy: has to be Never or OnFailure"
    yield from podrules.of_template("spec.template", item["spec"]["template"])


def _selected(selector: Mapping[str, Any], template: Mapping[str, Any]) -> Iterator[str]:
    wanted = selector.get("matchLabels") or {}
    has = (template.get("metadata") or {}).get("labels") or {}
    yield from labels("spec.selector.matchLabels", wanted)
    if not wanted or not wanted.items() <= has.items():
        yield f"spec.selector: {wanted} does not select the template's labels {has}"


def _role(item: Object) -> Iterator[str]:
    for index, rule in enumerate(item.get("rules") or []):
        where = f"rules.{index}"
        if not rule.get("verbs") or not set(rule["verbs"]) <= _VERBS:
            yield f"{where}.verbs: {rule.get('verbs')}"
        if not rule.get("nonResourceURLs") and not (
            rule.get("apiGroups") and rule.get("resources")
        ):
            yield f"{where}: needs apiGroups and resources"
        for resource in rule.get("resources") or []:
            if not re.fullmatch(r"[a-z]+(/[a-z]+)?", resource):
                yield f"{where}.resources: {resource!r}"
        for group in rule.get("apiGroups") or []:
            if group and not is_subdomain(group):
                yield f"{where}.apiGroups: {group!r}"


def _binding(item: Object) -> Iterator[str]:
    if item["roleRef"]["apiGroup"] != _RBAC:
        yield f"roleRef.apiGroup: {item['roleRef']['apiGroup']!r}"
    for index, subject in enumerate(item.get("subjects") or []):
        group = "" if subject["kind"] == "ServiceAccount" else _RBAC
        if subject["kind"] not in ("ServiceAccount", "User", "Group"):
            yield f"subjects.{index}.kind: {subject['kind']!r}"
        elif subject.get("apiGroup", group) != group:
            yield f"subjects.{index}.apiGroup: {subject['apiGroup']!r}"


def of_all(
    objects: Iterable[Object], elsewhere: Iterable[tuple[str, str, str]]
) -> Iterator[tuple[Object, str]]:
    """
    Find what is wrong between the objects of a deployment, with what it is about.

    `elsewhere` names objects that are there besides.
    """
    objects = list(objects)
    there = [named(item) for item in objects]
    known = {*there, *elsewhere}
    for index, item in enumerate(objects):
        if there[index] in there[:index]:
            yield item, "is there twice"
        for kind, namespace, name in _references(item):
            if (kind, namespace, name) not in known:
                yield item, f"refers to {kind} {namespace}/{name}, which is not there"
        if item["kind"] in ("PodMonitor", "ServiceMonitor", "Service"):
            yield from ((item, text) for text in _selects_something(item, objects))


def _references(item: Object) -> Iterator[tuple[str, str, str]]:
    namespace = (item.get("metadata") or {}).get("namespace", "")
    if item["kind"].endswith("RoleBinding") or item["kind"] == "ClusterRoleBinding":
        role = item["roleRef"]
        yield role["kind"], namespace if role["kind"] == "Role" else "", role["name"]
        for subject in item.get("subjects") or []:
            if subject["kind"] == "ServiceAccount":
                yield "ServiceAccount", subject.get("namespace", ""), subject["name"]
    if item["kind"] in ("DaemonSet", "Job"):
        pod = item["spec"]["template"]["spec"]
        if "serviceAccountName" in pod:  # a namespace has ServiceAccount "default" of itself
            yield "ServiceAccount", namespace, pod["serviceAccountName"]
        for volume in pod.get("volumes") or []:
            if (source := volume.get("configMap")) and not source.get("optional"):
                yield "ConfigMap", namespace, source.get("name", "")


def _selects_something(item: Object, objects: list[Object]) -> Iterator[str]:
    """A selector that selects nothing is a typing error that goes unnoticed."""
    spec = item["spec"]
    selector = spec.get("selector") or {}
    wanted = selector if item["kind"] == "Service" else selector.get("matchLabels") or {}
    if item["kind"] == "ServiceMonitor":
        candidates = [one for one in objects if one["kind"] == "Service"]
        ports = [port.get("name") for one in candidates for port in one["spec"].get("ports") or []]
        having = [one["metadata"].get("labels") or {} for one in candidates]
    else:
        pods = [one["spec"]["template"] for one in objects if one["kind"] == "DaemonSet"]
        ports = [port.get("name") for pod in pods for port in podrules.ports(pod["spec"])]
        having = [pod["metadata"].get("labels") or {} for pod in pods]
    if not any(wanted.items() <= has.items() for has in having):
        yield f"spec.selector: {wanted} selects nothing"
    for endpoint in spec.get("podMetricsEndpoints") or spec.get("endpoints") or []:
        if (port := endpoint.get("port")) and port not in ports:
            yield f"spec: there is no port {port!r}"
    for port in spec.get("ports") or []:
        target = port.get("targetPort")
        if isinstance(target, str) and target not in ports:
            yield f"spec.ports: there is no port {target!r}"
