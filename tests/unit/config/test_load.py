"""Which value counts, that of the file, of a flag or the default, and warnings about the rest."""

import json

import pytest

from nfproxy.config.document import write_config
from nfproxy.config.durations import Duration
from nfproxy.config.flags import Flags
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.config.load import load
from nfproxy.config.lookup import value_of

KUBEADM = """\
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: nftables
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"""


DEFAULT = load(Flags()).config


def test_without_flags_the_defaults_are_in_force():
    """No flag asked for another mode, so there is no warning."""
    loaded = load(Flags())

    assert loaded.warnings == ()
    assert loaded.config.mode == "nftables"
    assert loaded.config.detect_local_mode == "ClusterCIDR"
    assert loaded.config.node_port_addresses == ("primary",)
    assert loaded.config.nftables == KubeProxyConfiguration().nftables


def test_the_file_kubeadm_writes_gives_the_defaults_without_a_warning(configured):
    """Its zeros, nulls and empty texts all mean unset."""
    loaded = configured(KUBEADM)

    assert loaded.warnings == ()
    assert loaded.config.cluster_cidr == "10.244.0.0/16"
    assert loaded.config.client_connection.kubeconfig == "/var/lib/kube-proxy/kubeconfig.conf"
    assert loaded.config.nftables == DEFAULT.nftables
    assert loaded.config.conntrack == DEFAULT.conntrack
    assert loaded.config.logging == DEFAULT.logging
    assert loaded.config.config_sync_period == Duration.of(900)
    assert loaded.config.healthz_bind_address == "0.0.0.0:10256"


def test_json_is_read_like_yaml(from_file):
    """The form makes no difference."""
    data = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "nodePortAddresses": ["10.0.0.0/8"],
    }

    assert from_file(json.dumps(data, indent="\t")).config.node_port_addresses == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("body", "path", "value"),
    [
        ("conntrack: {maxPerCore: 0, min: 0}", "conntrack.maxPerCore", 0),
        ("conntrack: {tcpEstablishedTimeout: 0s}", "conntrack.tcpEstablishedTimeout", 0),
        ("conntrack: {tcpCloseWaitTimeout: '0'}", "conntrack.tcpCloseWaitTimeout", 0),
        ("nftables: {masqueradeBit: 0}", "nftables.masqueradeBit", 0),
        ("oomScoreAdj: 0", "oomScoreAdj", 0),
        ("iptables: {localhostNodePorts: false}", "iptables.localhostNodePorts", False),
        ("nftables: {minSyncPeriod: 0s}", "nftables.minSyncPeriod", Duration.of(0.05)),
        ("clientConnection: {qps: 0, burst: 0}", "clientConnection.qps", 5.0),
        ("logging: {flushFrequency: 2000000000}", "logging.flushFrequency", Duration.of(2)),
        ("bindAddress: '::'", "healthzBindAddress", "[::]:10256"),
        ("bindAddress: '2001:db8::1'", "metricsBindAddress", "[::1]:10249"),
        ("bindAddress: '::ffff:192.0.2.1'", "metricsBindAddress", "127.0.0.1:10249"),
        ("metricsBindAddress: 10.0.0.1", "metricsBindAddress", "10.0.0.1:10249"),
        ("healthzBindAddress: '2001:db8::1'", "healthzBindAddress", "[2001:db8::1]:10256"),
        ("healthzBindAddress: '[::1]:5'", "healthzBindAddress", "[::1]:5"),
        ("clientConnection: {qps: 10}", "clientConnection.qps", 10.0),
        ("conntrack: {min: 5.0}", "conntrack.min", 5),
    ],
)
def test_zero_is_unset_in_a_file_except_where_the_api_has_a_pointer(configured, body, path, value):
    """The defaulting of v1alpha1, and defaults that follow from another field."""
    assert value == value_of(configured(f"mode: nftables\n{body}").config, path)


