"""What the chart makes of values that no overlay has, and what Helm itself thinks of the chart."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from support.manifests import KUSTOMIZE, Object, check, find, named
from support.manifests.helm import (
    CHART,
    HELM,
    LEAST,
    Values,
    notes,
    preset,
    render,
    run,
    template,
)
from support.manifests.kubeproxy import ELSEWHERE
from support.manifests.podrules import containers
from tools.helm import Helm, versions

from nfproxy import __version__
from nfproxy.cli.run import command
from nfproxy.config.flags import Flags
from nfproxy.config.load import LoadedConfig, load

EVERYTHING: Values = {
    "image": {
        "repository": "registry.example.com:5000/mirror/nfproxy",
        "tag": "1.2.3-rc.1",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "registry"}],
    "apiServers": ["https://192.0.2.10:6443", "https://[2001:db8::10]:6443", "https://api.example"],
    "clusterCIDRs": ["2001:db8:1::/56", "10.244.0.0/16"],
    "detectLocal": {"mode": "ClusterCIDR"},
    "nodePortAddresses": ["192.0.2.0/24", "primary", "localhost"],
    "config": {
        "clientConnection": {"qps": 50, "burst": 100},
        "conntrack": {"maxPerCore": 0, "min": 1048576, "tcpEstablishedTimeout": "2h30m"},
        "nftables": {"masqueradeAll": True, "minSyncPeriod": "1s"},
        "featureGates": {"AllowServiceExternalIPs": False},
        "oomScoreAdj": -998,
    },
    "logging": {"format": "json", "verbosity": 3},
    "healthz": {"port": 20256},
    "metrics": {
        "bindAddress": "[::]:20249",
        "podMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {
            "enabled": True,
            "labels": {"grafana_dashboard": "yes"},
            "annotations": {"grafana_folder": "Network"},
        },
    },
    "trial": {"enabled": True},
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    "nodeSelector": {"pool": "edge"},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "virtual", "operator": "DoesNotExist"}]}
                ]
            }
        }
    },
    "tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}],
    "updateStrategy": {"rollingUpdate": {"maxUnavailable": 1}},
    "priorityClassName": "of-our-own",
    "dnsPolicy": "ClusterFirstWithHostNet",
    "terminationGracePeriodSeconds": 5,
    "seLinuxOptions": {"type": "spc_t", "level": "s0"},
    "labels": {"team": "network"},
    "podAnnotations": {"example.com/note": "true"},
    "podLabels": {"tier": "node"},
    "extraArgs": ["--log-flush-frequency=5s"],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://192.0.2.1:3128"}],
    "serviceAccount": {"name": "proxy", "annotations": {"example.com/role": "proxy"}},
}

VALUE_SETS: dict[str, Values] = {
    "least": LEAST,
    "everything": EVERYTHING,
    "digest": {**LEAST, "image": {"digest": "sha256:" + "0a" * 32}},
    "bridge": {**LEAST, "detectLocal": {"mode": "BridgeInterface", "bridgeInterface": "cbr0"}},
    "prefix": {
        **LEAST,
        "detectLocal": {"mode": "InterfaceNamePrefix", "interfaceNamePrefix": "veth"},
    },
    "on delete": {**LEAST, "updateStrategy": {"type": "OnDelete"}},
    "nothing optional": {
        **LEAST,
        "prepare": {"enabled": False},
        "affinity": None,
        "tolerations": [],
        "nodeSelector": None,
        "priorityClassName": "",
        "resources": None,
        "serviceAccount": {"create": False, "name": "kube-proxy"},
        "rbac": {"create": False},
    },
    "preflight": {**EVERYTHING, "preflight": {"enabled": True}},
    "their configuration": {
        "existingConfigMap": {"name": "kube-proxy"},
        "apiServers": ["https://192.0.2.10:6443"],
    },
}


def pod(objects: list[Object]) -> Object:
    """Return the pod spec of the DaemonSet."""
    spec: Object = find(objects, "DaemonSet")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("helm", versions(), ids=str)
@pytest.mark.parametrize("name", VALUE_SETS)
def test_whatever_the_values_kubernetes_takes_the_objects(name: str, helm: Helm) -> None:
    """Strictly; the pod of ``helm test`` included, where there is something to test."""
    text = template(helm, VALUE_SETS[name])
    objects = [item for item in yaml.safe_load_all(text) if item]

    check(objects, *ELSEWHERE, ("ServiceAccount", "kube-system", "kube-proxy"))
    assert (name != "preflight") == (("Pod", "kube-system", "nfproxy-test") in map(named, objects))


class _UnderstoodError(Exception):
    """Ends a command once its configuration is known."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self.loaded = loaded


