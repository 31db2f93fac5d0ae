"""Values that cannot be used, and the errors that report them."""

import pytest

from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.errors import ConfigError

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ("clusterCIDR: 5", "clusterCIDR", "5"),
        ("clusterCIDR: [a]", "clusterCIDR", "a list of 1"),
        ("hostnameOverride: true", "hostnameOverride", "true"),
        ("conntrack: 5", "conntrack", "5"),
        ("logging: {options: {text: []}}", "logging.options.text", "a list of 0"),
        ("conntrack: {min: '5'}", "conntrack.min", "'5'"),
        ("conntrack: {min: 1.5}", "conntrack.min", "1.5"),
        ("conntrack: {min: true}", "conntrack.min", "true"),
        ("nftables: {syncPeriod: 30}", "nftables.syncPeriod", "30"),
        ("nftables: {syncPeriod: 30 s}", "nftables.syncPeriod", "'30 s'"),
        ("nodePortAddresses: 10.0.0.0/8", "nodePortAddresses", "'10.0.0.0/8'"),
        ("nodePortAddresses: [5]", "nodePortAddresses", "a list of 1"),
        ("featureGates: {A: 'true'}", "featureGates", "a mapping"),
        ("featureGates: [A]", "featureGates", "a list of 1"),
        ("clientConnection: {qps: fast}", "clientConnection.qps", "'fast'"),
        ("clientConnection: {qps: 1e99}", "clientConnection.qps", "1e+99"),
        ("logging: {vmodule: [{filePattern: a}]}", "logging.vmodule", "a list of 1"),
        ("logging: {flushFrequency: 1.5}", "logging.flushFrequency", "1.5"),
        (
            "logging: {options: {text: {infoBufferSize: 5 kg}}}",
            "logging.options.text.infoBufferSize",
            "'5 kg'",
        ),
        ("enableProfiling: 1", "enableProfiling", "1"),
        ("oomScoreAdj: " + "9" * 400, "oomScoreAdj", "a huge number"),
        (f"mode: {'x' * 9000}", "mode", repr("x" * 63 + "…")),
    ],
)
def test_wrong_types_name_file_field_value_and_what_is_accepted(invalid_values, body, field, value):
    """The message is complete and short for every content of a field."""
    (invalid,) = invalid_values(body)

    assert (field, value) == (invalid.field, invalid.value)
    assert invalid.where.endswith(f"kp.yaml: {field}")
    assert f"{value} cannot be used; accepted: {invalid.accepted}" in str(invalid)
    assert len(str(invalid)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no configuration"),
        ("[]", "holds no configuration"),
        ("just text", "holds no configuration"),
        ("kind: KubeProxyConfiguration", "apiVersion is missing"),
        ("apiVersion: kubeproxy.config.k8s.io/v1alpha1", "kind is missing"),
        (HEAD.replace("v1alpha1", "v1"), "apiVersion is 'kubeproxy.config.k8s.io/v1'"),
        (
            "apiVersion: v1\nkind: Service",
            "apiVersion is 'v1'; expected a mapping with apiVersion: kubeproxy",
        ),
        (HEAD.replace("KubeProxy", "Kubelet"), "kind is 'KubeletConfiguration'"),
        (HEAD.replace("KubeProxyConfiguration", "[1]"), "kind is a list of 1"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(from_file, text, message):
    """Kind and version are mandatory."""
    with pytest.raises(ConfigError, match=r"kp\.yaml") as caught:
        from_file(text)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        ({"oom_score_adj": "1001"}, "'1001'"),
        ({"oom_score_adj": "ten"}, "'ten'"),
        ({"oom_score_adj": ""}, "''"),
        ({"conntrack_min": "-1"}, "'-1'"),
        ({"conntrack_min": "2147483648"}, "'2147483648'"),
        ({"conntrack_min": "\u0663"}, "'\u0663'"),
        ({"config_sync_period": "0s"}, "'0s'"),
        ({"config_sync_period": "15"}, "'15'"),
        ({"iptables_masquerade_bit": "32"}, "'32'"),
        ({"masquerade_all": "yes"}, "'yes'"),
        ({"proxy_mode": "kernelspace"}, "'kernelspace'"),
        ({"detect_local_mode": "clustercidr"}, "'clustercidr'"),
        ({"metrics_port": "0"}, "'0'"),
        ({"healthz_port": "65536"}, "'65536'"),
        ({"feature_gates": "A"}, "'A'"),
        ({"vmodule": "a=b"}, "'a=b'"),
        ({"conntrack_min": "1\u0663"}, "'1\u0663'"),
        ({"conntrack_min": "0o"}, "'0o'"),
        ({"kube_api_qps": "nan"}, "'nan'"),
        ({"kube_api_qps": "\u0663"}, "'\u0663'"),
        ({"logging_format": "xml"}, "'xml'"),
        ({"log_flush_frequency": "0"}, "'0'"),
        ({"version": "latest"}, "'latest'"),
        ({"log_json_info_buffer_size": "big"}, "'big'"),
    ],
)
def test_flags_that_cannot_be_read_are_named(invalid_values, flags, value):
    """The message has the flag as it is written on the command line."""
    (invalid,) = invalid_values(**flags)

    (flag,) = flags
    assert (f"--{flag.replace('_', '-')}", value) == (invalid.where, invalid.value)


def test_all_wrong_values_are_reported_together(invalid_values):
    """One error has wrong types and ranges, from file and flags."""
    found = invalid_values(
        "clusterCIDR: x\nconntrack: {min: -1, maxPerCore: a}\nmode: kernelspace", v="loud"
    )

    assert {
        "--v",
        "conntrack.maxPerCore",
        "conntrack.min",
        "clusterCIDR",
        "mode",
    } == {invalid.where.rpartition(": ")[2] for invalid in found}


def test_several_values_print_one_per_line():
    """The error's text has their number and a line for each."""
    with pytest.raises(ConfigError) as caught:
        load(Flags.of(conntrack_min="a", oom_score_adj="b"))

    lines = str(caught.value).splitlines()
    assert lines[0] == "2 settings cannot be used:"
    assert lines[1].startswith("  --conntrack-min: 'a' cannot be used; accepted: an integer")


def test_checks_that_depend_on_an_unreadable_value_are_left_out(invalid_values):
    """With syncPeriod unreadable, minSyncPeriod cannot be too long for it."""
    (invalid,) = invalid_values("nftables: {syncPeriod: long, minSyncPeriod: 1h}")

    assert invalid.field == "nftables.syncPeriod"
