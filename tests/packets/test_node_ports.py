"""
Node ports: on which addresses of the node they are served, and on which they are not.

A process of the node listens on the very same port wherever it can. Where the node port is
not accepted, and only there, that process answers.
"""

import msgspec
import pytest
from support.objects.model import endpoint_slice, service
from support.packets.scenes import (
    CLUSTER_IP,
    CONFIG,
    NODE_PORT,
    PORT,
    SECOND_IP,
    TARGET_PORT,
    Scene,
)
from support.packets.sending import Probe, Protocol
from support.packets.steps import families, protocols

from nfproxy.model.addresses import FAMILIES, Family, Prefix, parse_prefix
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.tools.lab import Addresses

LOOPBACK = Addresses("127.0.0.1", "::1")
#: Routed to node-1, which does not have it to begin with.
LATER_IP = Addresses("198.51.100.9", "2001:db8:1::9")
UNUSED_PORT = 30099

SERVED = "remote masqueraded"
HOST = "host-process"


@pytest.fixture(scope="module")
def scene(scene: Scene) -> Scene:
    """One lab for the module, with a process of the node on the node port's number."""
    addresses = [*scene.node.addresses[0], *SECOND_IP, *LOOPBACK]
    for protocol in Protocol:
        scene.responders.listen(scene.node, NODE_PORT, protocol, addresses=addresses, identity=HOST)
        scene.responders.listen(scene.cluster.nodes[1], NODE_PORT, protocol)
    return scene


def accepting(*prefixes: str) -> NodeConfig:
    """Return the configuration with these ``nodePortAddresses``."""
    parsed = [parse_prefix(text) for text in prefixes]
    by_family: dict[Family, tuple[Prefix, ...] | None] = {
        f: tuple(p for p in parsed if p.family is f) for f in FAMILIES
    }
    return msgspec.structs.replace(CONFIG, node_port_prefixes=by_family)


EVERYWHERE = {
    "match all": msgspec.structs.replace(CONFIG, node_port_prefixes=dict.fromkeys(FAMILIES)),
    "family not mentioned": msgspec.structs.replace(CONFIG, node_port_prefixes={}),
}
PRIMARY, SECOND = "192.168.77.11/32 fd77::11/128", "192.168.77.61/32 fd77::61/128"

#: Configuration, and what answers at the node IP and at the second address.
ACCEPTED = {
    "primary": (CONFIG, SERVED, HOST),
    "second address": (accepting(*SECOND.split()), HOST, SERVED),
    "both, one by one": (accepting(*PRIMARY.split(), *SECOND.split()), SERVED, SERVED),
    "CIDR of both": (accepting("192.168.77.0/24", "fd77::/64"), SERVED, SERVED),
    "CIDR of one, among others": (
        accepting("10.0.0.0/8", "192.168.77.0/28", "fd77::/123", "fd99::/16"),
        SERVED,
        HOST,
    ),
    "CIDR of none": (accepting("203.0.113.0/24", "2001:db8:9::/64"), HOST, HOST),
    "loopback": (accepting("127.0.0.0/8", "::1/128"), HOST, HOST),
    "half of all, loopback included": (accepting("0.0.0.0/1", "::/1"), HOST, HOST),
    **{name: (config, SERVED, SERVED) for name, config in EVERYWHERE.items()},
}
configurations = pytest.mark.parametrize("name", ACCEPTED)


@configurations
@families
@protocols
def test_addresses(scene: Scene, name: str, family: Family, protocol: Protocol) -> None:
    """A node port is served on the addresses asked for; elsewhere the host answers itself."""
    config, primary, second = ACCEPTED[name]
    scene.program(scene.web(), *scene.slices(scene.remote), config=config)

    expected = {
        (source, address): answer
        for source in ("outside", "pod", "node", "far pod")
        for address, answer in (
            (scene.node.address(family), primary),
            (SECOND_IP.of(family), second),
        )
    }
    probes = [scene.probe_to(source, address, NODE_PORT, protocol) for source, address in expected]
    assert expected == dict(zip(expected, scene.ask(*probes), strict=True))


@configurations
@families
@protocols
def test_never_on_loopback(scene: Scene, name: str, family: Family, protocol: Protocol) -> None:
    """Loopback addresses belong to the host, whatever the configuration."""
    config, _, _ = ACCEPTED[name]
    scene.program(scene.web(), *scene.slices(scene.remote), config=config)

    address = LOOPBACK.of(family)
    assert scene.ask(Probe(scene.node, address, NODE_PORT, protocol)) == [HOST]


@pytest.mark.parametrize("name", EVERYWHERE)
@families
@protocols
def test_other_nodes(scene: Scene, name: str, family: Family, protocol: Protocol) -> None:
    """A node port on another node's address is that node's affair."""
    scene.program(scene.web(), *scene.slices(scene.remote), config=EVERYWHERE[name])
    other = scene.cluster.nodes[1]

    probes = [
        scene.probe_to(source, other.address(family), NODE_PORT, protocol)
        for source in ("pod", "node")
    ]
    assert [other.name] * 2 == scene.ask(*probes)


