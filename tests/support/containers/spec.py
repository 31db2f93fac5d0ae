"""
The OCI runtime's configuration of a container, as kubelet and containerd make it of a pod.

Pure: `runtime_config` turns the pod of a rendered manifest into the ``config.json`` that crun or
runc take. Of what kubelet and containerd's CRI plugin do, it has what a DaemonSet on the host's
network may ask for; anything else in the pod is refused with UnsupportedError, so that no test
passes because a field was left out.

Sources: Kubernetes 1.36 pkg/securitycontext, pkg/kubelet/kubelet_pods.go; containerd 2.1
internal/cri/server, internal/cri/opts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from support.containers.seccomp import seccomp_profile

Json = dict[str, Any]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KNOWN_POD = _words(
    "automountServiceAccountToken containers dnsPolicy enableServiceLinks hostNetwork "
    "initContainers nodeSelector affinity priorityClassName restartPolicy securityContext "
    "serviceAccountName terminationGracePeriodSeconds tolerations volumes"
)
_KNOWN_CONTAINER = _words(
    "args command env image imagePullPolicy livenessProbe name ports readinessProbe resources "
    "securityContext startupProbe terminationMessagePath terminationMessagePolicy "
    "volumeMounts"
)
_KNOWN_SECURITY = _words(
    "allowPrivilegeEscalation capabilities fsGroup privileged readOnlyRootFilesystem runAsGroup "
    "runAsNonRoot runAsUser seccompProfile"
)

#: What containerd grants where nothing is dropped.
_DEFAULT_CAPABILITIES = _words(
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID "
    "CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL "
    "CAP_AUDIT_WRITE"
)
_MASKED = (
    *("/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
    *("/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug"),
    *("/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"),
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Kubelet's own variables: where a pod finds the API server by its ClusterIP.
KUBERNETES_SERVICE = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class UnsupportedError(Exception):
    """A pod asks for something that is not modelled here."""


class Image(NamedTuple):
    """What an image says of a container, as far as the pod does not."""

    entrypoint: Sequence[str]
    env: Sequence[str] = (_PATH,)


class Node(NamedTuple):
    """What the downward API and kubelet take from the node. `files`: /etc/hosts and the like."""

    name: str
    addresses: Sequence[str]
    files: Mapping[str, Path] = {}


class Surroundings(NamedTuple):
    """
    What is around the container: the image, the node, where each volume of the pod is.

    `cgroup` is the container's cgroup, "" where there is to be none: no memory limit then.
    """

    image: Image
    node: Node
    root: Path
    volumes: Mapping[str, Path]
    cgroup: str = ""


def check_pod(pod: Json) -> None:
    """Raise UnsupportedError where a pod asks for what is not modelled."""
    _refuse("pod", pod, _KNOWN_POD)
    _refuse("securityContext", pod.get("securityContext", {}), _KNOWN_SECURITY)
    for container in containers(pod):
        where = f"container {container['name']}"
        _refuse(where, container, _KNOWN_CONTAINER)
        _refuse(
            f"securityContext of {where}", container.get("securityContext", {}), _KNOWN_SECURITY
        )
    if not pod.get("hostNetwork"):
        raise UnsupportedError("a pod that is not on its node's network")


def containers(pod: Json) -> list[Json]:
    """Return the pod's containers, init containers first."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def runtime_config(pod: Json, container: Json, around: Surroundings) -> Json:
    """
    Return the configuration of one container of a pod.

    It names no network namespace: the container gets that of the process that starts it, which
    is the node's. Raises UnsupportedError.
    """
    check_pod(pod)
    security = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    if security.get("privileged"):
        raise UnsupportedError("a privileged container")
    environment = environment_of(container, around.node)
    words = command_line(container, around.image, environment)
    capabilities = capabilities_of(security)
    config: Json = {
        "ociVersion": "1.0.2",
        "hostname": around.node.name,
        "root": {
            "path": str(around.root),
            "readonly": security.get("readOnlyRootFilesystem", False),
        },
        "process": {
            "user": {"uid": security.get("runAsUser", 0), "gid": security.get("runAsGroup", 0)},
            "args": words,
            "env": [
                f"HOSTNAME={around.node.name}",
                *around.image.env,
                *(f"{name}={value}" for name, value in environment.items()),
            ],
            "cwd": "/",
            # containerd sets no ambient ones, and no inheritable ones
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": not security.get("allowPrivilegeEscalation", True),
        },
        "mounts": [*_system_mounts(), *_mounts(pod, container, around)],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }
    if profile := _seccomp(security, capabilities):
        config["linux"]["seccomp"] = profile
    if around.cgroup:
        config["linux"]["cgroupsPath"] = around.cgroup
        if limit := memory_limit(container):
            config["linux"]["resources"]["memory"] = {"limit": limit}
    return config


