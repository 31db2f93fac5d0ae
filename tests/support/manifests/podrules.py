"""
What the API server demands of a pod beside its shape.

Source: ``pkg/apis/core/validation`` of Kubernetes 1.36, for the fields that manifests here use.
What it would take but is a mistake all the same is refused, too: an image without a version, a
volume that nothing mounts, a variable in an argument that is not set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from support.manifests.names import is_label, is_label_name, is_subdomain, labels, quantity

Part = Mapping[str, Any]

_CHOICES = {
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
}
_HOST_PATHS = (
    *("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File"),
    *("Socket", "CharDevice", "BlockDevice"),
)
_FIELDS = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName"),
    *("spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP"),
)
_MAX_ID = 2**31 - 1
_HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_IMAGE = re.compile(r"[a-z0-9.:/_-]+(:[\w.-]+|@sha256:[0-9a-f]{64})")


def containers(pod: Part) -> list[Part]:
    """Return all containers of a pod spec, those that go first included."""
    return [*(pod.get("initContainers") or []), *pod["containers"]]


def ports(pod: Part) -> list[Part]:
    """Return the ports of a pod spec's containers."""
    return [port for container in pod["containers"] for port in container.get("ports") or []]


def of_template(where: str, template: Part) -> Iterator[str]:
    """Find what is wrong with a pod template."""
    yield from labels(f"{where}.metadata.labels", (template.get("metadata") or {}).get("labels"))
    pod = template["spec"]
    where = f"{where}.spec"
    yield from labels(f"{where}.nodeSelector", pod.get("nodeSelector"))
    yield from _choices(where, pod)
    yield from _security(f"{where}.", pod.get("securityContext") or {})
    yield from _volumes(where, pod)
    if not is_subdomain(pod.get("priorityClassName", "none")):
        yield f"{where}.priorityClassName: {pod['priorityClassName']!r}"
    yield from _tolerations(where, pod.get("tolerations") or [])
    yield from _affinity(f"{where}.affinity", pod.get("affinity") or {})
    names = [container["name"] for container in containers(pod)]
    if len(set(names)) != len(names):
        yield f"{where}: two containers have one name: {names}"
    port_names = [port["name"] for port in ports(pod) if "name" in port]
    if len(set(port_names)) != len(port_names):
        yield f"{where}: two ports have one name: {port_names}"
    for container in containers(pod):
        name = container["name"]
        yield from (f"{where}.{name}: {text}" for text in _container(container, pod))


def _choices(where: str, part: Part) -> Iterator[str]:
    for field, choices in _CHOICES.items():
        if field in part and part[field] not in choices:
            yield f"{where}.{field}: {part[field]!r} is none of {choices}"


def _volumes(where: str, pod: Part) -> Iterator[str]:
    mounted = {mount["name"] for c in containers(pod) for mount in c.get("volumeMounts") or []}
    volumes = pod.get("volumes") or []
    names = [volume["name"] for volume in volumes]
    if len(set(names)) != len(names):
        yield f"{where}.volumes: two have one name: {names}"
    for name in mounted.symmetric_difference(names):
        yield f"{where}.volumes: {name!r} is not both there and mounted"
    for volume in volumes:
        if not is_label(volume["name"]):
            yield f"{where}.volumes: {volume['name']!r} is no DNS label"
        if len(volume) != 2:
            yield f"{where}.volumes: {volume['name']!r} needs one source"
        host = volume.get("hostPath")
        if host and (not host["path"].startswith("/") or host.get("type", "") not in _HOST_PATHS):
            yield f"{where}.volumes: {host}"


def _tolerations(where: str, tolerations: Sequence[Part]) -> Iterator[str]:
    for toleration in tolerations:
        operator = toleration.get("operator", "Equal")
        if (
            operator not in ("Equal", "Exists")
            or (operator == "Exists" and toleration.get("value"))
            or (operator == "Equal" and not toleration.get("key"))
            or toleration.get("effect", "")
            not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
        ):
            yield f"{where}.tolerations: {toleration}"


