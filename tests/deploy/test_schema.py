"""The validation of rendered objects finds what is wrong: mistakes are made on purpose."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
import yaml
from support.manifests import Object, check, find, overlay, problems

pytestmark = pytest.mark.doubles

#: Mappings whose keys are the author's own.
FREE = {"labels", "annotations", "matchLabels", "nodeSelector", "data", "requests", "limits"}

#: Fields that may be a number or a text.
EITHER = {"port", "maxUnavailable", "targetPort"}

Path = tuple[str | int, ...]


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Return everything in an object that has a field's name, with the way to it."""
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        if isinstance(key, str):
            yield (*path, key), inner
        if isinstance(inner, dict | list) and key not in FREE:
            yield from walk(inner, (*path, key))


def holder(item: Object, path: Path) -> Any:
    """Return what holds the value at the end of a way."""
    found: Any = item
    for step in path[:-1]:
        found = found[step]
    return found


def other_type(value: Any) -> Any:
    """Return a value of a type that does not fit where this one does."""
    match value:
        case bool():
            return "true"
        case int():
            return str(value)
        case str():
            return 7
        case list():
            return {"a": "b"}
    return ["a"]


@pytest.fixture(scope="module")
def samples() -> list[Object]:
    """A deployment in which nothing is wrong, with an object of every kind."""
    made = [
        *overlay("base"),
        *yaml.safe_load_all("""
apiVersion: v1
kind: Service
metadata: {name: a, namespace: b, labels: {c: d}}
spec:
  clusterIP: None
  selector: {app.kubernetes.io/name: nfproxy}
  ports: [{name: c, port: 1, targetPort: healthz}]
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: a, namespace: b}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: nfproxy}}
  podMetricsEndpoints: [{port: healthz, interval: 30s, relabelings: [{action: drop, regex: a}]}]
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: a, namespace: b}
spec:
  selector: {matchLabels: {c: d}}
  endpoints: [{port: c, path: /metrics}]
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: a, namespace: b}
spec: {groups: [{name: a, rules: [{alert: A, expr: up == 0, for: 5m, labels: {a: b}}]}]}
"""),
    ]
    assert problems(made) == []
    return made


def unnoticed(
    samples: list[Object], mistake: Callable[[Any, Any], object], *, but: Collection[str] = ()
) -> list[str]:
    """Make a mistake at each field in turn; return those at which it is not found."""
    missed, made = [], 0
    for index, item in enumerate(samples):
        for path, _ in walk(item):
            if path[-1] in but:
                continue
            broken = copy.deepcopy(item)
            mistake(holder(broken, path), path[-1])
            made += 1
            if not problems([*samples[:index], broken, *samples[index + 1 :]]):
                missed.append(f"{item['kind']}: {'.'.join(map(str, path))}")
    assert made > 150
    return missed


def test_a_misspelt_field_is_found_wherever_it_is(samples: list[Object]) -> None:
    """In any kind, at any depth."""

    def misspell(holder: Any, key: str) -> None:
        holder[f"{key}s"] = holder.pop(key)

    assert unnoticed(samples, misspell) == []


def test_a_field_spelt_as_in_python_is_found(samples: list[Object]) -> None:
    """The models take those, the API server does not."""

    def spell(holder: Any, key: str) -> None:
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in key)
        holder[name if name != key else f"{key}_"] = holder.pop(key)

    assert unnoticed(samples, spell) == []


def test_a_value_of_another_type_is_found(samples: list[Object]) -> None:
    """Texts where there should be numbers, numbers where there should be texts."""

    def retype(holder: Any, key: str) -> None:
        holder[key] = other_type(holder[key])

    assert unnoticed(samples, retype, but=EITHER) == []


