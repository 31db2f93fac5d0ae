"""Where UDP flows may go, and which existing flows are stale."""

import msgspec
import pytest
from support.kernel.entries import destination
from support.objects.model import changes, endpoint, endpoint_slice, service

from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import SlicePort
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.plan.flows import CleaningScope, Judge, Query, ServiceAddresses, service_flows
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner

CONFIG = NodeConfig(node_name="node-1", zone="a")
UDP, TCP = Protocol.UDP, Protocol.TCP
V4, V6 = Family.IPV4, Family.IPV6

DNS = service("dns", port=53, protocol=UDP)
DNS_FRONTEND = FrontendKey(V4, parse_address("10.96.0.1"), UDP, 53)
NODE_PORT = FrontendKey(V4, b"", UDP, 30053)


def ends(*texts: str) -> frozenset[bytes]:
    return frozenset(map(destination, texts))


def dns_slice(*endpoints, **fields):
    return endpoint_slice("dns", *endpoints, port=5353, protocol=UDP, **fields)


def test_every_kind_of_udp_frontend_has_its_endpoints():
    """Cluster, load-balancer and external IPs at the service port, the node port at any address."""
    ports = [ServicePort("dns", UDP, 53, 30053), ServicePort("dns-tcp", TCP, 53, 30053)]
    dns = service(
        "dns",
        ports=ports,
        external_ips=["203.0.113.1", "2001:db8::1"],
        load_balancer_ips=["203.0.113.2"],
    )
    pieces = [
        endpoint_slice(
            "dns",
            "10.244.1.1",
            ports=[SlicePort("dns", UDP, 5353), SlicePort("dns-tcp", TCP, 5354)],
        )
    ]

    flows = service_flows(dns, pieces, CONFIG)

    addresses = ("10.96.0.1", "203.0.113.2", "203.0.113.1")
    keys = [FrontendKey(V4, parse_address(address), UDP, 53) for address in addresses]
    assert flows == dict.fromkeys([*keys, NODE_PORT], ends("10.244.1.1:5353"))


def test_families_have_endpoints_of_their_own():
    """A family has the endpoints of its slices, and none if the Service is not in it."""
    both = service("dns", cluster_ips=["10.96.0.1", "fd00::1"], port=53, protocol=UDP)
    pieces = [dns_slice("10.244.1.1"), dns_slice("fd00:244::1")]

    assert service_flows(both, pieces, CONFIG) == {
        DNS_FRONTEND: ends("10.244.1.1:5353"),
        FrontendKey(V6, parse_address("fd00::1"), UDP, 53): ends("fd00:244::1:5353"),
    }
    assert set(service_flows(DNS, pieces, CONFIG)) == {DNS_FRONTEND}


@pytest.mark.parametrize(
    ("one", "goes_on"),
    [
        (endpoint("10.244.1.1"), True),
        (endpoint("10.244.1.1", "node-2", nodes=["node-2"], zones=["b"]), True),
        (endpoint("10.244.1.1", ready=False), True),
        (endpoint("10.244.1.1", ready=False, terminating=True), True),
        (endpoint("10.244.1.1", ready=True, serving=False), True),
        (endpoint("10.244.1.1", ready=False, serving=False), False),
        (endpoint("10.244.1.1", ready=False, serving=False, terminating=True), False),
    ],
)
def test_flows_go_on_while_an_endpoint_serves(one, goes_on):
    """Whatever readiness, termination, topology and policies are: they are about new flows."""
    local = msgspec.structs.replace(DNS, internal_local=True, external_local=True)
    for dns in (DNS, local):
        flows = service_flows(dns, [dns_slice(one)], CONFIG)
        assert flows == {DNS_FRONTEND: ends("10.244.1.1:5353") if goes_on else ends()}


def test_endpoints_come_from_all_slices_by_port_name_and_protocol():
    """Two slices may give one name different numbers; the same name over TCP is another port."""
    pieces = [
        dns_slice("10.244.1.1", name="one"),
        endpoint_slice("dns", "10.244.1.2", port=53, protocol=UDP, name="two"),
        endpoint_slice("dns", "10.244.1.3", port=53, protocol=TCP, name="tcp"),
        endpoint_slice("dns", "10.244.1.4", port=53, protocol=UDP, port_name="x", name="x"),
    ]

    flows = service_flows(DNS, iter(pieces), CONFIG)

    assert flows == {DNS_FRONTEND: ends("10.244.1.1:5353", "10.244.1.2:53")}


def test_external_ips_that_are_switched_off_have_no_flows():
    """With the gate AllowServiceExternalIPs off they are no frontends."""
    dns = service("dns", port=53, protocol=UDP, external_ips=["203.0.113.1"])
    config = msgspec.structs.replace(CONFIG, external_ips=False)

    assert set(service_flows(dns, [], config)) == {DNS_FRONTEND}


def test_tcp_flows_go_on():
    """A host that does not know them resets them."""
    pieces = [endpoint_slice("web", "10.244.1.1", port_name="a")]

    assert service_flows(service("web", ports=[ServicePort("a", TCP, 80)]), pieces, CONFIG) == {}


def test_sctp_associations_stay_with_every_endpoint_that_is_listed():
    """Whatever its conditions: it can answer or end them, and only a vanished pod cannot."""
    web = service("web", protocol=Protocol.SCTP)
    out = endpoint("10.244.1.2", ready=False, serving=False, terminating=True)
    pieces = [endpoint_slice("web", "10.244.1.1", out, protocol=Protocol.SCTP)]

    key = FrontendKey(V4, parse_address("10.96.0.1"), Protocol.SCTP, 80)
    assert service_flows(web, pieces, CONFIG) == {key: ends("10.244.1.1:8080", "10.244.1.2:8080")}


