"""
What the namespaces back end is made of: containers that are as confined as containerd's, RBAC.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kind.namespaces import NamespacesCluster
from support.apiserver.rbac import Policy
from support.apiserver.resources import Target
from support.containers.pods import KubeletPod
from support.containers.spec import (
    Image,
    Node,
    Surroundings,
    UnsupportedError,
    capabilities_of,
    command_line,
    memory_limit,
    runtime_config,
)
from support.containers.volumes import Projection
from support.manifests import find, overlay

pytestmark = pytest.mark.doubles

#: Prints what each attempt came to, by the name of the error.
_ATTEMPTS = """
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def make_key():
    keyctl = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    if libc.syscall(keyctl, 0, -3, 0) < 0:
        raise OSError(ctypes.get_errno(), "")

attempts = {
    "write to the root": lambda: open("/x", "w"),
    "write a sysctl": lambda: open("/proc/sys/net/ipv4/ip_forward", "w").write("1"),
    "write a sysctl of the host": lambda: open("/host/proc/sys/net/ipv4/ip_forward", "w"),
    "make a namespace": lambda: os.unshare(os.CLONE_NEWUSER),
    "make a key": make_key,
    "name the host": lambda: socket.sethostname("other"),
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12),
}
for name, attempt in attempts.items():
    try:
        attempt()
        print(f"{name}: done", flush=True)
    except OSError as error:
        print(f"{name}: {errno.errorcode[error.errno]}", flush=True)
