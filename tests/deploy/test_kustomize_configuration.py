"""nfproxy takes what the manifests give it: flags, configuration, kubeconfig."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from support.manifests import KUSTOMIZE, Object, build, check, compose, find, named, overlay
from support.manifests.kubeproxy import config_maps
from support.manifests.kustomize import overlays
from support.manifests.podrules import containers

from nfproxy.apiserver.access import Access, ClientSettings, read_access
from nfproxy.apiserver.plugins import PluginRunner
from nfproxy.cli.run import command
from nfproxy.config.flags import Flags
from nfproxy.config.load import LoadedConfig, load

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
PLACEHOLDER = "put-the-api-server-here.invalid:6443"

Places = Mapping[str, str]
Understand = Callable[..., LoadedConfig]


class _UnderstoodError(Exception):
    """Ends a command once its configuration is known."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self.loaded = loaded


@pytest.fixture
def understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Understand:
    """Run the command line of an overlay's container as far as its configuration."""

    def understand(flags: Flags) -> NoReturn:
        raise _UnderstoodError(load(flags))

    def run(name: str, *components: str, container: str = "nfproxy") -> LoadedConfig:
        monkeypatch.setattr("nfproxy.cli.run.load", understand)
        objects = compose(*components, base=name)
        pod = find(objects, "DaemonSet")["spec"]["template"]["spec"]
        there = [item for item in objects if item["kind"] == "ConfigMap"]
        there += config_maps("eks" if name == "eks" else "kubeadm")
        places = written(tmp_path, pod, there)
        (wanted,) = (one for one in containers(pod) if one["name"] == container)
        assert wanted.get("command") is None  # the image's entry point is nfproxy
        subcommand, *arguments = (placed(word, places) for word in wanted["args"])
        assert subcommand == "run"
        with pytest.raises(_UnderstoodError) as ended:
            command.main(arguments, standalone_mode=False)
        return ended.value.loaded

    return run


def written(scratch: Path, pod: Object, config_maps: Sequence[Object]) -> Places:
    """
    Write what is mounted into a pod's containers below a directory.

    Return where each path inside the containers is then. The files' references to each other
    are changed likewise.
    """
    data = {item["metadata"]["name"]: item["data"] for item in config_maps}
    volumes = {v["name"]: data[v["configMap"]["name"]] for v in pod["volumes"] if "configMap" in v}
    (main,) = pod["containers"]
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in main["volumeMounts"]}
    account = {"token": "a-token\n", "ca.crt": "-----BEGIN CERTIFICATE-----\n"}
    mounts[SERVICE_ACCOUNT] = account
    places = {path: f"{scratch}{path}" for path in mounts}
    for path, files in mounts.items():
        Path(places[path]).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            Path(places[path], name).write_text(placed(text, places))
    return places


def placed(text: str, places: Places) -> str:
    """Return a text with paths as they are in this test, for node-1."""
    for path, place in places.items():
        text = re.sub(rf"(?<![\w/]){re.escape(path)}(?=/)", place, text)
    return text.replace("$(NODE_NAME)", "node-1")


def access(loaded: LoadedConfig) -> Access:
    """Return how the daemon would reach the API server."""
    kubeconfig = loaded.config.client_connection.kubeconfig
    settings = ClientSettings(kubeconfig=kubeconfig, master=loaded.command_line.master)
    return asyncio.run(read_access(settings, {}, PluginRunner()))


def unexpected(loaded: LoadedConfig) -> list[str]:
    """Return warnings, but for the one of kube-proxy's configuration, which is for iptables."""
    of_mode = "config.*: mode: '' is taken for 'nftables'; node ports are then accepted on "
    return [text for text in loaded.warnings if not re.search(of_mode, text)]


@pytest.mark.parametrize("name", overlays())
def test_the_daemon_takes_its_flags_and_configuration(understood: Understand, name: str) -> None:
    """No setting is without effect, none is unknown; of kube-proxy's mode it says what it does."""
    loaded = understood(name)
    assert unexpected(loaded) == []
    assert loaded.config.hostname_override == "node-1"
    assert not loaded.command_line.init_only


@pytest.mark.parametrize("name", overlays())
def test_the_init_container_takes_the_same_configuration(understood: Understand, name: str) -> None:
    """It sets the sysctls that the daemon looks for."""
    loaded = understood(name, container="prepare")
    assert unexpected(loaded) == []
    assert loaded.config.hostname_override == "node-1"
    assert loaded.command_line.init_only


