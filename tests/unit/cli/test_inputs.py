"""What the commands share."""

from nfproxy.cli.inputs import Settings, configurator
from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.node import Node

ADDRESS = parse_address("192.0.2.1")


def test_a_node_registered_anew_keeps_its_addresses_until_it_has_others():
    """
    Node ports stay confined to the node's own address while a new Node object has none yet.
    """
    told: list[str] = []
    loaded = load(Flags.of(proxy_mode="nftables", cluster_cidr="10.0.0.0/8"))
    configure = configurator(Settings(loaded, "n1"), told.append)
    before = configure(Node("n1", addresses=(ADDRESS,), zone="a"), False)

    anew = configure(Node("n1", zone="b"), False)

    assert anew.node_port_prefixes == before.node_port_prefixes
    assert anew.node_port_prefixes[Family.IPV4] is not None
    assert anew.zone == "b"
    assert told == []

    other = parse_address("192.0.2.2")
    assert configure(Node("n1", addresses=(other,)), False).node_ips == {Family.IPV4: other}


def test_a_node_that_never_had_an_address_is_warned_of():
    """
    Then "primary" means nothing, and node ports are accepted on every local address.
    """
    told: list[str] = []
    loaded = load(Flags.of(proxy_mode="nftables", cluster_cidr="10.0.0.0/8"))

    found = configurator(Settings(loaded, "n1"), told.append)(Node("n1"), False)

    assert found.node_port_prefixes[Family.IPV4] is None
    assert len(told) == 1
    assert "has no address" in told[0]
