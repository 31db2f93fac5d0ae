"""The declared settings against kube-proxy's own list."""

from collections.abc import Iterator

import msgspec
import pytest

from nfproxy.config.commandline import CommandLine
from nfproxy.config.document import write_config
from nfproxy.config.durations import Duration
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.config.lookup import BY_FIELD, BY_FLAG, SETTINGS, value_of

# flag, field, default as printed in kube-proxy 1.36's reference; "-" where there is none
KUBE_PROXY = """
config - -
write-config-to - -
cleanup - False
init-only - False
version - false
master - -
kubeconfig clientConnection.kubeconfig -
- clientConnection.acceptContentTypes -
kube-api-content-type clientConnection.contentType application/vnd.kubernetes.protobuf
kube-api-qps clientConnection.qps 5.0
kube-api-burst clientConnection.burst 10
hostname-override hostnameOverride -
bind-address bindAddress 0.0.0.0
healthz-bind-address healthzBindAddress 0.0.0.0:10256
healthz-port - 10256
metrics-bind-address metricsBindAddress 127.0.0.1:10249
metrics-port - 10249
bind-address-hard-fail bindAddressHardFail False
profiling enableProfiling False
show-hidden-metrics-for-version showHiddenMetricsForVersion -
proxy-mode mode -
feature-gates featureGates {}
config-sync-period configSyncPeriod 15m0s
oom-score-adj oomScoreAdj -999
nodeport-addresses nodePortAddresses ()
detect-local-mode detectLocalMode -
cluster-cidr clusterCIDR -
pod-bridge-interface detectLocal.bridgeInterface -
pod-interface-name-prefix detectLocal.interfaceNamePrefix -
masquerade-all nftables.masqueradeAll False
- nftables.masqueradeBit 14
iptables-sync-period nftables.syncPeriod 30s
iptables-min-sync-period nftables.minSyncPeriod 50ms
iptables-masquerade-bit iptables.masqueradeBit 14
- iptables.masqueradeAll False
- iptables.syncPeriod 30s
- iptables.minSyncPeriod 1s
iptables-localhost-nodeports iptables.localhostNodePorts True
ipvs-sync-period ipvs.syncPeriod 30s
ipvs-min-sync-period ipvs.minSyncPeriod 0s
ipvs-scheduler ipvs.scheduler -
ipvs-exclude-cidrs ipvs.excludeCIDRs ()
ipvs-strict-arp ipvs.strictARP False
ipvs-tcp-timeout ipvs.tcpTimeout 0s
ipvs-tcpfin-timeout ipvs.tcpFinTimeout 0s
ipvs-udp-timeout ipvs.udpTimeout 0s
conntrack-max-per-core conntrack.maxPerCore 32768
conntrack-min conntrack.min 131072
conntrack-tcp-timeout-established conntrack.tcpEstablishedTimeout 24h0m0s
conntrack-tcp-timeout-close-wait conntrack.tcpCloseWaitTimeout 1h0m0s
conntrack-tcp-be-liberal conntrack.tcpBeLiberal False
conntrack-udp-timeout conntrack.udpTimeout 0s
conntrack-udp-timeout-stream conntrack.udpStreamTimeout 0s
v logging.verbosity 0
vmodule logging.vmodule ()
logging-format logging.format text
log-flush-frequency logging.flushFrequency 5s
log-text-split-stream logging.options.text.splitStream False
log-text-info-buffer-size logging.options.text.infoBufferSize 0
log-json-split-stream logging.options.json.splitStream False
log-json-info-buffer-size logging.options.json.infoBufferSize 0
machine-id-file - /etc/machine-id,/var/lib/dbus/machine-id
boot-id-file - /proc/sys/kernel/random/boot_id
- winkernel.networkName -
- winkernel.sourceVip -
- winkernel.enableDSR False
- winkernel.rootHnsEndpointName -
- winkernel.forwardHealthCheckVip False
- windowsRunAsService False
- portRange -
"""
ROWS = [tuple(line.split()) for line in KUBE_PROXY.strip().splitlines()]

OURS = """
service-limit-frontends serviceLimits.frontends 32768
service-limit-endpoints serviceLimits.endpoints 10000
service-limit-source-ranges serviceLimits.sourceRanges 10000
service-limit-elements serviceLimits.elements 250000
"""
OUR_ROWS = [tuple(line.split()) for line in OURS.strip().splitlines()]


def test_every_setting_of_kube_proxy_is_declared_and_few_others():
    """Each flag and field is there once, with kube-proxy's default; only minSyncPeriod has ours."""
    declared = sorted((s.flag or "-", s.field or "-", str(s.default) or "-") for s in SETTINGS)

    assert sorted(ROWS + OUR_ROWS) == declared


def leaves(block: msgspec.Struct, path: str = "") -> Iterator[str]:
    """Yield the path of every field that is no block, whether or not it declares a setting."""
    for field in msgspec.structs.fields(block):
        value = getattr(block, field.name)
        here = f"{path}{field.encode_name}"
        if isinstance(value, msgspec.Struct):
            yield from leaves(value, f"{here}.")
        else:
            yield here


def test_every_field_of_the_file_declares_its_setting():
    """Only apiVersion and kind are no settings."""
    assert {*leaves(KubeProxyConfiguration())} == {*BY_FIELD, "apiVersion", "kind"}


def test_every_flag_without_field_declares_its_setting():
    """A field of the second struct is a flag, and knows its name."""
    without_field = {setting.flag for setting in SETTINGS if not setting.field}

    assert {name.replace("_", "-") for name in CommandLine.__struct_fields__} == without_field


@pytest.mark.parametrize("setting", BY_FIELD.values(), ids=lambda setting: setting.field)
def test_defaults_are_of_the_type_of_their_setting(setting):
    """The text of a default reads back as that default, from a flag and from a file."""
    default = value_of(KubeProxyConfiguration(), setting.field)
    written = list(default) if isinstance(default, tuple) else default
    written = str(default) if isinstance(default, Duration) else written

    assert default == setting.type.from_data(written)
    assert setting.type.fits(default)
    if not isinstance(default, tuple | dict):
        assert default == setting.type.from_text(str(default))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_explained(setting):
    """Help texts are sentences."""
    assert setting.help.endswith(".")


def test_flags_are_unique():
    """No two settings claim one flag."""
    assert len(BY_FLAG) == len([s for s in SETTINGS if s.flag])


def test_the_written_configuration_is_sorted_and_says_what_it_is():
    """Keys stand in order, so apiVersion comes first."""
    text = write_config(KubeProxyConfiguration())

    assert text.startswith("apiVersion: kubeproxy.config.k8s.io/v1alpha1\n")
    assert "kind: KubeProxyConfiguration\n" in text
    assert "  tcpEstablishedTimeout: 24h0m0s\n" in text
