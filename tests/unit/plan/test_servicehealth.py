"""What a Service's health check node port answers."""

import msgspec
from support.objects.model import endpoint, endpoint_slice, service

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import Endpoint, SlicePort
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.plan.servicehealth import HealthCheck, health_checks

HERE = "node-1"
TCP = Protocol.TCP
PORT = 32000


def load_balanced(*ports: ServicePort, addresses: tuple[str, ...] = ("10.96.0.1",)) -> Service:
    made = service("web", cluster_ips=addresses, ports=ports, external_local=True)
    return msgspec.structs.replace(made, health_check_node_port=PORT)


def count(*endpoints: Endpoint) -> int:
    """Return the local endpoints of a Service with one IPv4 slice."""
    checks = health_checks(load_balanced(), [endpoint_slice("web", *endpoints)], HERE)
    assert checks[Family.IPV4].port == PORT
    return checks[Family.IPV4].endpoints


def test_only_ready_endpoints_of_this_node_count():
    """Those that serve while they terminate do not, though they still get traffic."""
    counted = count(
        endpoint("10.0.0.1", HERE),
        endpoint("10.0.0.2", HERE),
        endpoint("10.0.0.3", "node-2"),
        endpoint("10.0.0.4"),
        endpoint("10.0.0.5", HERE, ready=False),
        endpoint("10.0.0.6", HERE, ready=False, terminating=True),
    )

    assert counted == 2


def test_terminating_endpoints_do_not_count_even_alone():
    """Load balancers should leave while the endpoint still serves."""
    assert count(endpoint("10.0.0.6", HERE, ready=False, terminating=True)) == 0


def test_an_address_counts_once_whatever_its_ports():
    """The count is the weight of this node."""
    ports = (ServicePort("a", TCP, 80), ServicePort("b", TCP, 81))
    both = (SlicePort("a", TCP, 8080), SlicePort("b", TCP, 8081))
    slices = [
        endpoint_slice("web", endpoint("10.0.0.1", HERE), ports=both, name="web-1"),
        endpoint_slice("web", endpoint("10.0.0.2", HERE), ports=both[1:], name="web-2"),
        endpoint_slice("web", endpoint("10.0.0.1", HERE), ports=both[:1], name="web-3"),
    ]

    assert {Family.IPV4: HealthCheck(PORT, 2)} == health_checks(load_balanced(*ports), slices, HERE)


def test_families_are_counted_apart():
    """Each has its own listeners; a family without a cluster IP has none."""
    slices = [
        endpoint_slice("web", endpoint("10.0.0.1", HERE), endpoint("10.0.0.2", HERE)),
        endpoint_slice("web", endpoint("fd00::1", HERE)),
    ]
    dual = load_balanced(addresses=("10.96.0.1", "fd00:96::1"))

    assert {
        Family.IPV4: HealthCheck(PORT, 2),
        Family.IPV6: HealthCheck(PORT, 1),
    } == health_checks(dual, slices, HERE)
    assert {Family.IPV4} == health_checks(load_balanced(), slices, HERE).keys()


def test_without_endpoints_the_port_answers_with_0():
    """The answer keeps load balancers away from this node."""
    assert {Family.IPV4: HealthCheck(PORT, 0)} == health_checks(load_balanced(), [], HERE)


def test_a_service_without_such_a_port_has_no_check():
    """Nor one without ports."""
    assert health_checks(service("web"), [], HERE) == {}
    without = msgspec.structs.replace(load_balanced(), ports=())
    assert health_checks(without, [], HERE) == {}