"""


@pytest.mark.needs_namespaces
def test_what_is_not_granted_is_refused(lab: NamespacesCluster) -> None:
    """
    A program in place of nfproxy can open a netlink socket, and do nothing else it should not.
    """
    pod = find(overlay("kind"), "DaemonSet")["spec"]["template"]["spec"]
    (main,) = pod["containers"]
    main |= {"command": ["python3", "-c", _ATTEMPTS], "args": []}
    del pod["initContainers"]
    started: KubeletPod = lab.kubelets["node-2"].start(
        pod, {"nfproxy": {"config.conf": ""}}, lab.new_account()
    )
    try:
        started.wait_until(lambda: "netlink socket" in started.output, "done")
        lines = dict(line.split(": ") for line in started.output.splitlines() if ": " in line)
    finally:
        started.delete()
    assert lines == {
        "write to the root": "EROFS",
        "write a sysctl": "EROFS",
        "write a sysctl of the host": "ENOENT",  # that is mounted in the init container alone
        "make a namespace": "EPERM",
        "make a key": "EPERM",
        "name the host": "EPERM",
        "open a packet socket": "EPERM",
        "open a netlink socket": "done",
    }


def _configured(**container: Any) -> Any:
    pod = {
        "hostNetwork": True,
        "securityContext": {"runAsUser": 0},
        "containers": [{"name": "one", **container}],
    }
    around = Surroundings(
        Image(["nfproxy"]), Node("node-1", ["192.0.2.1"]), Path("/root-of-it"), {}
    )
    return runtime_config(pod, pod["containers"][0], around)


@pytest.mark.parametrize(
    "container",
    [
        {"lifecycle": {}},
        {"securityContext": {"privileged": True}},
        {"securityContext": {"procMount": "Unmasked"}},
        {"securityContext": {"capabilities": {"add": ["ALL"]}}},
        {"securityContext": {"seccompProfile": {"type": "Localhost"}}},
        {"volumeMounts": [{"name": "absent", "mountPath": "/x"}]},
        {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {}}}]},
    ],
)
def test_what_is_not_modelled_is_refused(container: dict[str, Any]) -> None:
    """A pod that asks for what the back end cannot give is an error, and not run without it."""
    with pytest.raises(UnsupportedError):
        _configured(**container)


def test_capabilities_are_those_of_containerd_where_none_are_dropped() -> None:
    """Nothing dropped leaves fourteen; ALL dropped leaves what is added."""
    assert len(capabilities_of({})) == 14
    assert "CAP_KILL" not in capabilities_of({"capabilities": {"drop": ["KILL"]}})
    only = {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}
    assert capabilities_of(only) == ["CAP_NET_ADMIN"]
    assert _configured()["process"]["noNewPrivileges"] is False


def test_variables_are_expanded_as_kubelet_does() -> None:
    """$(NAME) is replaced, $$(NAME) is $(NAME), and an unknown name stays."""
    words = command_line(
        {"args": ["--node=$(NODE)", "$$(NODE)", "$(OTHER)", "$NODE"]}, Image(["x"]), {"NODE": "n"}
    )
    assert words == ["x", "--node=n", "$(NODE)", "$(OTHER)", "$NODE"]


@pytest.mark.parametrize(
    ("quantity", "wanted"), [("256Mi", 1 << 28), ("1G", 10**9), ("5000", 5000)]
)
def test_memory_limits_are_read(quantity: str, wanted: int) -> None:
    """Quantities with binary and decimal units are bytes."""
    assert memory_limit({"resources": {"limits": {"memory": quantity}}}) == wanted


def test_a_volume_is_exchanged_as_a_whole(tmp_path: Path) -> None:
    """Files are links through ..data, and those that are gone are gone."""
    volume = Projection(tmp_path / "volume", {"a": "1", "b": "1"})
    opened = (tmp_path / "volume" / "..data").readlink()
    volume.write({"a": "2"})
    names = {path.name for path in (tmp_path / "volume").iterdir()}
    assert (tmp_path / "volume" / "a").read_text() == "2"
    assert "b" not in names
    assert opened.name not in names
    assert (tmp_path / "volume" / "a").readlink() == Path("..data/a")


_ROLE = {
    "kind": "ClusterRole",
    "metadata": {"name": "reader"},
    "rules": [
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["*"], "resourceNames": ["mine"]},
        {"nonResourceURLs": ["/healthz/*"], "verbs": ["get"]},
    ],
}
_USER = "system:serviceaccount:kube-system:nfproxy"
_SUBJECT = {"kind": "ServiceAccount", "namespace": "kube-system", "name": "nfproxy"}


def _binding(kind: str = "ClusterRoleBinding", role: str = "reader", **metadata: str) -> Any:
    return {
        "kind": kind,
        "metadata": {"name": "reader", **metadata},
        "roleRef": {"kind": "ClusterRole", "name": role},
        "subjects": [_SUBJECT],
    }


@pytest.mark.parametrize(
    ("user", "verb", "path", "allowed"),
    [
        (_USER, "list", "/api/v1/services", True),
        (_USER, "watch", "/api/v1/services", False),
        (_USER, "list", "/apis/other.k8s.io/v1/services", False),
        (_USER, "get", "/api/v1/namespaces/default/services/web/status", False),
        (_USER, "get", "/api/v1/nodes/mine", True),
        (_USER, "get", "/api/v1/nodes/other", False),
        (_USER, "get", "/healthz/etcd", True),
        (_USER, "get", "/metrics", False),
        ("system:serviceaccount:default:nfproxy", "list", "/api/v1/services", False),
        ("nfproxy", "list", "/api/v1/services", False),
        ("system:anonymous", "list", "/api/v1/services", False),
    ],
)
def test_rbac_grants_what_a_rule_says(user: str, verb: str, path: str, allowed: bool) -> None:
    """Verb, group, resource with subresource, name and path decide, and who is bound."""
    policy = Policy([_ROLE, _binding()])
    assert policy.allows(user, verb, Target.parse(path)) is allowed


def test_bindings_count_where_they_are() -> None:
    """A RoleBinding counts in its namespace, and one to a role that is not there grants nothing."""
    there, elsewhere = (
        Target.parse(f"/api/v1/namespaces/{name}/services") for name in ("there", "elsewhere")
    )
    policy = Policy([_ROLE, _binding("RoleBinding", namespace="there")])
    assert policy.allows(_USER, "list", there)
    assert not policy.allows(_USER, "list", elsewhere)
    assert not Policy([_ROLE, _binding(role="absent")]).allows(_USER, "list", there)