def _affinity(where: str, affinity: Part) -> Iterator[str]:
    required = (affinity.get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required is None:
        return
    if not required["nodeSelectorTerms"]:
        yield f"{where}: no nodeSelectorTerms"
    for term in required["nodeSelectorTerms"]:
        for wanted in term.get("matchExpressions") or []:
            values = wanted.get("values") or []
            fits = {"In": values, "NotIn": values, "Exists": not values, "DoesNotExist": not values}
            if not fits.get(wanted["operator"]) or not is_label_name(wanted["key"]):
                yield f"{where}: {wanted}"
            yield from (t for value in values for t in labels(where, {wanted["key"]: value}))


def _container(container: Part, pod: Part) -> Iterator[str]:
    if not is_label(container["name"]):
        yield "name: is no DNS label"
    if not _IMAGE.fullmatch(container.get("image") or ""):
        yield f"image: {container.get('image')!r} is none with a tag or digest"
    yield from _choices("", container)
    yield from _environment(container)
    yield from _mounts(container.get("volumeMounts") or [])
    yield from _resources(container.get("resources") or {})
    yield from _ports(container.get("ports") or [], bool(pod.get("hostNetwork")))
    yield from _security("", container.get("securityContext") or {})
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            yield from (f"{probe}: {text}" for text in _probe(container[probe], probe, container))


def _environment(container: Part) -> Iterator[str]:
    names = set()
    for variable in container.get("env") or []:
        names.add(variable["name"])
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable["name"]):
            yield f"env: {variable['name']!r} is no name"
        source = variable.get("valueFrom")
        if source is not None and ("value" in variable or len(source) != 1):
            yield f"env: {variable['name']} needs one source"
        path = ((source or {}).get("fieldRef") or {}).get("fieldPath")
        if path is not None and path not in _FIELDS:
            yield f"env: {variable['name']}: {path!r} is no field"
    words: Iterable[str] = [*(container.get("command") or []), *(container.get("args") or [])]
    for word in words:
        for name in _VARIABLE.findall(word):
            if name not in names:
                yield f"args: {word}: the variable is not set"


def _mounts(mounts: Sequence[Part]) -> Iterator[str]:
    paths = [mount["mountPath"] for mount in mounts]
    if len(set(paths)) != len(paths):
        yield f"volumeMounts: two at one path: {paths}"
    for path in paths:
        if not path.startswith("/") or ":" in path:
            yield f"volumeMounts: {path!r}"


def _resources(resources: Part) -> Iterator[str]:
    values = {}
    for kind in ("requests", "limits"):
        for name, text in (resources.get(kind) or {}).items():
            values[kind, name] = value = quantity(text)
            if not value or name not in ("cpu", "memory", "ephemeral-storage"):
                yield f"resources.{kind}: {name}: {text!r}"
    for (kind, name), value in values.items():
        limit = values.get(("limits", name))
        if kind == "requests" and value and limit and value > limit:
            yield f"resources: {name}: more is requested than allowed"


def _ports(found: Sequence[Part], host_network: bool) -> Iterator[str]:
    taken = set()
    for port in found:
        number, protocol = port["containerPort"], port.get("protocol", "TCP")
        if not 1 <= number <= 65535 or protocol not in ("TCP", "UDP", "SCTP"):
            yield f"ports: {port}"
        if (number, protocol) in taken:
            yield f"ports: {number}/{protocol} is there twice"
        taken.add((number, protocol))
        if "name" in port and (len(port["name"]) > 15 or not _PORT_NAME.fullmatch(port["name"])):
            yield f"ports: {port['name']!r} is no name of a service (RFC 6335)"
        if host_network and port.get("hostPort", number) != number:
            yield f"ports: {number}: another host port in the host's network"


def _security(where: str, context: Part) -> Iterator[str]:
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        if not 0 <= context.get(field, 0) <= _MAX_ID:
            yield f"{where}securityContext.{field}: {context[field]}"
    seccomp = context.get("seccompProfile") or {"type": "Unconfined"}
    if seccomp["type"] not in ("RuntimeDefault", "Unconfined", "Localhost"):
        yield f"{where}securityContext.seccompProfile.type: {seccomp['type']!r}"
    capabilities = context.get("capabilities") or {}
    for name in [*(capabilities.get("add") or []), *(capabilities.get("drop") or [])]:
        if not re.fullmatch(r"(?!CAP_)[A-Z_]+", name):
            yield f"securityContext.capabilities: {name!r}"
    if context.get("allowPrivilegeEscalation") is False and context.get("privileged"):
        yield "securityContext: privileges that allowPrivilegeEscalation: false rules out"


def _probe(probe: Part, kind: str, container: Part) -> Iterator[str]:
    handlers = [handler for handler in _HANDLERS if handler in probe]
    if len(handlers) != 1:
        yield f"needs one handler, has {handlers}"
    for field in ("periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold"):
        if probe.get(field, 1) < 1:
            yield f"{field}: {probe[field]}"
    if probe.get("initialDelaySeconds", 0) < 0:
        yield f"initialDelaySeconds: {probe['initialDelaySeconds']}"
    if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        yield "successThreshold: has to be 1"
    get = probe.get("httpGet") or {}
    names = [port.get("name") for port in container.get("ports") or []]
    port = get.get("port", 1)
    if port not in names and not (isinstance(port, int) and 1 <= port <= 65535):
        yield f"httpGet.port: there is no port {port!r}"
    if get and not get.get("path", "/").startswith("/"):
        yield f"httpGet.path: {get['path']!r}"
