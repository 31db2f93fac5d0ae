"""Values that can be read but not used."""

import pytest

from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.config.lookup import with_values
from nfproxy.config.validate import validate


def fields(values):
    config = with_values(KubeProxyConfiguration(mode="nftables"), values)
    return [problem.field for problem in validate(config)]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"bindAddress": "::"},
        {"bindAddress": "010.0.0.01"},
        {"healthzBindAddress": ""},
        {"healthzBindAddress": "[::1]:1"},
        {"metricsBindAddress": "10.0.0.1:65535"},
        {"nodePortAddresses": ("primary",)},
        {"nodePortAddresses": ("primary", "localhost", "all", "10.0.0.0/8", "primary")},
        {"nodePortAddresses": ("10.0.0.1/8", "::/0", " 192.0.2.0/24 ")},
        {"detectLocalMode": "ClusterCIDR", "clusterCIDR": ""},
        {"detectLocalMode": "ClusterCIDR", "clusterCIDR": "10.0.0.0/8, fd00::/8"},
        {"detectLocalMode": "NodeCIDR", "clusterCIDR": "unused"},
        {"detectLocalMode": "BridgeInterface", "detectLocal.bridgeInterface": "cni0"},
        {"detectLocalMode": "InterfaceNamePrefix", "detectLocal.interfaceNamePrefix": "veth"},
        {"nftables.minSyncPeriod": 30_000_000_000},
        {"nftables.masqueradeBit": 31},
        {"logging.verbosity": 4294967295},
        {"conntrack.udpTimeout": 0},
    ],
)
def test_what_kube_proxy_accepts_is_accepted(values):
    """Settings of another mode are not judged."""
    assert fields(values) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "kernelspace"),
        ("mode", "NFTables"),
        ("detectLocalMode", "Cluster"),
        ("bindAddress", ""),
        ("bindAddress", "host"),
        ("bindAddress", "10.0.0.256"),
        ("bindAddress", "fe80::1%eth0"),
        ("healthzBindAddress", "10.0.0.1"),
        ("healthzBindAddress", "host:80"),
        ("healthzBindAddress", "::1:80"),
        ("healthzBindAddress", "[::1]"),
        ("healthzBindAddress", "10.0.0.1:0"),
        ("healthzBindAddress", "10.0.0.1:65536"),
        ("healthzBindAddress", "10.0.0.1:http"),
        ("healthzBindAddress", ":80"),
        ("metricsBindAddress", ""),
        ("metricsBindAddress", "10.0.0.1:-1"),
        ("nodePortAddresses", ("localhost", "loopback")),
        ("nodePortAddresses", ("10.0.0.1",)),
        ("nodePortAddresses", ("10.0.0.0/33",)),
        ("nodePortAddresses", ("",)),
        ("nodePortAddresses", ("Primary",)),
        ("configSyncPeriod", 0),
        ("nftables.syncPeriod", -1),
        ("nftables.minSyncPeriod", -1),
        ("nftables.minSyncPeriod", 30_000_000_001),
        ("nftables.masqueradeBit", -1),
        ("nftables.masqueradeBit", 32),
        ("iptables.masqueradeBit", 32),
        ("oomScoreAdj", -1001),
        ("oomScoreAdj", 1001),
        ("conntrack.maxPerCore", -1),
        ("conntrack.min", -1),
        ("conntrack.tcpEstablishedTimeout", -1),
        ("conntrack.tcpCloseWaitTimeout", -1),
        ("conntrack.udpTimeout", -1),
        ("conntrack.udpStreamTimeout", -1),
        ("clientConnection.burst", -1),
        ("hostnameOverride", " \t"),
        ("logging.format", "xml"),
        ("logging.verbosity", -1),
        ("logging.flushFrequency", 0),
    ],
)
def test_what_kube_proxy_refuses_is_refused(field, value):
    """There is one invalid value, of that field."""
    assert [field] == fields({field: value})


@pytest.mark.parametrize(
    "text",
    ["x", "10.0.0.0/8,", "10.0.0.0/8,10.1.0.0/16", "10.0.0.0/8,fd00::/8,fd01::/16", "10.0.0.1"],
)
def test_cluster_cidrs_are_judged_in_their_own_mode(text):
    """At most two, and two must be of different families."""
    assert fields({"detectLocalMode": "ClusterCIDR", "clusterCIDR": text}) == ["clusterCIDR"]


@pytest.mark.parametrize(
    ("mode", "field"),
    [
        ("BridgeInterface", "detectLocal.bridgeInterface"),
        ("InterfaceNamePrefix", "detectLocal.interfaceNamePrefix"),
    ],
)
@pytest.mark.parametrize("name", ["", 'a"b', "a b", "a;b", "a\nb", "veth*", "x" * 16, "a\\b", "ü"])
def test_interface_names_must_be_safe_in_a_rule(mode, field, name):
    """The parameter is mandatory in its mode; no text with a meaning in nft passes."""
    assert [field] == fields({"detectLocalMode": mode, field: name})


def test_modules_and_json_logs_exclude_each_other():
    """As in kube-proxy."""
    assert fields({"logging.vmodule": ("x",), "logging.format": "json"}) == ["logging.vmodule"]


def test_all_failures_are_reported():
    """Every wrong field is reported, not only the first."""
    found = fields({"mode": "x", "bindAddress": "x", "nodePortAddresses": ("x", "y", "all")})

    assert found == ["mode", "bindAddress", "nodePortAddresses", "nodePortAddresses"]
