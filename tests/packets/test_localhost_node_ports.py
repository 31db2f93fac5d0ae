"""
Node ports on loopback addresses: what the kernel rejects and counts, and what
it leaves to the host.

A process of the node listens on the very same ports of its loopback addresses. It stands for the
proxy in user space, too, which listens there like any process.
"""

import socket

import msgspec
import pytest
from support.kernel.nodeproxy import NodeProxy
from support.packets.scenes import CONFIG, NODE_PORT, Scene
from support.packets.sending import Probe, Protocol, probe_many
from support.packets.steps import families, protocols

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft.schema import REJECTED_COUNTERS
from nfproxy.tools.lab import Addresses
from nfproxy.tools.lab.attempts import socket_family

V4, V6 = Family.IPV4, Family.IPV6
LOOPBACK = Addresses("127.0.0.1", "::1")
UNUSED_PORT = 30099
AT_ONCE_S = 0.5  # an ICMP error that comes within connect(2) is heeded at the second SYN, after 1 s
HOST = "host-process"


def gate_on(*explicit: Family, **changed: object) -> NodeConfig:
    """Return the configuration with loopback entries for these families."""
    return msgspec.structs.replace(
        CONFIG, rejects_loopback=True, loopback_node_ports=frozenset(explicit), **changed
    )


#: Configuration, and the families whose node ports over TCP are the proxy's.
CONFIGURATIONS = {
    "localhost, UDP": (gate_on(V4, V6, loopback_udp=True), (V4, V6)),
    "UDP alone": (gate_on(loopback_udp=True), ()),
    "primary": (gate_on(), ()),
    "everywhere": (gate_on(node_port_prefixes=dict.fromkeys(FAMILIES)), ()),
    "localhost": (gate_on(V4, V6), (V4, V6)),
    "localhost, everywhere": (gate_on(V4, V6, node_port_prefixes={}), (V4, V6)),
    "127.0.0.1/32": (gate_on(V4), (V4,)),
    "::1/128": (gate_on(V6), (V6,)),
}
configurations = pytest.mark.parametrize("name", CONFIGURATIONS)


@pytest.fixture(scope="module")
def scene(scene: Scene) -> Scene:
    """One lab for the module, with a process of the node on the loopback addresses."""
    for protocol in Protocol:
        for port in (NODE_PORT, UNUSED_PORT):
            scene.responders.listen(
                scene.node, port, protocol, addresses=[*LOOPBACK, "127.0.0.9"], identity=HOST
            )
        scene.responders.listen(
            scene.cluster.nodes[1], NODE_PORT, protocol, addresses=[*LOOPBACK], identity=HOST
        )
    return scene


def ask(scene: Scene, family: Family, protocol: Protocol, port: int = NODE_PORT) -> str:
    """Return who answers at a loopback address, or ``refused``."""
    return scene.ask(Probe(scene.node, LOOPBACK.of(family), port, protocol))[0]


def counted(scene: Scene, family: Family, protocol: Protocol) -> int:
    """Return the packets that the kernel has rejected there."""
    return scene.proxy.kernel.named_counters(family)[REJECTED_COUNTERS[protocol]]


@configurations
@families
@protocols
def test_it_is_rejected_or_the_proxys(
    scene: Scene, name: str, family: Family, protocol: Protocol
) -> None:
    """With endpoints and without; other ports are the host's."""
    config, explicit = CONFIGURATIONS[name]
    served = (Protocol.TCP, Protocol.UDP) if config.loopback_udp else (Protocol.TCP,)
    proxied = protocol in served and family in explicit
    for slices in (scene.slices(scene.remote), ()):
        scene.program(scene.web(), *slices, config=config)
        before = counted(scene, family, protocol)

        assert ask(scene, family, protocol) == (HOST if proxied else "refused")
        assert (counted(scene, family, protocol) > before) is not proxied
        assert ask(scene, family, protocol, UNUSED_PORT) == HOST


@families
@protocols
def test_nothing_happens_with_the_gate_off(
    scene: Scene, family: Family, protocol: Protocol
) -> None:
    """As before: loopback addresses are the host's."""
    config = msgspec.structs.replace(gate_on(V4, V6), rejects_loopback=False)
    scene.program(scene.web(), *scene.slices(scene.remote), config=config)

    assert ask(scene, family, protocol) == HOST


@families
def test_a_tcp_client_is_refused_at_once(scene: Scene, family: Family) -> None:
    """As where no process listens, so that a client of "localhost" goes on to the other family."""
    scene.program(scene.web(), config=gate_on())

    address = LOOPBACK.of(family)
    with scene.node.namespace.socket(socket_family(address), socket.SOCK_STREAM) as client:
        client.settimeout(AT_ONCE_S)
        with pytest.raises(ConnectionRefusedError):
            client.connect((address, NODE_PORT))


@protocols
def test_every_loopback_address_rejects(scene: Scene, protocol: Protocol) -> None:
    """The whole of 127.0.0.0/8, and a Service that is gone no longer."""
    probe = Probe(scene.node, "127.0.0.9", NODE_PORT, protocol)
    scene.program(scene.web(), config=gate_on())
    assert scene.ask(probe) == ["refused"]
    scene.program(config=gate_on())
    assert scene.ask(probe) == [HOST]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_node_ports_on_other_addresses_are_as_before(scene: Scene, name: str) -> None:
    """Loopback entries and the gate concern loopback addresses alone."""
    config, _ = CONFIGURATIONS[name]
    scene.program(scene.web(), *scene.slices(scene.remote), config=config)
    probes = [
        scene.probe_to(source, scene.node.address(family), NODE_PORT, protocol)
        for source in ("outside", "pod", "node")
        for family in FAMILIES
        for protocol in Protocol
    ]

    assert {*scene.ask(*probes)} == {"remote masqueraded"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (gate_on(), gate_on(V4, V6)),
        (gate_on(V4, V6), gate_on()),
        (gate_on(), CONFIG),
        (CONFIG, gate_on()),
        (gate_on(V4), gate_on(V6)),
        (gate_on(V4, V6), gate_on(V4, V6, loopback_udp=True)),
        (gate_on(V4, V6, loopback_udp=True), gate_on(V4, V6)),
    ],
    ids=[
        "localhost added",
        "localhost removed",
        "gate off",
        "gate on",
        "another family",
        "UDP",
        "no UDP",
    ],
)
def test_a_restart_with_another_setting_leaves_nothing_behind(
    scene: Scene, before: NodeConfig, after: NodeConfig
) -> None:
    """Neither a stale reject nor a missing one (kubernetes/kubernetes#142183)."""
    objects = (scene.web(), *scene.slices(scene.remote))
    scene.program()
    node = scene.cluster.nodes[1]
    NodeProxy(node, before, objects).close(keep_tables=True)
    with NodeProxy(node, after, objects):
        probes = {
            (family, protocol): Probe(node, LOOPBACK.of(family), NODE_PORT, protocol)
            for family in FAMILIES
            for protocol in Protocol
        }
        outcomes = dict(zip(probes, probe_many(probes.values()), strict=True))

    for (family, protocol), outcome in outcomes.items():
        expected = after.rejects_on_loopback(family, protocol)
        assert outcome.refused is expected, (family, protocol, str(outcome))
