"""What the chart's values may be: nonsense is refused, by the schema or with what to do instead."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.apiserver import StandIn
from support.manifests import check, find
from support.manifests.helm import CHART, HELM, LEAST, RefusedError, Values, render
from tools.helm import Helm, versions

from nfproxy.config.flags import Flags
from nfproxy.config.load import load

#: Values, and where or what the error says of them.
NONSENSE: list[tuple[Values, str]] = [
    ({"apiServer": "https://192.0.2.10"}, "apiServer"),  # a key that there is not
    ({"image": {"name": "nfproxy"}}, "name"),
    ({"image": {"repository": "https://example.com/nfproxy"}}, "repository"),
    ({"image": {"tag": "a b"}}, "tag"),
    ({"image": {"digest": "sha256:0123"}}, "digest"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"imagePullSecrets": ["registry"]}, "imagePullSecrets"),
    ({"apiServers": "https://192.0.2.10:6443"}, "apiServers"),
    ({"apiServers": ["192.0.2.10:6443"]}, "apiServers"),
    ({"apiServers": ["ftp://192.0.2.10"]}, "apiServers"),
    ({"apiServers": ["https://192.0.2.10:0"]}, "apiServers"),
    ({"apiServers": ["https://192.0.2.10:65536"]}, "65535"),
    ({"apiServers": ["https://fd00::1:6443"]}, "apiServers"),  # without brackets
    ({"apiServers": ["https://user@192.0.2.10"]}, "apiServers"),
    ({"apiServers": ["https://192.0.2.10", "https://192.0.2.10"]}, "apiServers"),
    ({"apiServers": ["https://a,https://b"]}, "apiServers"),
    ({"apiServers": ["https://kubernetes.default.svc.cluster.local"]}, "cluster IP"),
    ({"apiServers": ["https://kubernetes:443"]}, "cluster IP"),
    ({"apiServers": []}, "apiServers is needed"),
    ({"existingConfigMap": {"name": "Kube_Proxy"}}, "existingConfigMap"),
    ({"existingConfigMap": {"name": "a", "mountPath": "etc"}}, "mountPath"),
    ({"existingConfigMap": {"name": "a", "mountPath": "/a/../b"}}, "mountPath"),
    ({"existingConfigMap": {"kubeconfig": {"name": "a", "mountPath": "/a"}}}, "without effect"),
    ({"existingConfigMap": {"name": "a", "kubeconfig": {"name": "b"}}}, "both name and mountPath"),
    ({"existingConfigMap": {"name": "a"}, "clusterCIDRs": ["10.0.0.0/8"]}, "clusterCIDRs is"),
    ({"existingConfigMap": {"name": "a"}, "nodePortAddresses": ["primary"]}, "nodePortAddress"),
    ({"existingConfigMap": {"name": "a"}, "detectLocal": {"mode": "NodeCIDR"}}, "detectLocal is"),
    ({"existingConfigMap": {"name": "a"}, "config": {"oomScoreAdj": 0}}, "config is"),
    ({"clusterCIDRs": ["10.244.0.0"]}, "clusterCIDRs"),
    ({"clusterCIDRs": ["10.244.0.0/33"]}, "clusterCIDRs"),
    ({"clusterCIDRs": ["10.244.0.256/16"]}, "clusterCIDRs"),
    ({"clusterCIDRs": ["fd00::/129"]}, "clusterCIDRs"),
    ({"clusterCIDRs": ["fd00::1::/64"]}, "clusterCIDRs"),
    ({"clusterCIDRs": ["10.1.0.0/16", "10.2.0.0/16"]}, "clusterCIDRs"),
    ({"clusterCIDRs": ["fd01::/64", "fd02::/64"]}, "clusterCIDRs"),
    ({"clusterCIDRs": ["10.1.0.0/16", "fd01::/64", "fd02::/64"]}, "clusterCIDRs"),
    ({"detectLocal": {"mode": "clusterCIDR"}}, "detectLocal"),
    ({"detectLocal": {"mode": "ClusterCIDR"}}, "clusterCIDRs is needed"),
    ({"detectLocal": {"mode": "NodeCIDR"}, "clusterCIDRs": ["10.0.0.0/8"]}, "without effect"),
    ({"detectLocal": {"mode": "BridgeInterface"}}, "bridgeInterface is needed"),
    ({"detectLocal": {"bridgeInterface": "cbr0"}}, "without effect"),
    ({"detectLocal": {"mode": "InterfaceNamePrefix"}}, "interfaceNamePrefix is needed"),
    ({"detectLocal": {"mode": "BridgeInterface", "bridgeInterface": "a b"}}, "bridgeInterface"),
    ({"nodePortAddresses": ["eth0"]}, "nodePortAddresses"),
    ({"nodePortAddresses": ["primary", "10.0.0.0"]}, "nodePortAddresses"),
    ({"nodePortAddresses": ["primary", "primary"]}, "nodePortAddresses"),
    ({"nodePortAddresses": ["10.0.0.0/8", "10.0.0.0/8"]}, "nodePortAddresses"),
    ({"config": {"conntrak": {}}}, "conntrak"),
    ({"config": {"conntrack": {"max": 1}}}, "max"),
    ({"config": {"conntrack": {"min": -1}}}, "min"),
    ({"config": {"nftables": {"syncPeriod": "-30s"}}}, "syncPeriod"),
    ({"config": {"nftables": {"syncPeriod": 30}}}, "syncPeriod"),
    ({"config": {"nftables": {"masqueradeBit": 32}}}, "masqueradeBit"),
    ({"config": {"oomScoreAdj": -1001}}, "oomScoreAdj"),
    ({"config": {"bindAddress": "node-1"}}, "bindAddress"),
    ({"config": {"mode": "iptables"}}, "config.mode: the chart sets it"),
    ({"config": {"hostnameOverride": "node-1"}}, "config.hostnameOverride: the chart sets it"),
    ({"config": {"clusterCIDR": "10.0.0.0/8"}}, "config.clusterCIDR: use the value clusterCIDRs"),
    ({"config": {"logging": {"verbosity": 2}}}, "config.logging: use the value logging"),
    ({"config": {"clientConnection": {"kubeconfig": "/a"}}}, "config.clientConnection.kubeconfig"),
    ({"prepare": {"enabled": "no"}}, "enabled"),
    ({"prepare": {"resources": {"limits": {"memory": "-64Mi"}}}}, "memory"),
    ({"logging": {"format": "xml"}}, "format"),
    ({"logging": {"verbosity": -1}}, "verbosity"),
    ({"logging": {"verbosity": "high"}}, "verbosity"),
    ({"healthz": {"port": 0}}, "port"),
    ({"healthz": {"port": 65536}}, "port"),
    ({"metrics": {"bindAddress": "10249"}}, "bindAddress"),
    ({"metrics": {"bindAddress": "0.0.0.0:65536"}}, "65535"),
    ({"metrics": {"bindAddress": "0.0.0.0:10256"}}, "both about port 10256"),
    (
        {"metrics": {"bindAddress": "127.0.0.1:1", "podMonitor": {"enabled": True}}},
        "Prometheus cannot reach",
    ),
    ({"metrics": {"podMonitor": {"interval": "0s"}}}, "interval"),
    ({"metrics": {"rules": {"labels": {"release": 1}}}}, "release"),
    ({"metrics": {"serviceMonitor": {"enabled": True}}}, "serviceMonitor"),
    ({"config": {"metricsBindAddress": "0.0.0.0:1"}}, "use the value metrics.bindAddress"),
    ({"trial": {"enabled": 1}}, "enabled"),
    ({"resources": {"limits": {"memory": -1}}}, "memory"),
    ({"resources": {"limits": {"memory": "256 MB"}}}, "memory"),
    ({"resources": {"requests": {"cpu": "-50m"}}}, "cpu"),
    ({"resources": {"requests": {"processors": 1}}}, "processors"),
    ({"resources": {"request": {"cpu": 1}}}, "request"),
    ({"nodeSelector": {"a b": "c"}}, "a b"),
    ({"nodeSelector": {"a": True}}, "nodeSelector"),
    ({"affinity": {"nodeAfinity": {}}}, "nodeAfinity"),
    ({"tolerations": [{"operator": "exists"}]}, "tolerations"),
    ({"tolerations": [{}]}, "tolerations"),
    ({"updateStrategy": {"type": "Recreate"}}, "updateStrategy"),
    ({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}, "maxUnavailable"),
    ({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "0%"}}}, "maxUnavailable"),
    ({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "101%"}}}, "maxUnavailable"),
    ({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}, "maxSurge"),
    ({"priorityClassName": "High Priority"}, "priorityClassName"),
    ({"dnsPolicy": "None"}, "dnsPolicy"),
    ({"terminationGracePeriodSeconds": -1}, "terminationGracePeriodSeconds"),
    ({"seLinuxOptions": {"kind": "spc_t"}}, "kind"),
    ({"labels": {"app.kubernetes.io/name": "other"}}, "app.kubernetes.io/name"),
    ({"labels": {"team": "a b"}}, "team"),
    ({"podLabels": {"app.kubernetes.io/name": "other"}}, "podLabels"),
    ({"podAnnotations": {"checksum/config": "0"}}, "checksum/config"),
    ({"podAnnotations": {"a": 1}}, "podAnnotations"),
    ({"extraArgs": ["bind-address-hard-fail"]}, "extraArgs"),
    ({"extraArgs": ["--config=/etc/other"]}, "extraArgs: --config"),
    ({"extraArgs": ["--hostname-override", "a"]}, "extraArgs"),
    ({"extraArgs": ["--cleanup"]}, "extraArgs: --cleanup"),
    ({"extraArgs": ["--master=https://192.0.2.11"]}, "use the value apiServers"),
    ({"extraArgs": ["-v=4"]}, "use the value logging.verbosity"),
    ({"extraEnv": [{"name": "NODE_NAME", "value": "a"}]}, "extraEnv"),
    ({"extraEnv": [{"name": "A", "value": 1}]}, "extraEnv"),
    ({"extraEnv": [{"name": "A", "value": "1", "valueFrom": {}}]}, "extraEnv"),
    ({"serviceAccount": {"create": False}}, "serviceAccount.name is needed"),
    ({"serviceAccount": {"name": "A"}}, "name"),
    ({"rbac": {"create": None, "make": True}}, "make"),
]


@pytest.mark.parametrize("helm", versions(), ids=str)
@pytest.mark.parametrize(("values", "text"), NONSENSE, ids=[json.dumps(v) for v, _ in NONSENSE])
def test_nonsense_is_refused(values: Values, text: str, helm: Helm) -> None:
    """Values that make no sense are refused, and what is said names them."""
    with pytest.raises(RefusedError) as refused:
        render(helm, LEAST, values)

    assert text in str(refused.value)


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster whose Service kubernetes has the cluster IPs 10.96.0.1 and fd00:10:96::1."""
    with StandIn() as cluster:
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kubernetes", "namespace": "default"},
                "spec": {"clusterIPs": ["10.96.0.1", "fd00:10:96::1"], "ports": [{"port": 443}]},
            }
        )
        path = tmp_path_factory.mktemp("cluster") / "kubeconfig"
        yield cluster.write_kubeconfig(path, token=cluster.admin_token)


