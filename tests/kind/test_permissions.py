"""
What happens when something that the manifests grant is not there: it is named.

Most of these cases start nfproxy's pod from other manifests, on the last node.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import pytest
import yaml
from kind.cluster import heard
from kind.namespaces import NamespacesCluster
from support.containers.pods import KubeletPod, ServiceAccount
from support.manifests import Object, compose, find, overlay

pytestmark = pytest.mark.needs_namespaces


@pytest.fixture(scope="module")
def bare(lab: NamespacesCluster) -> Iterator[str]:
    """A node without nfproxy."""
    node = lab.nodes[-1].name
    with lab.without_proxy(node):
        yield node


@contextlib.contextmanager
def _pod(
    lab: NamespacesCluster,
    node: str,
    objects: Sequence[Object],
    account: ServiceAccount | None = None,
) -> Iterator[KubeletPod]:
    """Run the pod of other manifests on a node that has none, with their RBAC objects in force."""
    lab.api.set_rbac(list(objects))
    pod = lab.start_proxy(node, objects, account)
    try:
        yield pod
    finally:
        pod.delete()
        lab.api.set_rbac(overlay("kind"))


def _spec(objects: Sequence[Object]) -> Object:
    spec: Object = find(objects, "DaemonSet")["spec"]["template"]["spec"]
    return spec


def _says(pod: KubeletPod, *words: str) -> None:
    """Wait until a line of the pod's output has all these words."""

    def said() -> bool:
        return any(all(word in line for word in words) for line in pod.output.splitlines())

    pod.wait_until(said, f"heard to say {words}")


def test_without_its_binding_it_waits_and_names_verb_and_resource(
    lab: NamespacesCluster, bare: str
) -> None:
    """
    Without the ClusterRoleBinding nfproxy says what it may not do; once it comes, it is ready.
    """
    objects = [item for item in overlay("kind") if item["kind"] != "ClusterRoleBinding"]
    with _pod(lab, bare, objects) as pod:
        _says(pod, "list", "services", "system:serviceaccount:kube-system:nfproxy")
        assert not pod.ready()
        assert pod.check_alive()  # a restart would not help
        lab.api.set_rbac(overlay("kind"))
        pod.wait_ready()
        assert pod.restarts == 0


def test_with_a_token_that_is_not_valid_it_is_not_ready(lab: NamespacesCluster, bare: str) -> None:
    """A token that the API server does not know is named as such."""
    account = ServiceAccount("of-another-cluster", lab.api.ca_file.read_text())
    with _pod(lab, bare, overlay("kind"), account) as pod:
        _says(pod, "401")
        assert not pod.ready()


def test_without_net_admin_it_ends_and_names_the_capability(
    lab: NamespacesCluster, bare: str
) -> None:
    """Without CAP_NET_ADMIN the init container ends with 1 and says what is missing."""
    objects = overlay("kind")
    for container in (*_spec(objects)["initContainers"], *_spec(objects)["containers"]):
        container["securityContext"]["capabilities"] = {"drop": ["ALL"]}
    with _pod(lab, bare, objects) as pod:
        _says(pod, "NET_ADMIN")
        pod.wait_until(lambda: pod.exit_codes()[:1] == [1], "at an end")


def test_without_the_init_container_it_serves(lab: NamespacesCluster, bare: str) -> None:
    """
    With component without-prepare there is one container, without a host path, and it is ready.
    """
    objects = compose("without-prepare", base="kind")
    assert not _spec(objects).get("initContainers")
    assert "hostPath" not in set(_keys(_spec(objects)))
    with _pod(lab, bare, objects) as pod:
        pod.wait_ready()


def test_the_init_container_sets_what_the_daemon_may_not(lab: NamespacesCluster, bare: str) -> None:
    """The init container writes a sysctl of the configuration; the daemon does not complain."""
    objects = overlay("kind")
    configmap = find(objects, "ConfigMap")
    config = yaml.safe_load(configmap["data"]["config.conf"])
    config["conntrack"] = {**config.get("conntrack", {}), "tcpEstablishedTimeout": "12345s"}
    configmap["data"]["config.conf"] = yaml.safe_dump(config)
    with _pod(lab, bare, objects) as pod:
        pod.wait_ready()
        name = "net.netfilter.nf_conntrack_tcp_timeout_established"
        done = lab.network.nodes[-1].namespace.run(["sysctl", "-n", name])
        assert done.stdout.strip() == "12345"
        assert "WARNING" not in pod.output, pod.output


def test_a_new_field_of_a_newer_kubernetes_is_named_and_ignored(
    lab: NamespacesCluster, bare: str
) -> None:
    """An unknown field in the ConfigMap is a warning, and nfproxy serves."""
    objects = overlay("kind")
    configmap = find(objects, "ConfigMap")
    configmap["data"]["config.conf"] += "\nofTheFuture: {mode: faster}\n"
    with _pod(lab, bare, objects) as pod:
        pod.wait_ready()
        _says(pod, "WARNING", "ofTheFuture")


def test_a_renewed_token_is_used_without_a_restart(lab: NamespacesCluster) -> None:
    """When kubelet exchanges the token, and the old one ends, changes still arrive."""
    node = lab.nodes[0].name
    pod, old = lab.proxy(node), lab.accounts[node]
    restarts = pod.restarts
    renewed = lab.new_account()
    pod.renew_account(renewed)
    lab.api.revoke_token(old.token)
    lab.api.close_watches()
    with lab.serving("renewed", [node]) as web:
        at = web.service.cluster_ip("IPv4"), web.service.port()
        lab.eventually(web.names, lambda: heard(lab.pod_on(node).ask(*at)))
    lab.accounts[node] = renewed
    assert pod.restarts == restarts
    assert pod.ready()


def test_the_memory_limit_leaves_room(lab: NamespacesCluster) -> None:
    """The kernel holds the container to the limit of the manifests; it uses a small part of it."""
    limits = [lab.proxy(node.name).memory() for node in lab.nodes[:2]]
    wanted = 1 << 30
    for limit, peak in limits:
        assert limit in (wanted, None)  # None: no cgroups here
        assert (peak or 0) < wanted / 8


def test_it_ends_in_its_grace_period(lab: NamespacesCluster, bare: str) -> None:
    """On SIGTERM nfproxy ends by itself, with 0."""
    with _pod(lab, bare, overlay("kind")) as pod:
        pod.wait_ready()
        assert pod.delete() == 0


def test_nothing_that_it_asks_for_is_refused(lab: NamespacesCluster, bare: str) -> None:
    """With the manifests' RBAC objects every request is allowed, Events too."""
    lab.api.forget_requests()
    with _pod(lab, bare, overlay("kind")) as pod:
        pod.wait_ready()
        lab.api.wait_for_requests("events", "create")
        made = {(one.resource, one.code) for one in lab.api.requests() if one.code}
    assert made >= {(resource, 200) for resource in ("services", "endpointslices", "nodes")}
    assert not [one for one in made if one[1] in (401, 403)]


def _keys(data: object) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from _keys(value)
    elif isinstance(data, list):
        for value in data:
            yield from _keys(value)
