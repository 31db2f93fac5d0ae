"""
A pod that reaches itself through its own Service.

Its packet would come back to it from its own address, which no pod accepts: it has to be
masqueraded, even where no other client is.
"""

import msgspec
import pytest
from support.packets.scenes import (
    CLUSTER_CIDR,
    CLUSTER_IP,
    NO_DETECTOR,
    PORT,
    Scene,
    table,
    with_pods,
)
from support.packets.sending import Protocol, probe
from support.packets.steps import families, protocols

from nfproxy.model.addresses import Family, format_address, parse_address
from nfproxy.model.nodeconfig import LocalPods

policies = pytest.mark.parametrize("local", [False, True], ids=["Cluster", "Local"])
networks = pytest.mark.parametrize("network", ["routed", "bridge"])


@pytest.fixture
def scene(scenes: dict[str, Scene], network: str) -> Scene:
    """The lab of one kind."""
    return scenes[network]


@networks
@policies
@families
@protocols
def test_single_endpoint(scene: Scene, local: bool, family: Family, protocol: Protocol) -> None:
    """A pod reaches itself through every frontend; what others see is not changed by that."""
    pod = scene.sources["pod"]
    web = scene.web(internal_local=local, external_local=local)
    scene.program(web, *scene.slices(pod))

    itself = f"{pod.name} masqueraded"
    outside = pod.name if local else itself
    expected = table(pod=(itself, itself), node=(itself, itself), outside=(itself, outside))
    assert expected == scene.reached(expected, family, protocol)


@networks
@families
@protocols
def test_one_of_two(scene: Scene, family: Family, protocol: Protocol) -> None:
    """With another endpoint beside it, a pod is masqueraded only where it reached itself."""
    pod = scene.sources["pod"]
    scene.program(scene.web(external_local=True), *scene.slices(pod, scene.remote))

    either = f"{pod.name} masqueraded, remote"
    expected = table(pod=(either, either))
    assert expected == scene.reached(expected, family, protocol)


@pytest.mark.parametrize(
    ("network", "pods"),
    [
        pytest.param("routed", CLUSTER_CIDR, id="ClusterCIDR"),
        pytest.param("routed", NO_DETECTOR, id="no-detector"),
        pytest.param("routed", LocalPods(interface_prefix="veth"), id="InterfaceNamePrefix"),
        pytest.param("bridge", LocalPods(bridge="cni0"), id="BridgeInterface"),
    ],
)
@families
def test_every_detector(scene: Scene, pods: LocalPods, family: Family) -> None:
    """It does not depend on how local pods are recognised."""
    pod = scene.sources["pod"]
    scene.program(scene.web(external_local=True), *scene.slices(pod), config=with_pods(pods))

    itself = f"{pod.name} masqueraded"
    expected = table(pod=(itself, itself))
    for protocol in Protocol:
        assert expected == scene.reached(expected, family, protocol)


@pytest.mark.parametrize("network", ["routed"])
@policies
@families
@protocols
@pytest.mark.parametrize("node", [None, "node-9"], ids=["no node", "another node"])
def test_slice_that_names_another_node(
    scene: Scene, node: str | None, local: bool, family: Family, protocol: Protocol
) -> None:
    """What a slice says of an endpoint's node makes no difference: addresses decide."""
    pod = scene.sources["pod"]
    slices = scene.slices(pod, node=node)
    scene.program(scene.web(external_local=local), *slices)

    itself = f"{pod.name} masqueraded"
    expected = table(pod=(itself, itself), far_pod=(pod.name, itself))
    assert expected == scene.reached(expected, family, protocol)


@pytest.mark.parametrize("network", ["routed"])
@families
@protocols
def test_affinity(scene: Scene, family: Family, protocol: Protocol) -> None:
    """A pod that remembers itself keeps reaching itself."""
    pod = scene.sources["pod"]
    web = msgspec.structs.replace(scene.web(external_local=True), affinity_timeout_s=600)
    scene.program(web, *scene.slices(pod, node=None))

    itself = f"{pod.name} masqueraded"
    expected = table(pod=(itself, itself))
    for _ in range(2):
        assert expected == scene.reached(expected, family, protocol)


@pytest.mark.parametrize("network", ["routed"])
@families
@pytest.mark.parametrize("bit", [4, 7, 8, 15, 16, 24, -1, -2, -9])
def test_addresses_that_differ_in_one_bit(scene: Scene, family: Family, bit: int) -> None:
    """A client whose address differs from the endpoint's in a single bit is another pod."""
    pod, server = scene.cluster.pod(1, 2), scene.local
    length = family.size * 8
    near = int.from_bytes(parse_address(server.address(family)), "big") ^ 1 << bit % length
    address = format_address(near.to_bytes(family.size, "big"))
    scene.program(scene.web(), *scene.slices(server, node=None), config=with_pods(NO_DETECTOR))

    pod.add_address(f"{address}/{length}", as_source=False)
    scene.node.add_route(f"{address}/{length}", interface=pod.interface)
    outcome = probe(pod, CLUSTER_IP.of(family), PORT, source_address=address)
    assert (outcome.by, outcome.seen_address) == (server.name, address)


@pytest.mark.parametrize("network", ["routed"])
@families
def test_endpoint_leaves_and_returns(scene: Scene, family: Family) -> None:
    """The help for an endpoint comes and goes with it."""
    pod = scene.sources["pod"]
    itself = table(pod=(f"{pod.name} masqueraded", f"{pod.name} masqueraded"))
    others = table(pod=("remote", "remote masqueraded"))

    for host, expected in ((pod, itself), (scene.remote, others), (pod, itself)):
        scene.program(scene.web(), *scene.slices(host))
        assert expected == scene.reached(expected, family, Protocol.TCP)
