"""What Services must not take, as far as the configuration and the Node say."""

import pytest

from nfproxy.config.kept import kept_addresses, with_host
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.model.addresses import parse_address, parse_prefix
from nfproxy.model.node import Node


@pytest.mark.parametrize(
    ("health", "metrics", "expected"),
    [
        ("0.0.0.0:10256", "127.0.0.1:10249", [("", 10256), ("127.0.0.1", 10249)]),
        ("[::]:10256", "192.0.2.1:10249", [("", 10256), ("192.0.2.1", 10249)]),
        ("", "[2001:db8::1]:10249", [("2001:db8::1", 10249)]),
    ],
)
def test_the_ports_that_nfproxy_listens_on(health, metrics, expected):
    config = KubeProxyConfiguration(healthz_bind_address=health, metrics_bind_address=metrics)
    found = kept_addresses(config, None).listeners

    assert [(x.address, x.port) for x in found] == [
        (parse_address(address) if address else b"", port) for address, port in expected
    ]


def test_the_node_s_addresses_and_the_ranges_of_pods():
    config = KubeProxyConfiguration(cluster_cidr="10.244.0.0/16,::/0")
    address, other = parse_address("192.0.2.1"), parse_address("192.0.2.2")
    node = Node("node-1", (address,), pod_cidrs=(parse_prefix("10.245.1.0/24"),))
    kept = with_host(kept_addresses(config, node), frozenset((other,)), frozenset(((other, 6443),)))

    assert kept.node_addresses == {address}
    assert kept.own_addresses == {address, other}
    assert kept.api_servers == {(other, 6443)}
    assert [str(prefix) for prefix in kept.pod_prefixes] == ["10.244.0.0/16", "10.245.1.0/24"]