@pytest.mark.parametrize("helm", versions(), ids=str)
@pytest.mark.parametrize("host", ["10.96.0.1:443", "[fd00:10:96::1]"])
def test_the_clusters_own_cluster_ip_is_refused(host: str, helm: Helm, kubeconfig: Path) -> None:
    """Where Helm talks to the cluster, the chart knows what only the proxy serves."""
    values = {"apiServers": ["https://192.0.2.10:6443", f"https://{host}"]}

    with pytest.raises(RefusedError, match="leads to the cluster IP") as refused:
        render(helm, values, options=online(kubeconfig))

    assert "192.0.2.10" not in str(refused.value)


def test_another_address_is_accepted_by_a_cluster(kubeconfig: Path) -> None:
    """The chart says the same as without a cluster. Helm 4 would ask the stand-in for more."""
    helm = versions()[0]

    assert render(helm, LEAST, options=online(kubeconfig)) == render(helm, LEAST)


def online(kubeconfig: Path) -> tuple[str, ...]:
    """Return the options that let templates look at a cluster."""
    return "--dry-run=server", "--disable-openapi-validation", f"--kubeconfig={kubeconfig}"


def test_all_that_does_not_go_together_is_said_at_once() -> None:
    """Three mistakes give three messages."""
    values = {"apiServers": [], "serviceAccount": {"create": False}, "extraArgs": ["--cleanup"]}

    with pytest.raises(RefusedError) as refused:
        render(HELM, values)

    assert str(refused.value).count("\n- ") == 3


@pytest.mark.parametrize("helm", versions(), ids=str)
def test_large_numbers_arrive_as_they_are(helm: Helm, tmp_path: Path) -> None:
    """Helm's numbers are floating point ones in between; no 1e+06 comes of that."""
    values = {"config": {"conntrack": {"min": 2147483647}}, "logging": {"verbosity": 4294967295}}
    objects = render(helm, LEAST, values)
    file = tmp_path / "config.conf"
    file.write_text(find(objects, "ConfigMap")["data"]["config.conf"], "utf-8")
    container = find(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]

    assert load(Flags({"config": str(file)})).config.conntrack.min == 2147483647
    assert "--v=4294967295" in container["args"]


@pytest.mark.parametrize("name", yaml.safe_load((CHART / "values.yaml").read_text("utf-8")))
def test_null_is_refused_where_something_is_needed(name: str) -> None:
    """Helm takes a default away for null; no value's absence ends in an error of the templates."""
    try:
        objects = render(HELM, LEAST, {name: None})
    except RefusedError as error:
        assert re.search(rf"{name}( is needed|: null is nothing)", str(error))  # noqa: PT017
    else:
        check(objects)