@pytest.mark.parametrize("name", overlays())
def test_the_kubeconfig_gives_address_ca_and_token(understood: Understand, name: str) -> None:
    """Of the pod's ServiceAccount, read again since it rotates; the address is no cluster IP."""
    found = access(understood(name))
    expected = {
        "k3s": "127.0.0.1:6444",
        "kind": "kind-control-plane:6443",
        "rke2": "127.0.0.1:6443",
    }
    own = ("ConfigMap", "kube-system", "nfproxy") in map(named, overlay(name))
    host = expected.get(name, PLACEHOLDER if own else "192.0.2.1:6443")
    assert [server.url for server in found.servers] == [f"https://{host}"]
    assert found.authorization() == "Bearer a-token"
    assert found.credentials.endswith(f"{SERVICE_ACCOUNT}/token")
    assert found.configuration.ssl_ca_cert.endswith(f"{SERVICE_ACCOUNT}/ca.crt")


@pytest.mark.parametrize("name", ["base", "kubeadm"])
def test_a_list_of_api_servers_is_taken_before_the_kubeconfig(
    understood: Understand, name: str
) -> None:
    """Addresses from the list, CA and token from the kubeconfig."""
    loaded = understood(name, "api-servers")
    assert unexpected(loaded) == []
    found = access(loaded)
    assert [server.url for server in found.servers] == [
        "https://control-plane-1.invalid:6443",
        "https://control-plane-2.invalid:6443",
    ]
    assert found.authorization() == "Bearer a-token"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", ""),
        ("kind", "10.244.0.0/16,fd00:10:244::/56"),
        ("k3s", "10.42.0.0/16"),
        ("kubeadm", "10.244.0.0/16,fd00:10:244::/56"),
        ("rke2", "10.42.0.0/16"),
    ],
)
def test_pods_are_where_the_cluster_puts_them(
    understood: Understand, name: str, expected: str
) -> None:
    """By the defaults of what makes the cluster; with base no client is masqueraded by mistake."""
    assert understood(name).config.cluster_cidr == expected


def test_kinds_limit_of_connections_is_left_alone(understood: Understand) -> None:
    """It is that of the machine which kind's nodes share."""
    assert understood("kind").config.conntrack.max_per_core == 0
    assert understood("base").config.conntrack.max_per_core == 32768


def test_the_init_container_writes_to_the_path_of_the_host() -> None:
    """The mount is /proc/sys/net of what --proc names."""
    spec = find(compose(), "DaemonSet")["spec"]["template"]["spec"]
    (prepare,) = spec["initContainers"]
    (host_path,) = (v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v)
    (mount,) = (m for m in prepare["volumeMounts"] if m["name"] == "sysctls")
    (proc,) = (w.removeprefix("--proc=") for w in prepare["args"] if w.startswith("--proc="))
    assert host_path == "/proc/sys/net"
    assert mount == {"name": "sysctls", "mountPath": f"{proc}/sys/net"}


def test_the_placeholder_says_what_to_do() -> None:
    """It cannot be mistaken for an address, nor resolved (RFC 6761)."""
    text = find(compose(), "ConfigMap")["data"]["kubeconfig.conf"]
    assert text.count(PLACEHOLDER) == 1


def test_configuration_of_ones_own_replaces_that_of_the_base(tmp_path: Path) -> None:
    """In a directory of one's own, with copies of two files, as the documentation has it."""
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(KUSTOMIZE / "base", tmp_path.resolve())],
        "images": [{"name": "ghcr.io/nfproxy/nfproxy", "newName": "registry.invalid/a/b"}],
        "configMapGenerator": [
            {
                "name": "nfproxy",
                "namespace": "kube-system",
                "behavior": "replace",
                "files": ["config.conf", "kubeconfig.conf"],
                "options": {"disableNameSuffixHash": True},
            }
        ],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    changes = {
        "config.conf": ('""', "10.1.0.0/16"),
        "kubeconfig.conf": (PLACEHOLDER, "192.0.2.9:1"),
    }
    texts = {}
    for name, change in changes.items():
        texts[name] = (KUSTOMIZE / "base" / name).read_text().replace(*change)
        (tmp_path / name).write_text(texts[name])

    objects = build(tmp_path)

    check(objects)
    assert find(objects, "ConfigMap")["data"] == texts
    pod = find(objects, "DaemonSet")["spec"]["template"]["spec"]
    images = {container["image"].rpartition(":")[0] for container in containers(pod)}
    assert images == {"registry.invalid/a/b"}
    assert "10.1.0.0/16" in texts["config.conf"]
    assert "192.0.2.9:1" in texts["kubeconfig.conf"]