@pytest.mark.parametrize(
    "path",
    [
        ("DaemonSet", "spec", "selector"),
        ("DaemonSet", "spec", "template"),
        ("DaemonSet", "spec", "template", "spec", "containers"),
        ("DaemonSet", "spec", "template", "spec", "containers", 0, "name"),
        ("DaemonSet", "spec", "template", "spec", "containers", 0, "image"),
        ("DaemonSet", "spec", "template", "spec", "containers", 0, "volumeMounts", 0, "mountPath"),
        ("DaemonSet", "spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"),
        ("DaemonSet", "spec", "template", "spec", "volumes", 0, "configMap"),
        ("DaemonSet", "spec", "template", "spec", "volumes", 0, "name"),
        ("DaemonSet", "metadata", "name"),
        ("DaemonSet", "metadata", "namespace"),
        ("DaemonSet", "apiVersion"),
        ("DaemonSet", "kind"),
        ("ClusterRole", "rules", 0, "verbs"),
        ("ClusterRole", "rules", 0, "resources"),
        ("ClusterRoleBinding", "roleRef"),
        ("ClusterRoleBinding", "roleRef", "kind"),
        ("ClusterRoleBinding", "subjects", 0, "namespace"),
        ("PodMonitor", "spec", "selector"),
        ("PrometheusRule", "spec", "groups", 0, "rules", 0, "expr"),
        ("PrometheusRule", "spec", "groups", 0, "rules", 0, "alert"),
        ("Service", "spec", "ports", 0, "port"),
    ],
    ids=lambda path: ".".join(map(str, path)),
)
def test_a_field_that_has_to_be_there_is_missed(samples: list[Object], path: Path) -> None:
    """What the API server asks for."""
    kind, *way = path
    broken = copy.deepcopy(samples)
    item = next(item for item in broken if item["kind"] == kind)
    del holder(item, tuple(way))[way[-1]]
    assert problems(broken)