@pytest.mark.parametrize("container", ["nfproxy", "prepare"])
@pytest.mark.parametrize("name", ["least", "everything", "bridge", "prefix"])
def test_whatever_the_values_the_daemon_takes_flags_and_configuration(
    name: str, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No flag is refused, nothing in the configuration is unknown or without effect."""
    objects = render(HELM, VALUE_SETS[name])
    file = tmp_path / "config.conf"
    file.write_text(find(objects, "ConfigMap")["data"]["config.conf"], "utf-8")
    (arguments,) = (one["args"] for one in containers(pod(objects)) if one["name"] == container)

    def understand(flags: Flags) -> NoReturn:
        raise _UnderstoodError(load(flags))

    monkeypatch.setattr("nfproxy.cli.run.load", understand)
    words = [word.replace("/etc/nfproxy/config.conf", str(file)) for word in arguments]
    with pytest.raises(_UnderstoodError) as ended:
        command.main(words[1:], standalone_mode=False)

    assert words[0] == "run"
    assert ended.value.loaded.warnings == ()


@pytest.mark.parametrize("helm", versions(), ids=str)
def test_every_value_arrives_where_it_belongs(helm: Helm) -> None:
    """Each of the values of EVERYTHING is found in the objects."""
    objects = render(helm, EVERYTHING)
    spec = pod(objects)
    (prepare,), (main,) = spec["initContainers"], spec["containers"]
    account = find(objects, "ServiceAccount", "proxy")
    (subject,) = find(objects, "ClusterRoleBinding")["subjects"]
    data = find(objects, "ConfigMap")["data"]
    config, kubeconfig = (yaml.safe_load(data[key]) for key in ("config.conf", "kubeconfig.conf"))
    servers = "https://192.0.2.10:6443,https://[2001:db8::10]:6443,https://api.example"
    daemon_set = find(objects, "DaemonSet")

    assert {container["image"] for container in containers(spec)} == {
        "registry.example.com:5000/mirror/nfproxy:1.2.3-rc.1"
    }
    assert {container["imagePullPolicy"] for container in containers(spec)} == {"Always"}
    assert spec["imagePullSecrets"] == EVERYTHING["imagePullSecrets"]
    assert kubeconfig["clusters"][0]["cluster"]["server"] == "https://192.0.2.10:6443"
    assert main["args"] == [
        "run",
        "--config=/etc/nfproxy/config.conf",
        "--hostname-override=$(NODE_NAME)",
        "--logging-format=json",
        "--v=3",
        f"--master={servers}",
        "--log-flush-frequency=5s",
    ]
    assert config == {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        **EVERYTHING["config"],
        "clientConnection": {"kubeconfig": "/etc/nfproxy/kubeconfig.conf", "qps": 50, "burst": 100},
        "clusterCIDR": "2001:db8:1::/56,10.244.0.0/16",
        "detectLocalMode": "ClusterCIDR",
        "nodePortAddresses": ["192.0.2.0/24", "primary", "localhost"],
        "healthzBindAddress": "0.0.0.0:20256",
        "metricsBindAddress": "[::]:20249",
    }
    assert {port["name"]: port["containerPort"] for port in main["ports"]} == {
        "healthz": 20256,
        "metrics": 20249,
    }
    assert main["resources"] == EVERYTHING["resources"]
    assert prepare["resources"]["limits"] == {"memory": "1Gi"}
    assert spec["nodeSelector"] == {
        "kubernetes.io/os": "linux",
        "nfproxy.io/proxy": "nfproxy",
        "pool": "edge",
    }
    assert spec["affinity"] == EVERYTHING["affinity"]
    assert spec["tolerations"] == EVERYTHING["tolerations"]
    assert daemon_set["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1},
    }
    assert spec["priorityClassName"] == "of-our-own"
    assert spec["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert spec["terminationGracePeriodSeconds"] == 5
    assert spec["securityContext"]["seLinuxOptions"] == EVERYTHING["seLinuxOptions"]
    assert {item["metadata"]["labels"]["team"] for item in objects} == {"network"}
    metadata = daemon_set["spec"]["template"]["metadata"]
    assert metadata["annotations"]["example.com/note"] == "true"
    assert metadata["labels"] == {"app.kubernetes.io/name": "nfproxy", "tier": "node"}
    assert {"name": "HTTPS_PROXY", "value": "http://192.0.2.1:3128"} in main["env"]
    assert spec["serviceAccountName"] == subject["name"] == "proxy"
    assert account["metadata"]["annotations"] == {"example.com/role": "proxy"}


def test_a_digest_takes_the_place_of_the_tag() -> None:
    """In the test's pod, too."""
    text = template(HELM, VALUE_SETS["digest"])
    images = {line.partition("image:")[2] for line in text.splitlines() if "image:" in line}

    assert images == {f' "ghcr.io/nfproxy/nfproxy@sha256:{"0a" * 32}"'}


def test_nothing_is_made_of_what_is_switched_off() -> None:
    """Neither objects nor fields."""
    objects = render(HELM, VALUE_SETS["nothing optional"])
    optional = {"initContainers", "affinity", "tolerations", "priorityClassName"}

    assert [item["kind"] for item in objects] == ["ConfigMap", "DaemonSet"]
    assert not optional & {*pod(objects)}
    assert pod(objects)["serviceAccountName"] == "kube-proxy"


def test_api_servers_go_over_the_address_of_a_config_map_that_was_there() -> None:
    """Even a single one: it stands in no kubeconfig."""
    objects = render(HELM, VALUE_SETS["their configuration"])
    (main,) = pod(objects)["containers"]

    assert "--master=https://192.0.2.10:6443" in main["args"]
    assert [item for item in objects if item["kind"] == "ConfigMap"] == []


def test_pods_are_replaced_when_their_configuration_changes_and_not_otherwise() -> None:
    """No pod notices a changed ConfigMap by itself."""

    def metadata(values: Values) -> Any:
        objects = render(HELM, LEAST, values)
        return find(objects, "DaemonSet")["spec"]["template"]["metadata"]

    assert metadata({}) == metadata({"labels": {"team": "network"}})
    assert metadata({}) != metadata({"clusterCIDRs": ["10.244.0.0/16"]})
    assert metadata({}) != metadata({"apiServers": ["https://192.0.2.11:6443"]})


def test_the_chart_is_of_this_version() -> None:
    """A chart belongs to the image of its version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))

    assert (chart["name"], chart["version"], chart["appVersion"]) == (
        "nfproxy",
        __version__,
        __version__,
    )


@pytest.mark.parametrize("helm", versions(), ids=str)
@pytest.mark.parametrize("values", [{}, *VALUE_SETS.values()], ids=["none", *VALUE_SETS])
def test_helm_has_nothing_against_the_chart(values: Values, helm: Helm) -> None:
    """``helm lint --strict`` is content, of the chart alone and with values."""
    assert "0 chart(s) failed" in run(helm, "lint", "--strict", CHART, values=[values])


@pytest.mark.parametrize("helm", versions(), ids=str)
def test_a_packaged_chart_says_the_same(helm: Helm, tmp_path: Path) -> None:
    """What is linked from elsewhere in the repository is in the package."""
    run(helm, "package", CHART, "--destination", str(tmp_path))
    (package,) = tmp_path.iterdir()

    assert package.name == f"nfproxy-{__version__}.tgz"
    assert template(helm, EVERYTHING, chart=package) == template(helm, EVERYTHING)
    assert notes(EVERYTHING, chart=package) == notes(EVERYTHING)


@pytest.mark.parametrize(
    ("values", "patches"),
    [(preset("kubeadm"), ("off", "on")), (preset("trial"), ("trial", "on"))],
    ids=["everywhere", "trial"],
)
def test_the_notes_switch_kube_proxy_off_and_on_by_the_same_patches(
    values: Values, patches: tuple[str, ...]
) -> None:
    """The patches are those in deploy/kustomize/kube-proxy."""
    files = [KUSTOMIZE / "kube-proxy" / f"{name}.yaml" for name in patches]
    expected = [yaml.safe_load(file.read_text("utf-8")) for file in files]
    shown = re.findall(r"patch daemonset kube-proxy --patch '(.*)'", notes(values))
    one_off = re.findall(r"apply -k deploy/kustomize/(\S+)", notes(values))

    assert [yaml.safe_load(text) for text in shown] == expected
    assert [(KUSTOMIZE / path / "kustomization.yaml").exists() for path in one_off] == [True, True]


def test_the_notes_warn_where_nothing_is_masqueraded_or_allowed() -> None:
    """And only there."""
    assert "neither clusterCIDRs nor detectLocal.mode" in notes(LEAST)
    assert "rbac.create is false" in notes(LEAST, {"rbac": {"create": False}})
    assert "WARNING" not in notes(LEAST, {"clusterCIDRs": ["10.244.0.0/16"]})
    assert "WARNING" not in notes(preset("kubeadm"))


def test_the_notes_of_a_check_do_not_switch_kube_proxy_off() -> None:
    """While only preflight runs, kube-proxy is still needed."""
    shown = notes(VALUE_SETS["preflight"])

    assert "nfproxy-preflight" in shown
    assert "kube-proxy" not in shown


@pytest.mark.parametrize(("serving", "code"), [(True, 0), (False, 1)], ids=["served", "not served"])
def test_the_test_pod_reports_whether_services_answer(serving: bool, code: int) -> None:
    """``helm test`` fails when the address of Service kubernetes does not answer."""
    items = yaml.safe_load_all(template(HELM, LEAST))
    (container,) = find(filter(None, items), "Pod", "nfproxy-test")["spec"]["containers"]
    program = container["command"][2].replace("kubernetes.default.svc", "localhost")
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        if not serving:
            server.close()
        env = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **env}, capture_output=True
        )

    assert container["command"][:2] == ["/opt/nfproxy/bin/python", "-c"]
    assert (done.returncode, done.stderr) == (code, b"")
