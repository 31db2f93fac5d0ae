"""How the configuration follows the Node object over time."""

import pytest

from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.config.nodeconfig import Configurator
from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.node import Node

V4 = Family.IPV4


def node(*addresses, zone=""):
    return Node("n1", tuple(parse_address(address) for address in addresses), zone)


@pytest.fixture
def reported():
    """Return the list that takes the warnings of `configure`."""
    return []


@pytest.fixture
def configure(reported):
    config = load(Flags.of(proxy_mode="nftables", cluster_cidr="10.0.0.0/8")).config
    return Configurator(config, "n1", reported.append)


def test_a_node_registered_again_keeps_its_addresses_until_it_has_others(configure, reported):
    """Node ports stay on the node's own address while a new Node object has none yet."""
    before = configure(node("192.0.2.1", zone="a"))
    again = configure(node(zone="b"))

    assert again.node_port_prefixes == before.node_port_prefixes
    assert again.node_port_prefixes[V4] == (parse_prefix("192.0.2.1/32"),)
    assert again.zone == "b"
    assert reported == []
    assert configure(node("192.0.2.2")).node_ips == {V4: parse_address("192.0.2.2")}


def test_a_node_that_never_had_an_address_gets_one_warning(configure, reported):
    """ "primary" then means no address, and accepts no node ports."""
    assert configure(node()).node_port_prefixes[V4] == ()
    assert configure(node(zone="b")).node_port_prefixes[V4] == ()
    assert ["has no address" in text for text in reported] == [True]


def test_a_warning_that_applies_again_is_reported_again(configure, reported):
    """And not at each version of the Node in between."""
    wrong, right = node("10.0.0.1"), node("192.0.2.1")
    for version in (wrong, wrong, right, wrong):
        configure(version)

    assert ["own address 10.0.0.1" in text for text in reported] == [True, True]