POD = "spec.template.spec"
MAIN = f"{POD}.containers.0"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("metadata.name", "Nfproxy", "is no DNS subdomain name"),
        ("metadata.labels", {"a b": "c"}, "is no label"),
        ("metadata.annotations", {"-": "c"}, "is no key"),
        ("spec.selector.matchLabels", {"app": "other"}, "does not select"),
        ("spec.updateStrategy.type", "Rolling", "updateStrategy.type"),
        ("spec.updateStrategy.type", "OnDelete", "is for type RollingUpdate"),
        ("spec.updateStrategy.rollingUpdate.maxUnavailable", "10", "maxUnavailable"),
        ("spec.updateStrategy.rollingUpdate.maxUnavailable", 0, "maxUnavailable"),
        (f"{POD}.restartPolicy", "Never", "only Always"),
        (f"{POD}.dnsPolicy", "default", "dnsPolicy"),
        (f"{POD}.tolerations.0.operator", "Exist", "tolerations"),
        (f"{POD}.tolerations.0.value", "x", "tolerations"),
        (f"{POD}.nodeSelector", {"a": "b c"}, "is no label"),
        (f"{POD}.serviceAccountName", "other", "ServiceAccount kube-system/other"),
        (f"{POD}.volumes.0.name", "other", "not both there and mounted"),
        (f"{POD}.volumes.0.configMap.name", "other", "ConfigMap kube-system/other"),
        (f"{POD}.volumes.0.emptyDir", {}, "needs one source"),
        (f"{POD}.volumes.1.hostPath.path", "proc", "proc"),
        (f"{POD}.volumes.1.hostPath.type", "Dir", "Dir"),
        (f"{POD}.priorityClassName", "Critical", "priorityClassName"),
        (f"{POD}.securityContext.runAsUser", -1, "securityContext.runAsUser"),
        (f"{POD}.securityContext.seccompProfile.type", "Default", "seccompProfile.type"),
        (f"{POD}.terminationGracePeriodSeconds", None, "has no value"),
        (f"{POD}.initContainers.0.name", "nfproxy", "two containers have one name"),
        (f"{MAIN}.name", "Nfproxy", "is no DNS label"),
        (f"{MAIN}.image", "ghcr.io/nfproxy/nfproxy", "none with a tag or digest"),
        (f"{MAIN}.imagePullPolicy", "Sometimes", "imagePullPolicy"),
        (f"{MAIN}.args.1", "--config=$(CONFIG)", "the variable is not set"),
        (f"{MAIN}.env.0.name", "NODE-NAME", "is no name"),
        (f"{MAIN}.env.0.value", "x", "needs one source"),
        (f"{MAIN}.env.0.valueFrom.fieldRef.fieldPath", "spec.node", "is no field"),
        (f"{MAIN}.ports.0.name", "Health", "is no name of a service"),
        (f"{MAIN}.ports.0.containerPort", 70000, "ports"),
        (f"{MAIN}.ports.0.protocol", "tcp", "ports"),
        (f"{MAIN}.ports.0.hostPort", 80, "another host port"),
        (f"{MAIN}.livenessProbe.httpGet.port", "health", "there is no port"),
        (f"{MAIN}.livenessProbe.httpGet.path", "livez", "httpGet.path"),
        (f"{MAIN}.livenessProbe.periodSeconds", 0, "periodSeconds"),
        (f"{MAIN}.livenessProbe.initialDelaySeconds", -1, "initialDelaySeconds"),
        (f"{MAIN}.livenessProbe.successThreshold", 2, "has to be 1"),
        (f"{MAIN}.livenessProbe.exec", {"command": ["true"]}, "needs one handler"),
        (f"{MAIN}.volumeMounts.0.mountPath", "etc", "volumeMounts"),
        (f"{MAIN}.resources.limits.memory", "256MB", "256MB"),
        (f"{MAIN}.resources.limits.memory", "32Mi", "more is requested than allowed"),
        (f"{MAIN}.resources.requests", {"memmory": "1Mi"}, "memmory"),
        (f"{MAIN}.securityContext.capabilities.add", ["CAP_NET_ADMIN"], "CAP_NET_ADMIN"),
        (f"{MAIN}.securityContext.privileged", True, "rules out"),
        (f"{MAIN}.terminationMessagePolicy", "Log", "terminationMessagePolicy"),
        (
            f"{POD}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution."
            "nodeSelectorTerms.0.matchExpressions.0.values",
            [],
            "affinity",
        ),
        (
            f"{POD}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution."
            "nodeSelectorTerms.0.matchExpressions.0.operator",
            "Not",
            "affinity",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_value_that_makes_no_sense_is_found(place: str, value: Any, said: str) -> None:
    """In the DaemonSet, in the words that lead to it."""
    objects = overlay("base")
    put(find(objects, "DaemonSet"), place, value)
    found = problems(objects)
    assert any(said in text for text in found), found


def put(item: Any, place: str, value: Any) -> None:
    """Set a value in an object, at a place with dots."""
    *steps, last = (int(step) if step.isdigit() else step for step in place.split("."))
    for step in steps:
        item = item[step]
    item[last] = value


@pytest.mark.parametrize(
    ("kind", "place", "value", "said"),
    [
        ("ClusterRole", "rules.0.verbs", ["list", "wacth"], "verbs"),
        ("ClusterRole", "rules.0.resources", ["Services"], "resources"),
        ("ClusterRole", "rules.0.apiGroups", ["Core"], "apiGroups"),
        ("ClusterRole", "metadata.namespace", "kube-system", "does not fit ClusterRole"),
        ("ClusterRole", "metadata.name", "other", "refers to ClusterRole /nfproxy"),
        ("ClusterRoleBinding", "roleRef.apiGroup", "rbac", "roleRef.apiGroup"),
        ("ClusterRoleBinding", "subjects.0.kind", "Account", "subjects.0.kind"),
        ("ClusterRoleBinding", "subjects.0.apiGroup", "rbac", "subjects.0.apiGroup"),
        ("ClusterRoleBinding", "roleRef.name", "other", "refers to ClusterRole /other"),
        ("ClusterRoleBinding", "subjects.0.namespace", "default", "ServiceAccount default/nfproxy"),
        ("ConfigMap", "data", {"a/b": "c"}, "is no key"),
        ("ServiceAccount", "metadata.name", "other", "refers to ServiceAccount"),
        ("DaemonSet", "apiVersion", "apps/v1beta1", "no schema is known"),
    ],
)
def test_what_makes_no_sense_elsewhere_is_found(
    kind: str, place: str, value: Any, said: str
) -> None:
    """In other kinds, and between them."""
    objects = overlay("base")
    put(find(objects, kind), place, value)
    found = problems(objects)
    assert any(said in text for text in found), found


def test_an_object_that_is_there_twice_is_found() -> None:
    """The second would take the place of the first."""
    objects = [*overlay("base"), find(overlay("base"), "ServiceAccount")]
    assert problems(objects) == ["ServiceAccount nfproxy: is there twice"]
    with pytest.raises(AssertionError, match="is there twice"):
        check(objects)


@pytest.mark.parametrize(
    ("kind", "place", "value", "said"),
    [
        ("PodMonitor", "spec.selector.matchLabels", {"a": "b"}, "selects nothing"),
        ("PodMonitor", "spec.podMetricsEndpoints.0.port", "c", "there is no port 'c'"),
        ("ServiceMonitor", "spec.selector.matchLabels", {"a": "b"}, "selects nothing"),
        ("ServiceMonitor", "spec.endpoints.0.port", "metrics", "there is no port 'metrics'"),
        ("Service", "spec.selector", {"a": "b"}, "selects nothing"),
        ("Service", "spec.ports.0.targetPort", "metrics", "there is no port 'metrics'"),
        ("Service", "spec.ports.0.port", 0, "0 is no port"),
    ],
)
def test_selectors_that_select_nothing_are_found(
    samples: list[Object], kind: str, place: str, value: Any, said: str
) -> None:
    """Of what is scraped, in pods, Services and their ports."""
    objects = copy.deepcopy(samples)
    put(find(objects, kind, "a"), place, value)
    (found,) = problems(objects)
    assert said in found
