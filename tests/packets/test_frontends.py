"""
Frontends: who answers at which address and port, and who at the others.

Traffic policies, source NAT and node port addresses have modules of their own.
"""

from collections import Counter

import msgspec
import pytest
from support.objects.model import endpoint, endpoint_slice, service
from support.packets.scenes import (
    CLUSTER_IP,
    EXTERNAL_IP,
    EXTERNAL_KINDS,
    LOAD_BALANCER_IP,
    NODE_PORT,
    PORT,
    TARGET_PORT,
    Scene,
    table,
)
from support.packets.sending import Probe, Protocol, probe_many, tally
from support.packets.steps import families, protocols

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.endpoints import SlicePort
from nfproxy.model.service import ServicePort
from nfproxy.plan.frontends import FrontendKind

policies = pytest.mark.parametrize("local", [False, True], ids=["Cluster", "Local"])
kinds = pytest.mark.parametrize("kind", FrontendKind, ids=lambda kind: kind.value)

SECOND_TARGET = 8081
#: A port of an external or load-balancer IP that no service has, where the host listens.
HOST_PORT = 8090
ALL_SOURCES = ("pod", "node", "outside")


@pytest.fixture(scope="module")
def scene(scene: Scene) -> Scene:
    """One lab for the module, with a second port where all pods answer by another name."""
    for pod in scene.cluster.pods:
        for protocol in Protocol:
            scene.responders.listen(
                pod, SECOND_TARGET, protocol, identity=f"{pod.name}-{SECOND_TARGET}"
            )
    return scene


def assert_even(counted: Counter[str], names: set[str]) -> None:
    """Each of `names`, and no other, answered a fair share (within six sigma)."""
    assert names == set(counted)
    total, share = counted.total(), 1 / len(names)
    sigma = (total * share * (1 - share)) ** 0.5
    far_off = {n: c for n, c in counted.items() if abs(c - total * share) > 6 * sigma}
    assert not far_off, f"{total} among {len(names)}: {counted}"


@kinds
@families
@protocols
def test_even_shares(scene: Scene, kind: FrontendKind, family: Family, protocol: Protocol) -> None:
    """All endpoints, near and far, get the same share of the connections."""
    pods = [scene.cluster.pod(node, number) for node in (1, 2, 3) for number in (1, 2)]
    scene.program(scene.web(), *scene.slices(*pods))

    outcomes = probe_many([scene.probe("outside", family, protocol, kind)] * 300)
    assert_even(tally(outcomes), {pod.name for pod in pods})


@pytest.mark.parametrize("kind", EXTERNAL_KINDS, ids=lambda kind: kind.value)
@families
@protocols
def test_even_shares_local(
    scene: Scene, kind: FrontendKind, family: Family, protocol: Protocol
) -> None:
    """With policy Local outsiders share the local endpoints, the node shares all."""
    near = [scene.cluster.pod(1, 1), scene.cluster.pod(1, 2)]
    pods = [*near, scene.cluster.pod(2, 1), scene.cluster.pod(3, 1), scene.cluster.pod(3, 2)]
    scene.program(scene.web(external_local=True), *scene.slices(*pods))

    outcomes = probe_many([scene.probe("outside", family, protocol, kind)] * 100)
    assert_even(tally(outcomes), {pod.name for pod in near})
    outcomes = probe_many([scene.probe("node", family, protocol, kind)] * 250)
    assert_even(tally(outcomes), {pod.name for pod in pods})


@families
def test_protocols_are_apart(scene: Scene, family: Family) -> None:
    """Over TCP, UDP and SCTP one port number of one Service leads to different endpoints."""
    pods = dict(zip(Protocol, (scene.local, scene.cluster.pod(1, 2), scene.remote), strict=True))
    scene.program(
        scene.web(),
        *(
            endpoint_slice(
                "web",
                endpoint(pod.address(family), pod.node.name),
                name=protocol.word,
                port_name=protocol.word,
                protocol=protocol,
                port=TARGET_PORT,
            )
            for protocol, pod in pods.items()
        ),
    )

    for protocol, pod in pods.items():
        outcomes = probe_many(
            scene.probe(source, family, protocol, kind)
            for source in ("node", "outside")
            for kind in FrontendKind
            for _ in range(3)
        )
        assert tally(outcomes) == {pod.name: 24}


