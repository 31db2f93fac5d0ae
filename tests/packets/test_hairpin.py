"""
A pod that reaches itself through its own Service.

Its packet would come back to it from its own address, which no pod accepts: it has to be
masqueraded, even where no other client is.
"""

import pytest
from support.packets.scenes import (
    CLUSTER_CIDR,
    NO_DETECTOR,
    Scene,
    table,
    with_pods,
)
from support.packets.sending import Protocol
from support.packets.steps import families, protocols

from nfproxy.model.addresses import Family
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
@families
@protocols
def test_endpoint_without_node(scene: Scene, family: Family, protocol: Protocol) -> None:
    """An endpoint that does not say where it is gets no help, and its packet is lost."""
    pod = scene.sources["pod"]
    scene.program(scene.web(), *scene.slices(pod, nodes=False))

    expected = table(pod=("dropped", f"{pod.name} masqueraded"))
    assert expected == scene.reached(expected, family, protocol)


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
