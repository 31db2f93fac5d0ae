"""Warnings about values that are accepted but do not do what they seem to ask for."""

import pytest

from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.config.lookup import BY_FLAG


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"proxy_mode": "iptables"}, ["--proxy-mode", "'iptables'", "nodePortAddresses"]),
        ({"proxy_mode": "ipvs", "nodeport_addresses": "0.0.0.0/0"}, ["--proxy-mode", "'ipvs'"]),
        ({"proxy_mode": ""}, ["--proxy-mode", "''"]),
        ({"ipvs_scheduler": "lc"}, ["--ipvs-scheduler", "'lc'"]),
        ({"iptables_masquerade_bit": "3"}, ["--iptables-masquerade-bit", "nftables.masqueradeBit"]),
        ({"iptables_localhost_nodeports": "true"}, ["--iptables-localhost-nodeports"]),
        ({"profiling": "true"}, ["--profiling"]),
        ({"config_sync_period": "1m"}, ["--config-sync-period", "1m0s"]),
        ({"feature_gates": "X=true,AllowServiceExternalIPs=true"}, ["--feature-gates", "'X'"]),
        ({"healthz_port": "7"}, ["--healthz-port", "0.0.0.0:10256"]),
        ({"metrics_port": "7", "metrics_bind_address": "[::1]:8"}, ["--metrics-port", "[::1]:8"]),
        ({"machine_id_file": "/x"}, ["--machine-id-file"]),
        ({"log_text_info_buffer_size": "64Ki"}, ["--log-text-info-buffer-size"]),
    ],
)
def test_values_without_effect_get_a_warning(flags, named):
    """One warning names the flag, the value and what is in effect."""
    warnings = load(Flags.of(**flags)).warnings

    assert len(warnings) == 1
    for word in named:
        assert word in warnings[0]


@pytest.mark.parametrize(
    "flags",
    [
        {"proxy_mode": "nftables"},
        {"iptables_localhost_nodeports": "false"},
        {"ipvs_strict_arp": "false"},
        {"iptables_masquerade_bit": "14"},
        {"log_text_info_buffer_size": "0"},
        {"healthz_port": "0"},
        {"metrics_port": "7", "metrics_bind_address": "10.0.0.1"},
        {"feature_gates": "AllowServiceExternalIPs=false"},
        {"feature_gates": "KubeProxyIPVS=false,NFTablesNetlink=true,NativeHistograms=true"},
        {"feature_gates": "LoadBalancerIPModeRouter=true,ManagedFieldsOptOut=true"},
        {"feature_gates": "KubeProxyNFTablesLocalhostNodePorts=false"},
        {"feature_gates": "NfproxyUDPLocalhostNodePorts=true"},
        {"feature_gates": "AllAlpha=false,AllBeta=true"},
    ],
)
def test_values_that_ask_for_nothing_get_no_warning(flags):
    """Such a value works, or is the default."""
    assert load(Flags.of(**flags)).warnings == ()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("", ["kp.yaml: mode: ''", "nodePortAddresses"]),
        ("mode: iptables", ["kp.yaml: mode: 'iptables'"]),
        (
            "mode: nftables\niptables: {masqueradeAll: true}",
            ["iptables.masqueradeAll", "nftables.m"],
        ),
        ("mode: nftables\niptables: {syncPeriod: 5s}", ["iptables.syncPeriod: 5s"]),
        ("mode: nftables\nwinkernel: {sourceVip: x}", ["winkernel.sourceVip"]),
        ("mode: nftables\nclusterCidr: 10.0.0.0/8", ["'clusterCidr'", "did you mean clusterCIDR?"]),
        ("mode: nftables\nconntrack: {maxpercore: 5}", ["did you mean conntrack.maxPerCore?"]),
        ("mode: nftables\nconntrack: {max: 5}", ["did you mean conntrack.maxPerCore?"]),
        ("mode: nftables\nnftables: {sync: 5s}", ["did you mean nftables.syncPeriod?"]),
        ("mode: nftables\nfoo: {bar: [1, {}]}", ["unknown field 'foo' is ignored"]),
        ("mode: nftables\n1: x", ["unknown field '1'"]),
        ("mode: iptables\nmode: nftables", ["key 'mode' twice, the last counts, line 4"]),
    ],
)
def test_oddities_in_a_file_get_a_warning(configured, body, named):
    """One warning each, with file and field."""
    warnings = configured(body).warnings

    assert len(warnings) == 1, warnings
    for word in ("kp.yaml", *named):
        assert word in warnings[0]


def test_a_block_is_not_suggested_for_what_is_in_it(configured):
    """A suggestion must name a field; "did you mean iptables?" does not."""
    (warning,) = configured("mode: nftables\niptables: {foo: 1}").warnings

    assert "unknown field 'iptables.foo' is ignored" in warning
    assert not warning.endswith("did you mean iptables?")


def test_many_unknown_fields_do_not_flood_the_log(configured):
    """Warnings name the first twenty and count the others."""
    body = "mode: nftables\n" + "".join(f"x{n}: 1\n" for n in range(500))

    warnings = configured(body).warnings

    assert len(warnings) == 21
    assert "480 more" in warnings[-1]


def test_settings_that_agree_in_both_blocks_get_no_warning(configured):
    """A file for iptables mode may repeat its values for nftables."""
    both = "iptables: {masqueradeAll: true}\nnftables: {masqueradeAll: true}"

    assert configured(f"mode: nftables\n{both}").warnings == ()


def test_a_mode_with_node_port_addresses_needs_no_warning_about_node_ports(configured):
    """The addresses that accept node ports are then given."""
    (warning,) = configured("mode: iptables\nnodePortAddresses: [0.0.0.0/0]").warnings

    assert "is taken for 'nftables'" in warning
    assert "node ports" not in warning


@pytest.mark.parametrize(
    ("gates", "localhost", "router"),
    [
        ("", True, False),
        ("AllAlpha=true", True, True),
        ("AllAlpha=true,LoadBalancerIPModeRouter=false", True, False),
        ("AllBeta=false", False, False),
        ("AllBeta=false,KubeProxyNFTablesLocalhostNodePorts=true", True, False),
    ],
)
def test_all_gates_of_a_stage_are_switched_as_in_kubernetes(gates, localhost, router):
    """A gate that is named itself counts before those for all of its stage."""
    config = load(Flags.of(feature_gates=gates)).config

    assert config.serves_localhost_node_ports is localhost
    assert config.routes_ingress is router
    assert config.allows_external_ips


def test_the_help_names_the_gates_with_an_effect():
    """Each with what holds where it is not given."""
    text = BY_FLAG["feature-gates"].help
    for gate in ("AllowServiceExternalIPs [true]", "LoadBalancerIPModeRouter [false]"):
        assert gate in text