def environment_of(container: Json, node: Node) -> dict[str, str]:
    """Return the variables of a container, those that kubelet adds included."""
    made = dict(KUBERNETES_SERVICE)
    for variable in container.get("env", ()):
        value = variable.get("value", "")
        if "valueFrom" in variable:
            value = _downward(variable["valueFrom"], node)
        made[variable["name"]] = _expand(value, made)
    return made


def command_line(container: Json, image: Image, environment: Mapping[str, str]) -> list[str]:
    """Return what is run: command and args, or the image's entry point in place of a command."""
    words = [*(container.get("command") or image.entrypoint), *container.get("args", ())]
    return [_expand(word, environment) for word in words]


def capabilities_of(security: Json) -> list[str]:
    """Return the capabilities of a container, as the kernel calls them."""
    asked = security.get("capabilities", {})
    dropped = set(asked.get("drop", ()))
    if "ALL" in asked.get("add", ()):
        raise UnsupportedError("all capabilities")
    kept = {c for c in _DEFAULT_CAPABILITIES if not dropped & {"ALL", c.removeprefix("CAP_")}}
    return sorted(kept | {f"CAP_{name}" for name in asked.get("add", ())})


def memory_limit(container: Json) -> int:
    """Return the limit of a container's memory in bytes, 0 for none."""
    quantity = str(container.get("resources", {}).get("limits", {}).get("memory", "0"))
    found = re.fullmatch(r"(\d+)([kMG]i?)?", quantity)
    if not found:
        raise UnsupportedError(f"a memory limit of {quantity}")
    return int(found[1]) * _UNITS[found[2] or ""]


def _refuse(what: str, given: Json, known: Iterable[str]) -> None:
    if unknown := given.keys() - set(known):
        raise UnsupportedError(f"{what}: {', '.join(sorted(unknown))}")


def _downward(source: Json, node: Node) -> str:
    match source:
        case {"fieldRef": {"fieldPath": "spec.nodeName"}}:
            return node.name
        case {"fieldRef": {"fieldPath": "status.hostIP" | "status.podIP"}}:
            return node.addresses[0]
    raise UnsupportedError(f"a variable from {source}")


def _expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace $(NAME), as kubelet does; what is not known stays, and $$ is one."""

    def value(found: re.Match[str]) -> str:
        return "$" + found[0][2:] if found[0][1] == "$" else environment.get(found[1], found[0])

    return re.sub(r"\$\$\(?|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)", value, text)


def _seccomp(security: Json, capabilities: Sequence[str]) -> Json | None:
    match security.get("seccompProfile", {}).get("type", "Unconfined"):
        case "RuntimeDefault":
            return seccomp_profile(capabilities)
        case "Unconfined":
            return None
        case kind:
            raise UnsupportedError(f"a seccomp profile of type {kind}")


def _mount(at: str, kind: str, source: str, *options: str) -> Json:
    return {"destination": at, "type": kind, "source": source, "options": list(options)}


def _system_mounts() -> list[Json]:
    quiet = ("nosuid", "noexec", "nodev")
    return [
        _mount("/proc", "proc", "proc", *quiet),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            *("/dev/pts", "devpts", "devpts", "nosuid", "noexec"),
            # without group tty, which a user namespace need not have; here are no terminals
            *("newinstance", "ptmxmode=0666", "mode=0620"),
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", *quiet),
        _mount("/dev/shm", "tmpfs", "shm", *quiet, "mode=1777", "size=65536k"),
        _mount("/sys", "sysfs", "sysfs", *quiet, "ro"),
    ]


def _mounts(pod: Json, container: Json, around: Surroundings) -> list[Json]:
    made = [
        _mount(at, "bind", str(source), "rbind", "rprivate", "rw")
        for at, source in around.node.files.items()
    ]
    for wanted in container.get("volumeMounts", ()):
        unknown = wanted.keys() - {"name", "mountPath", "readOnly", "subPath"}
        if unknown:
            raise UnsupportedError(f"a volume mount with {', '.join(sorted(unknown))}")
        if wanted["name"] not in around.volumes:
            raise UnsupportedError(f"no volume {wanted['name']}")
        source = around.volumes[wanted["name"]] / wanted.get("subPath", "")
        access = "ro" if wanted.get("readOnly") else "rw"
        made.append(_mount(wanted["mountPath"], "bind", str(source), "rbind", "rprivate", access))
    return made
