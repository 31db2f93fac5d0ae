"""Node ports on loopback addresses: which listeners there are, and what they connect to."""

from typing import Any

import msgspec
import pytest
from support.objects.model import changes, endpoint, endpoint_slice, service

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import SlicePort
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort
from nfproxy.nft import schema
from nfproxy.plan.localnodeports import (
    ListenerChanges,
    LocalNodePort,
    LocalPort,
    Target,
    listener_changes,
)
from nfproxy.plan.planner import Planner

V4, V6 = Family.IPV4, Family.IPV6
WEB = ObjectName("default", "web")
HERE, THERE = "10.244.1.11", "10.244.2.11"
AT = LocalPort(V4, 30080)


def config(*explicit: Family, gate: bool = True) -> NodeConfig:
    """Return a node's configuration with loopback entries for these families."""
    return NodeConfig(
        node_name="node-1", rejects_loopback=gate, loopback_node_ports=frozenset(explicit)
    )


def web(protocol: Protocol = Protocol.TCP, **more: Any) -> Service:
    """Return a Service with a node port in both families."""
    port = ServicePort(port_name(protocol), protocol, 80, 30080)
    return msgspec.structs.replace(
        service(cluster_ips=("10.96.0.1", "fd00::1")), ports=(port,), **more
    )


def port_name(protocol: Protocol) -> str:
    """Return the name of the port in Service and slice."""
    return protocol.word


def slices(*addresses: tuple[str, str], protocol: Protocol = Protocol.TCP) -> Any:
    """Return a slice of IPv4 endpoints, each with its node."""
    return endpoint_slice(
        "web",
        *(endpoint(address, node) for address, node in addresses),
        ports=[SlicePort(port_name(protocol), protocol, 8080)],
    )


BOTH = ((HERE, "node-1"), (THERE, "node-2"))


def planned(config: NodeConfig, *objects: Any) -> tuple[Planner, ListenerChanges]:
    """Plan objects; return the planner, and the listeners of the first commit."""
    planner = Planner(config)
    touched = planner.apply(changes(*objects))
    return planner, listener_changes(touched.frontends, planner.desired.frontends, config)


def listener(*addresses: str, affinity: int | None = None) -> LocalNodePort:
    """Return the listener of the Service with these endpoints."""
    return LocalNodePort(WEB, tuple(Target(address, 8080) for address in addresses), affinity)


@pytest.mark.parametrize(
    ("config", "families"),
    [
        (config(V4, V6), (V4, V6)),
        (config(V4), (V4,)),
        (config(V6), (V6,)),
        (config(), ()),
        (config(V4, V6, gate=False), ()),
    ],
)
def test_families_with_a_loopback_entry_have_listeners(
    config: NodeConfig, families: tuple[Family, ...]
) -> None:
    """While there are endpoints, and the gate is on."""
    _, found = planned(config, web(), slices(*BOTH))

    expected = {V4: listener(HERE, THERE), V6: None}
    assert found == {LocalPort(f, 30080): expected[f] for f in families}


@pytest.mark.parametrize("protocol", [Protocol.UDP, Protocol.SCTP])
def test_other_protocols_have_none(protocol: Protocol) -> None:
    """They are rejected."""
    _, found = planned(config(V4, V6), web(protocol), slices(*BOTH, protocol=protocol))

    assert found == {}


@pytest.mark.parametrize(
    ("change", "endpoints", "expected"),
    [
        ({}, BOTH, listener(HERE, THERE)),
        ({}, BOTH[1:], listener(THERE)),
        ({}, (), None),
        ({"internal_local": True}, BOTH, listener(HERE, THERE)),
        ({"external_local": True}, BOTH, listener(HERE)),
        ({"external_local": True}, BOTH[1:], None),
        ({"affinity_timeout_s": 77}, BOTH, listener(HERE, THERE, affinity=77)),
        (
            {"external_local": True, "affinity_timeout_s": 78},
            BOTH,
            listener(HERE, affinity=78),
        ),
    ],
)
def test_endpoints_follow_the_external_policy(
    change: dict[str, Any], endpoints: tuple[tuple[str, str], ...], expected: LocalNodePort | None
) -> None:
    """Local has no fallback. The internal policy and source ranges do not apply."""
    _, found = planned(config(V4), web(**change), slices(*endpoints))

    assert found == {AT: expected}


def test_changes_name_what_changed_alone() -> None:
    """Endpoints, the timeout, the Service itself."""
    node = config(V4)
    planner, _ = planned(node, web(), slices(*BOTH))

    def after(batch: Changes) -> ListenerChanges:
        touched = planner.apply(batch)
        return listener_changes(touched.frontends, planner.desired.frontends, node)

    assert after(changes(slices(*BOTH))) == {}
    assert after(changes(slices(*BOTH[:1]))) == {AT: listener(HERE)}
    assert after(changes(web(affinity_timeout_s=5))) == {AT: listener(HERE, affinity=5)}
    assert after(changes(web(affinity_timeout_s=6))) == {AT: listener(HERE, affinity=6)}
    assert after(changes(slices())) == {AT: None}
    assert after(changes(slices(*BOTH))) == {AT: listener(HERE, THERE, affinity=6)}
    assert after(Changes(services={WEB: None})) == {AT: None}


@pytest.mark.parametrize(
    ("config", "rejected"),
    [
        (config(), {(f, p) for f in FAMILIES for p in Protocol}),
        (config(V4), {(f, p) for f in FAMILIES for p in Protocol} - {(V4, Protocol.TCP)}),
        (config(V4, V6), {(f, p) for f in FAMILIES for p in Protocol if p is not Protocol.TCP}),
        (config(gate=False), set()),
        (config(V4, V6, gate=False), set()),
    ],
)
def test_what_is_not_served_is_rejected(
    config: NodeConfig, rejected: set[tuple[Family, Protocol]]
) -> None:
    """Each node port once, with endpoints or without."""
    ports = tuple(ServicePort(p.word, p, 80, 30080) for p in Protocol)
    planner, _ = planned(config, msgspec.structs.replace(web(), ports=ports))
    found = {
        (element.family, Protocol(element.key[0]))
        for element in planner.desired.shared_elements
        if element.set == schema.LOOPBACK_REJECTS
    }

    assert found == rejected


@pytest.mark.parametrize("protocol", Protocol)
def test_udp_has_listeners_behind_a_gate_of_our_own(protocol):
    """SCTP never has; TCP always."""
    settings = msgspec.structs.replace(config(V4), loopback_udp=True)
    _, found = planned(settings, web(protocol), slices(*BOTH, protocol=protocol))

    place = LocalPort(V4, 30080, protocol)
    assert {place: listener(HERE, THERE)} == found if protocol is not Protocol.SCTP else not found
