"""A ConfigMap of a Kubernetes to come: what is not known yet is said, and all else counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from support.processes.commands import (
    Commands,
    endpoint_slice,
    errors_in,
    node_object,
    service,
    write,
)

#: kubeadm's config.conf as a later release may write it: fields, blocks and gates that are new.
#: Names of a proposed v1alpha2 (KEP-784), and some that no proposal has.
CONFIG = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: application/cbor
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
  maxInflight: 12
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 0s
windowRunAsService: false
syncPeriod: 30s
minSyncPeriod: 1s
linux:
  masqueradeAll: false
  oomScoreAdj: -998
  conntrack:
    tcpUnacknowledgedTimeout: 5m
conntrack:
  maxPerCore: 0
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: 0s
  tcpEstablishedTimeout: 0s
  sctpTimeout: 3m30s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
  nodeInterfaces: [eth0, eth1]
detectLocalMode: ""
featureGates:
  NFTablesFlowtables: true
  AllowServiceExternalIPs: true
nftables:
  masqueradeAll: false
  masqueradeBit: 15
  minSyncPeriod: 10ms
  syncPeriod: 30s
  flowtable:
    enabled: true
    devices: [eth0]
logging:
  flushFrequency: 0
  verbosity: 0
  options:
    json:
      infoBufferSize: "0"
      timeFormat: rfc3339nano
nodePortAddresses: [primary]
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 0.0.0.0:10256
trafficEngineering:
- {name: a, weight: 1}
"""

UNKNOWN = (
    "clientConnection.maxInflight",
    "windowRunAsService",
    "syncPeriod",
    "minSyncPeriod",
    "linux",
    "conntrack.sctpTimeout",
    "detectLocal.nodeInterfaces",
    "nftables.flowtable",
    "logging.options.json.timeFormat",
    "trafficEngineering",
)


@pytest.fixture(params=["yaml", "json"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file, in the format that kubeadm writes and in the one that others do."""
    path = tmp_path / "config.conf"
    as_json = request.param == "json"
    path.write_text(json.dumps(yaml.safe_load(CONFIG)) if as_json else CONFIG)
    return path


def test_the_daemon_warns_and_goes_on(commands: Commands, manifests: Path, config: Path) -> None:
    """Each field is named once, with the file; what is known is in force."""
    write(manifests / "all.json", node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    with commands.daemon(manifests, "--config", config) as daemon:
        log = daemon.log
        rules = commands.namespace.run(["nft", "list", "table", "ip", "nfproxy"]).stdout

    for field in UNKNOWN:
        assert log.count(f"{config}: unknown field '{field}' is ignored") == 1, field
    assert log.count("unknown field") == len(UNKNOWN)
    assert "no effect for 'NFTablesFlowtables'" in log
    assert errors_in(log) == []
    assert commands.frontends() == {"10.96.0.1:80/tcp": ("10.244.1.5:8080",)}
    assert "meta mark set meta mark | 0x00008000" in rules  # masqueradeBit
    assert "ip saddr != 10.244.0.0/16" in rules


def test_another_api_version_is_refused_with_what_is_expected(
    commands: Commands, manifests: Path, tmp_path: Path
) -> None:
    """Its fields may mean anything else; nfproxy programs nothing."""
    path = tmp_path / "config.conf"
    path.write_text(CONFIG.replace("/v1alpha1", "/v1alpha2"))
    result = commands.run("run", "--manifests", manifests, "--config", path)

    assert result.code == 1
    assert "apiVersion is 'kubeproxy.config.k8s.io/v1alpha2'; expected a mapping with" in result.err
    assert "kubeproxy.config.k8s.io/v1alpha1" in result.err
    assert commands.tables() == []