@pytest.mark.parametrize(
    ("flags", "path", "value"),
    [
        ({"masquerade_all": "true"}, "nftables.masqueradeAll", True),
        ({"masquerade_all": "F"}, "nftables.masqueradeAll", False),
        ({"iptables_sync_period": "1m"}, "nftables.syncPeriod", Duration.of(60)),
        ({"iptables_min_sync_period": "0"}, "nftables.minSyncPeriod", Duration(0)),
        ({"iptables_masquerade_bit": "3"}, "nftables.masqueradeBit", 14),
        ({"iptables_masquerade_bit": "3"}, "iptables.masqueradeBit", 3),
        ({"nodeport_addresses": ""}, "nodePortAddresses", ("primary",)),
        ({"nodeport_addresses": "10.0.0.0/8,::/0"}, "nodePortAddresses", ("10.0.0.0/8", "::/0")),
        ({"bind_address": "::"}, "healthzBindAddress", "0.0.0.0:10256"),
        ({"bind_address": ""}, "bindAddress", "0.0.0.0"),
        ({"healthz_bind_address": ""}, "healthzBindAddress", "0.0.0.0:10256"),
        ({"metrics_bind_address": ""}, "metricsBindAddress", "127.0.0.1:10249"),
        ({"healthz_bind_address": "::1"}, "healthzBindAddress", "[::1]:10256"),
        (
            {"healthz_bind_address": "10.0.0.1", "healthz_port": "7"},
            "healthzBindAddress",
            "10.0.0.1:7",
        ),
        ({"healthz_port": "0"}, "healthzBindAddress", ""),
        ({"healthz_port": "7"}, "healthzBindAddress", "0.0.0.0:10256"),
        (
            {"metrics_bind_address": "10.0.0.1", "metrics_port": "7"},
            "metricsBindAddress",
            "10.0.0.1:7",
        ),
        ({"oom_score_adj": "-0x10"}, "oomScoreAdj", -16),
        ({"conntrack_min": "010"}, "conntrack.min", 8),
        ({"feature_gates": "A=true,B=f"}, "featureGates", {"A": True, "B": False}),
        ({"kube_api_qps": "2.5"}, "clientConnection.qps", 2.5),
    ],
)
def test_flags_alone_make_the_configuration(flags, path, value):
    """Two iptables flags count in nftables mode and the bit does not, as in kube-proxy."""
    assert value == value_of(load(Flags.of(**flags)).config, path)


def test_with_a_file_flags_are_ignored_and_named(configured):
    """kube-proxy ignores them silently; nfproxy names them in a warning."""
    loaded = configured(
        "mode: nftables\nclusterCIDR: 10.0.0.0/8",
        cluster_cidr="10.1.0.0/16",
        masquerade_all="true",
        kubeconfig="/k",
        healthz_port="0",
    )

    assert loaded.config.cluster_cidr == "10.0.0.0/8"
    assert not loaded.config.nftables.masquerade_all
    assert loaded.config.client_connection.kubeconfig == ""
    assert loaded.config.healthz_bind_address == "0.0.0.0:10256"
    assert len(loaded.warnings) == 1
    for flag in ("--cluster-cidr", "--masquerade-all", "--kubeconfig", "--healthz-port"):
        assert flag in loaded.warnings[0]


def test_some_flags_count_beside_a_file(configured):
    """The node's name, the logging flags, and what has no field."""
    loaded = configured(
        "mode: nftables\nhostnameOverride: a\n"
        + "logging: {verbosity: 1, vmodule: [{filePattern: f, verbosity: 1}]}",
        hostname_override="b",
        v="4",
        vmodule="g=2",
        master="https://m",
        write_config_to="/w",
        cleanup="true",
        init_only="1",
        version="raw",
    )

    assert loaded.config.hostname_override == "b"
    assert loaded.config.logging.verbosity == 4
    assert [(m.file_pattern, m.verbosity) for m in loaded.config.logging.vmodule] == [
        ("g", 2),
        ("f", 1),
    ]
    flags = loaded.command_line
    assert (flags.master, flags.write_config_to) == ("https://m", "/w")
    assert (flags.cleanup, flags.init_only, flags.version) == (True, True, "raw")
    assert flags.config.endswith("kp.yaml")


def test_an_empty_host_name_flag_leaves_the_files_name(configured):
    """As in kube-proxy, where only a text that is not empty overrides."""
    loaded = configured("mode: nftables\nhostnameOverride: a", hostname_override="")

    assert loaded.config.hostname_override == "a"


@pytest.mark.parametrize("version", ["", "false"])
def test_no_version_is_asked_for(version):
    """``--version=false`` means the same as no flag."""
    flags = load(Flags.of(version="false") if version else Flags()).command_line

    assert (flags.version, flags.reported_version) == ("false", "")


@pytest.mark.parametrize(
    ("gates", "allowed"),
    [
        (None, True),
        ("AllowServiceExternalIPs=true", True),
        ("AllowServiceExternalIPs=false", False),
        ("Other=false", True),
    ],
)
def test_external_ips_are_allowed_unless_the_gate_is_off(gates, allowed):
    """Feature gate AllowServiceExternalIPs."""
    flags = Flags.of(feature_gates=gates) if gates else Flags()

    assert allowed == load(flags).config.allows_external_ips


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"cluster_cidr": "10.0.0.0/8,fd00::/8", "nodeport_addresses": "::/0", "v": "3"},
        {"vmodule": "a=1", "feature_gates": "A=false", "kube_api_qps": "2.5"},
        {"iptables_min_sync_period": "250ms", "conntrack_min": "0", "hostname_override": "ü: #"},
    ],
)
def test_the_written_configuration_reads_back_the_same(from_file, flags):
    """What --write-config-to writes gives the same configuration in force."""
    config = load(Flags.of(**flags)).config

    assert config == from_file(write_config(config)).config
