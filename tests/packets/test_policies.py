"""
Traffic policies: who gets local endpoints only, and what the others get.

The rows with both policies alike, and every way to recognise pods, are in
test_detect_local.py; here the policies are mixed and endpoints are missing.
"""

import pytest
from support.objects.model import endpoint, endpoint_slice
from support.packets.scenes import (
    CONFIG,
    NO_DETECTOR,
    TARGET_PORT,
    Scene,
    table,
    with_pods,
)
from support.packets.sending import Protocol
from support.packets.steps import families, protocols

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import SlicePort

policies = pytest.mark.parametrize("local", [False, True], ids=["Cluster", "Local"])


@families
@protocols
def test_only_internal_local(scene: Scene, family: Family, protocol: Protocol) -> None:
    """internalTrafficPolicy Local is about the cluster IP and nothing else."""
    scene.program(scene.web(internal_local=True), *scene.slices())

    expected = table(
        pod=("local", "both masqueraded"),
        node=("local masqueraded", "both masqueraded"),
        outside=("local masqueraded", "both masqueraded"),
        far_pod=("local", "both masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
@protocols
def test_only_external_local(scene: Scene, family: Family, protocol: Protocol) -> None:
    """externalTrafficPolicy Local is about everything but the cluster IP."""
    scene.program(scene.web(external_local=True), *scene.slices())

    expected = table(
        pod=("both", "both"),
        node=("both masqueraded", "both masqueraded"),
        outside=("both masqueraded", "local"),
        far_pod=("both", "both masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
@protocols
def test_no_local_endpoint(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Policy Local without local endpoints is silence, but for the short cuts."""
    web = scene.web(internal_local=True, external_local=True)
    scene.program(web, *scene.slices(scene.remote))

    expected = table(
        pod=("dropped", "remote"),
        node=("dropped", "remote masqueraded"),
        outside=("dropped", "dropped"),
        far_pod=("dropped", "remote masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
@protocols
def test_no_local_endpoint_internal(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Only the cluster IP is silent where only the internal policy is Local."""
    scene.program(scene.web(internal_local=True), *scene.slices(scene.remote))

    expected = table(
        pod=("dropped", "remote masqueraded"),
        node=("dropped", "remote masqueraded"),
        outside=("dropped", "remote masqueraded"),
        far_pod=("dropped", "remote masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
@protocols
def test_no_local_endpoint_external(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Only outsiders at outside addresses meet silence where only that policy is Local."""
    scene.program(scene.web(external_local=True), *scene.slices(scene.remote))

    expected = table(
        pod=("remote", "remote"),
        node=("remote masqueraded", "remote masqueraded"),
        outside=("remote masqueraded", "dropped"),
        far_pod=("remote", "remote masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
@protocols
def test_no_local_endpoint_no_detector(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Where pods cannot be recognised, only the node has a short cut."""
    web = scene.web(external_local=True)
    scene.program(web, *scene.slices(scene.remote), config=with_pods(NO_DETECTOR))

    expected = table(
        pod=("remote", "dropped"),
        node=("remote", "remote masqueraded"),
        outside=("remote", "dropped"),
        far_pod=("remote", "dropped"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
@protocols
def test_only_local_endpoints(scene: Scene, family: Family, protocol: Protocol) -> None:
    """With local endpoints alone policy Local differs in who is masqueraded."""
    web = scene.web(internal_local=True, external_local=True)
    scene.program(web, *scene.slices(scene.local))

    expected = table(
        pod=("local", "local"),
        node=("local masqueraded", "local masqueraded"),
        outside=("local masqueraded", "local"),
        far_pod=("local", "local masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
def test_endpoint_without_node(scene: Scene, family: Family) -> None:
    """An endpoint that does not say where it is counts as not local."""
    web = scene.web(internal_local=True, external_local=True)
    scene.program(web, *scene.slices(scene.local, node=None))

    expected = table(
        pod=("dropped", "local"),
        node=("dropped", "local masqueraded"),
        outside=("dropped", "dropped"),
    )
    assert expected == scene.reached(expected, family, Protocol.TCP)


@families
def test_local_endpoint_comes_and_goes(scene: Scene, family: Family) -> None:
    """Policy Local follows the endpoints, both ways."""
    web = scene.web(internal_local=True, external_local=True)
    silent = table(pod=("dropped", "remote"), outside=("dropped", "dropped"))
    served = table(pod=("local", "both"), outside=("local masqueraded", "local"))

    for hosts, expected in (
        ((scene.remote,), silent),
        ((scene.local, scene.remote), served),
        ((scene.remote,), silent),
    ):
        scene.program(web, *scene.slices(*hosts))
        assert expected == scene.reached(expected, family, Protocol.TCP)


@policies
@families
@protocols
def test_no_endpoints(scene: Scene, local: bool, family: Family, protocol: Protocol) -> None:
    """Without any endpoint every frontend refuses at once, whatever the policies."""
    web = scene.web(internal_local=local, external_local=local)
    scene.program(web)

    expected = table(
        pod=("refused", "refused"),
        node=("refused", "refused"),
        outside=("refused", "refused"),
        far_pod=("refused", "refused"),
    )
    assert expected == scene.reached(expected, family, protocol)


@policies
@families
def test_no_usable_endpoints(scene: Scene, local: bool, family: Family) -> None:
    """Endpoints that are not ready, or belong to another port name, are none."""
    web = scene.web(internal_local=local, external_local=local)
    unready = endpoint(scene.local.address(family), CONFIG.node_name, ready=False)
    other = endpoint(scene.remote.address(family), CONFIG.node_name)
    ports = [SlicePort(p.word, p, TARGET_PORT) for p in Protocol]
    scene.program(
        web,
        endpoint_slice("web", unready, name="unready", ports=ports),
        endpoint_slice("web", other, name="other", port_name="metrics", port=TARGET_PORT),
    )

    expected = table(
        pod=("refused", "refused"), node=("refused", "refused"), outside=("refused", "refused")
    )
    assert expected == scene.reached(expected, family, Protocol.TCP)