@families
def test_one_protocol_has_no_endpoints(scene: Scene, family: Family) -> None:
    """A protocol without endpoints refuses; the others of that port number still serve."""
    pod = endpoint(scene.remote.address(family), "node-2")
    scene.program(
        scene.web(),
        endpoint_slice(
            "web",
            pod,
            ports=[SlicePort(p.word, p, TARGET_PORT) for p in Protocol if p is not Protocol.UDP],
        ),
    )

    served = "remote masqueraded"
    for protocol in Protocol:
        answer = "refused" if protocol is Protocol.UDP else served
        expected = table(node=(answer, answer), outside=(answer, answer))
        assert expected == scene.reached(expected, family, protocol)


@families
@protocols
def test_ports_are_apart(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Two ports of a Service lead to two ports of its pods; an endpoint port is its slice's."""
    ports = [
        ServicePort("web", protocol, PORT, NODE_PORT),
        ServicePort("admin", protocol, PORT + 1, NODE_PORT + 1),
    ]
    web = msgspec.structs.replace(scene.web(), ports=tuple(ports))
    admin = SlicePort("admin", protocol, SECOND_TARGET)
    # "web" has another number in each slice, as with named target ports
    first = [SlicePort("web", protocol, TARGET_PORT), admin]
    second = [SlicePort("web", protocol, SECOND_TARGET), admin]
    scene.program(
        web,
        endpoint_slice("web", scene.local.address(family), name="first", ports=first),
        endpoint_slice("web", scene.remote.address(family), name="second", ports=second),
    )

    near, far = scene.local.name, scene.remote.name
    for kind in FrontendKind:
        address, port = scene.frontend(kind, family)
        probes = [scene.probe_to("outside", address, port + n, protocol) for n in (0, 1)]
        both = {near, f"{far}-{SECOND_TARGET}"}
        assert set(tally(probe_many([probes[0]] * 40))) == both
        both = {f"{near}-{SECOND_TARGET}", f"{far}-{SECOND_TARGET}"}
        assert set(tally(probe_many([probes[1]] * 40))) == both


@families
@protocols
def test_unknown_port_of_a_cluster_ip(scene: Scene, family: Family, protocol: Protocol) -> None:
    """A cluster IP refuses ports it does not have, and protocols."""
    scene.program(
        service(cluster_ips=CLUSTER_IP, port=PORT, protocol=protocol),
        endpoint_slice("web", scene.remote.address(family), protocol=protocol),
    )
    others = [other for other in Protocol if other is not protocol]
    tried = [(PORT + 1, protocol), *((PORT, other) for other in others)]

    probes = [
        scene.probe_to(source, CLUSTER_IP.of(family), port, over)
        for source in (*ALL_SOURCES, "far pod")
        for port, over in tried
    ]
    assert set(scene.ask(*probes)) == {"refused"}
    scene.program()
    assert set(scene.ask(*probes)) == {"dropped"}


@families
@protocols
def test_unknown_port_of_other_addresses(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Other ports of load-balancer and external IPs are the host's business alone."""
    scene.program(scene.web(), *scene.slices(scene.remote))
    addresses = [LOAD_BALANCER_IP.of(family), EXTERNAL_IP.of(family)]

    listening = [(address, HOST_PORT) for address in addresses]
    with scene.bound(*addresses), scene.host_listens(listening, protocol):
        probes = [
            scene.probe_to(source, address, port, protocol)
            for source in ALL_SOURCES
            for address in addresses
            for port in (PORT, HOST_PORT)
        ]
        assert scene.ask(*probes) == ["remote masqueraded", scene.node.name] * 6


@pytest.mark.parametrize("proxied", FAMILIES, ids=lambda family: f"{family.label}-only")
@protocols
def test_single_stack(scene: Scene, proxied: Family, protocol: Protocol) -> None:
    """A family without a cluster IP has nothing, whatever addresses and endpoints it has."""
    web = scene.web()
    addresses = (web.cluster_ip(proxied),)
    scene.program(msgspec.structs.replace(web, cluster_ips=addresses), *scene.slices(scene.remote))
    other = next(family for family in FAMILIES if family is not proxied)
    rows = [scene.frontend(kind, other) for kind in EXTERNAL_KINDS]
    virtual = [address for address, _ in rows if address != scene.node.address(other)]

    with scene.bound(*virtual), scene.host_listens(rows, protocol):
        probes = [
            scene.probe_to(source, address, port, protocol)
            for source in ALL_SOURCES
            for address, port in rows
        ]
        assert scene.ask(*probes) == [scene.node.name] * 9
    # no rule knows the cluster IP that it had, so none refuses
    assert scene.ask(scene.probe("outside", other, protocol, FrontendKind.CLUSTER_IP)) == [
        "dropped"
    ]
    expected = table(outside=("remote masqueraded", "remote masqueraded"))
    assert expected == scene.reached(expected, proxied, protocol)


@protocols
def test_dual_stack_endpoints_are_apart(scene: Scene, protocol: Protocol) -> None:
    """Each family of a Service has its own endpoints, or none."""
    local4, remote6 = scene.slices(scene.local)[0], scene.slices(scene.remote)[1]
    first = table(outside=("local masqueraded",) * 2)
    second = table(outside=("remote masqueraded",) * 2)
    none = table(outside=("refused",) * 2)

    scene.program(scene.web(), local4, remote6)
    assert first == scene.reached(first, Family.IPV4, protocol)
    assert second == scene.reached(second, Family.IPV6, protocol)
    scene.program(scene.web(), local4)
    assert first == scene.reached(first, Family.IPV4, protocol)
    assert none == scene.reached(none, Family.IPV6, protocol)


@policies
@families
@protocols
def test_address_bound_on_the_node(
    scene: Scene, local: bool, family: Family, protocol: Protocol
) -> None:
    """An outside address that the node itself has works the same, and from itself."""
    scene.program(scene.web(external_local=local), *scene.slices())
    addresses = [LOAD_BALANCER_IP.of(family), EXTERNAL_IP.of(family)]
    pod, outside = ("both", "local") if local else ("both masqueraded",) * 2
    expected = {
        (source, kind): answer
        for source, answer in (("pod", pod), ("node", "both masqueraded"), ("outside", outside))
        for kind in EXTERNAL_KINDS
    }

    with scene.bound(*addresses):
        assert expected == scene.reached(expected, family, protocol)
        for address in addresses:
            # what the node sends to one of its addresses has that address as its source
            itself = Probe(scene.node, address, PORT, protocol, address)
            assert scene.ask(itself, draws=40) == ["both masqueraded"]


@families
@protocols
def test_node_of_its_own_accord(scene: Scene, family: Family, protocol: Protocol) -> None:
    """A process of the node that leaves the choice of its source to the kernel is served."""
    scene.program(scene.web(), *scene.slices(scene.remote))

    probes = [Probe(scene.node, *scene.frontend(kind, family), protocol) for kind in FrontendKind]
    assert [one.by for one in probe_many(probes)] == [scene.remote.name] * len(probes)


@policies
@families
@protocols
def test_endpoint_is_the_node(
    scene: Scene, local: bool, family: Family, protocol: Protocol
) -> None:
    """A host-network endpoint on this node; what is delivered here is not masqueraded."""
    scene.program(scene.web(internal_local=local, external_local=local), *scene.slices(scene.node))

    name = scene.node.name
    expected = table(
        pod=(name, name),
        node=(f"{name} masqueraded", f"{name} masqueraded"),
        outside=(name, name),
        far_pod=(name, name),
    )
    assert expected == scene.reached(expected, family, protocol)


@policies
@families
@protocols
def test_endpoint_is_another_node(
    scene: Scene, local: bool, family: Family, protocol: Protocol
) -> None:
    """A host-network endpoint elsewhere is like a pod there."""
    other = scene.cluster.nodes[1]
    scene.program(scene.web(external_local=local), *scene.slices(other))

    masqueraded = f"{other.name} masqueraded"
    expected = table(
        pod=(other.name, other.name if local else masqueraded),
        node=(masqueraded, masqueraded),
        outside=(masqueraded, "dropped" if local else masqueraded),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
def test_node_and_pod_as_endpoints(scene: Scene, family: Family) -> None:
    """Endpoints on this host, in its pods and elsewhere share one Service."""
    hosts = [scene.node, scene.local, scene.remote]
    scene.program(scene.web(), *scene.slices(*hosts))

    for source in ALL_SOURCES:
        for kind in FrontendKind:
            probe = scene.probe(source, family, Protocol.TCP, kind)
            assert_even(tally(probe_many([probe] * 90)), {host.name for host in hosts})


@families
@protocols
def test_service_goes(scene: Scene, family: Family, protocol: Protocol) -> None:
    """With the Service its addresses are gone: silence, and a node port the host refuses."""
    scene.program(scene.web(), *scene.slices(scene.remote))
    served = table(outside=("remote masqueraded",) * 2, pod=("remote", "remote masqueraded"))
    assert served == scene.reached(served, family, protocol)

    scene.program()
    gone = {
        (source, kind): "refused" if kind is FrontendKind.NODE_PORT else "dropped"
        for source, kind in served
    }
    assert gone == scene.reached(gone, family, protocol)