@pytest.mark.parametrize(
    "config",
    [*EVERYWHERE.values(), accepting("198.51.100.8/29", "2001:db8:1::8/125")],
    ids=[*EVERYWHERE, "CIDR"],
)
@families
def test_address_comes_and_goes(scene: Scene, config: NodeConfig, family: Family) -> None:
    """An address the node gets is served at once, without a word to nfproxy, until it goes."""
    scene.program(scene.web(), *scene.slices(scene.remote), config=config)
    address = LATER_IP.of(family)
    probes = [
        scene.probe_to(source, address, NODE_PORT, protocol)
        for source in ("outside", "pod", "node")
        for protocol in Protocol
    ]

    assert scene.ask(*probes) == ["dropped"] * 9
    with scene.bound(address):
        assert scene.ask(*probes) == [SERVED] * 9
    assert scene.ask(*probes) == ["dropped"] * 9


@families
def test_primary_only_follows_the_node(scene: Scene, family: Family) -> None:
    """An address the node gets that is not asked for stays the host's."""
    scene.program(scene.web(), *scene.slices(scene.remote))
    address = LATER_IP.of(family)
    probes = [scene.probe_to(s, address, NODE_PORT, Protocol.TCP) for s in ("outside", "pod")]
    with scene.bound(address), scene.host_listens([(address, NODE_PORT)], Protocol.TCP):
        assert scene.ask(*probes) == [scene.node.name] * 2


@families
def test_reconfiguration(scene: Scene, family: Family) -> None:
    """Other addresses in the configuration take the place of the first ones."""
    web, slices = scene.web(), scene.slices(scene.remote)
    probes = [
        scene.probe_to("outside", address, NODE_PORT, Protocol.TCP)
        for address in (scene.node.address(family), SECOND_IP.of(family))
    ]
    for name in ("primary", "match all", "second address", "CIDR of none", "primary"):
        config, *answers = ACCEPTED[name]
        scene.program(web, *slices, config=config)
        assert answers == scene.ask(*probes), name


@families
@protocols
def test_undefined_ports(scene: Scene, family: Family, protocol: Protocol) -> None:
    """A port that no Service has is the host's: answered by its process, or refused by it."""
    config = EVERYWHERE["match all"]
    scene.program(scene.web(), *scene.slices(scene.remote), config=config)
    address = scene.node.address(family)
    probes = [
        scene.probe_to(source, address, port, protocol)
        for port in (TARGET_PORT, UNUSED_PORT)
        for source in ("outside", "pod", "node")
    ]

    assert [scene.node.name] * 3 + ["refused"] * 3 == scene.ask(*probes)


@families
@protocols
def test_other_protocols(scene: Scene, family: Family, protocol: Protocol) -> None:
    """A node port of one protocol leaves the others of that number to the host."""
    web = service(cluster_ips=CLUSTER_IP, port=PORT, protocol=protocol, node_port=NODE_PORT)
    pod = scene.remote.address(family)
    scene.program(web, endpoint_slice("web", pod, protocol=protocol))

    probes = [
        scene.probe_to("outside", scene.node.address(family), NODE_PORT, other)
        for other in Protocol
    ]
    expected = [SERVED if other is protocol else HOST for other in Protocol]
    assert expected == scene.ask(*probes)


@families
@protocols
def test_no_endpoints(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Without endpoints accepted addresses refuse, although a process would answer."""
    scene.program(scene.web())

    rows = [(s, a) for s in ("outside", "pod", "node") for a in ("first", "second")]
    addresses = {"first": scene.node.address(family), "second": SECOND_IP.of(family)}
    probes = [scene.probe_to(s, addresses[a], NODE_PORT, protocol) for s, a in rows]
    assert scene.ask(*probes) == ["refused", HOST] * 3


@families
@protocols
def test_no_local_endpoint(scene: Scene, family: Family, protocol: Protocol) -> None:
    """With policy Local and endpoints elsewhere, accepted addresses are silent to outsiders."""
    scene.program(scene.web(external_local=True), *scene.slices(scene.remote))

    probes = [
        scene.probe_to("outside", address, NODE_PORT, protocol)
        for address in (scene.node.address(family), SECOND_IP.of(family))
    ]
    assert scene.ask(*probes) == ["dropped", HOST]


@pytest.mark.parametrize("name", ["primary", "match all"])
@families
@protocols
def test_external_ip_wins(scene: Scene, name: str, family: Family, protocol: Protocol) -> None:
    """At an external IP that is a node address the node port of that number is not reached."""
    config, _, second = ACCEPTED[name]
    by_node_port = scene.web()
    by_address = service(
        "other",
        cluster_ips=("10.96.0.2", "fd00:10:96::2"),
        port=NODE_PORT,
        protocol=protocol,
        external_ips=[scene.node.address(family)],
    )
    pod = scene.local.address(family)
    scene.program(
        by_node_port,
        *scene.slices(scene.remote),
        by_address,
        endpoint_slice("other", pod, protocol=protocol),
        config=config,
    )

    probes = [
        scene.probe_to(source, address, NODE_PORT, protocol)
        for address in (scene.node.address(family), SECOND_IP.of(family))
        for source in ("outside", "pod", "node")
    ]
    assert ["local masqueraded"] * 3 + [second] * 3 == scene.ask(*probes)
    scene.program(by_node_port, *scene.slices(scene.remote), config=config)
    assert [SERVED] * 3 + [second] * 3 == scene.ask(*probes)