def judge(flows, *local: str) -> Judge:
    return Judge(flows, V4, CleaningScope({V4: [parse_address(address) for address in local]}))


def stale(one: Judge, asked: str, answers: str) -> bool:
    return one.is_stale(UDP, destination(asked), destination(answers))


def test_a_flow_is_stale_if_it_goes_elsewhere_than_its_frontend():
    """
    To an endpoint that is gone, to another port, or (older than the rules) to the frontend itself.
    """
    one = judge({DNS_FRONTEND: ends("10.244.1.1:5353", "10.244.2.2:5353")})

    assert not stale(one, "10.96.0.1:53", "10.244.1.1:5353")
    assert not stale(one, "10.96.0.1:53", "10.244.2.2:5353")
    assert stale(one, "10.96.0.1:53", "10.244.3.3:5353")
    assert stale(one, "10.96.0.1:53", "10.244.1.1:53")
    assert stale(one, "10.96.0.1:53", "10.96.0.1:53")


def test_flows_to_other_addresses_and_ports_stay():
    """Also those to an endpoint itself."""
    one = judge({DNS_FRONTEND: ends("10.244.1.1:5353")}, "192.168.1.1")

    assert not stale(one, "10.96.0.1:54", "10.244.3.3:5353")
    assert not stale(one, "10.96.0.2:53", "10.244.3.3:5353")
    assert not stale(one, "192.168.1.1:53", "10.244.3.3:5353")


def test_all_flows_are_stale_without_serving_endpoints():
    """Scaled to zero, or the frontend is gone."""
    assert stale(judge({DNS_FRONTEND: ends()}), "10.96.0.1:53", "10.244.1.1:5353")


def test_node_ports_concern_the_nodes_own_addresses_only():
    """What is forwarded through the node to the same port of another machine goes on."""
    one = judge({NODE_PORT: ends("10.244.1.1:5353")}, "192.168.1.1", "192.168.2.1")

    assert stale(one, "192.168.1.1:30053", "10.244.3.3:5353")
    assert stale(one, "192.168.2.1:30053", "10.244.3.3:5353")
    assert not stale(one, "192.168.2.1:30053", "10.244.1.1:5353")
    assert not stale(one, "192.168.9.9:30053", "192.168.9.9:30053")


def test_a_frontends_address_goes_before_a_node_port():
    """
    As in the rules: an external IP that is one of the node's own, at the number of a node port.
    """
    external = FrontendKey(V4, parse_address("192.168.1.1"), UDP, 30053)
    one = judge({NODE_PORT: ends("10.244.1.1:1"), external: ends("10.244.2.2:2")}, "192.168.1.1")

    assert stale(one, "192.168.1.1:30053", "10.244.1.1:1")
    assert not stale(one, "192.168.1.1:30053", "10.244.2.2:2")


def test_the_kernel_is_asked_for_one_familys_frontends():
    """Address and port of each; a node port at any address."""
    other = FrontendKey(V6, parse_address("fd00::1"), UDP, 53)
    flows = {DNS_FRONTEND: ends(), NODE_PORT: ends(), other: ends()}

    assert judge(flows).queries == (Query(parse_address("10.96.0.1"), 53), Query(b"", 30053))
    assert Judge(flows, V6, CleaningScope()).queries == (Query(parse_address("fd00::1"), 53),)


def test_where_node_ports_are_not_served_the_nodes_own_programs_may_be():
    """At such addresses only flows that lead to the Service are stale. Loopback is one of them."""
    local = {V4: [parse_address(a) for a in ("192.168.1.1", "192.168.2.1", "127.0.0.1")]}
    scope = CleaningScope(local, {V4: (parse_prefix("192.168.1.0/24"),)})
    one = Judge({NODE_PORT: ends("10.244.1.1:5353")}, V4, scope)

    assert stale(one, "192.168.1.1:30053", "192.168.1.1:30053")
    assert not stale(one, "192.168.2.1:30053", "192.168.2.1:30053")
    assert stale(one, "192.168.2.1:30053", "10.244.1.1:5353")
    everywhere = Judge({NODE_PORT: ends("10.244.1.1:5353")}, V4, CleaningScope(local))
    assert stale(everywhere, "192.168.2.1:30053", "192.168.2.1:30053")
    assert not stale(everywhere, "127.0.0.1:30053", "127.0.0.1:30053")


def test_after_a_reading_translated_flows_to_service_addresses_without_frontend_are_stale():
    """Their Service went while there were no rules. Other programs' translations stay."""
    planner = Planner(CONFIG)
    planner.apply(changes(DNS))
    cidrs = ServiceCIDR("kubernetes", (parse_prefix("10.97.0.0/16"),))
    planner.apply(Changes(service_cidrs={cidrs.name: cidrs}))
    addresses = ServiceAddresses(planner.desired)
    one = Judge({DNS_FRONTEND: ends("10.244.1.1:5353")}, V4, CleaningScope({}, {}, addresses))

    assert stale(one, "10.96.0.1:54", "10.244.3.3:5353")
    assert stale(one, "10.97.1.1:53", "10.244.3.3:5353")
    assert not stale(one, "10.97.1.1:53", "10.97.1.1:53")
    assert not stale(one, "10.98.1.1:53", "10.244.3.3:5353")
    assert one.queries == (Query(),)
