"""What one Service may have on a node."""

from collections import Counter

import pytest
from support.objects.model import changes, endpoint, endpoint_slice, service

from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.endpoints import Endpoint, EndpointSlice, SlicePort
from nfproxy.model.nodeconfig import NodeConfig, ServiceLimits
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.nft import schema
from nfproxy.plan.claims import ClaimReason
from nfproxy.plan.frontends import FrontendKind, ServicePlan
from nfproxy.plan.limits import bounded, choose, endpoint_limit
from nfproxy.plan.planner import Planner
from nfproxy.plan.portslices import slices_by_port
from nfproxy.plan.service import plan_service

LIMITS = ServiceLimits(frontends=20, endpoints=10, source_ranges=5, elements=200)
MANY = tuple(parse_address(f"10.244.{n // 250}.{n % 250 + 1}") for n in range(2000))


def config(limits: ServiceLimits = LIMITS, name: str = "node-1") -> NodeConfig:
    return NodeConfig(node_name=name, limits=limits)


def plan(made: Service, count: int = 3, node: str = "node-1") -> ServicePlan:
    piece = endpoint_slice("web", *(endpoint(f"10.244.1.{n + 1}", node) for n in range(count)))
    return plan_service(made, [piece], config())


def test_nothing_is_reported_at_the_limits():
    """Exactly as much as is allowed."""
    made = service(
        external_ips=[f"198.51.100.{n}" for n in range(18)],
        load_balancer_ips=["203.0.113.1"],
        source_ranges=[f"10.{2 * n}.0.0/16" for n in range(5)],
    )
    planned = plan(made, 10)

    assert len(planned.frontends) == 20
    assert not planned.limited


def test_frontends_beyond_the_limit_are_left_out():
    """Every port keeps its cluster IP and node port, and loses its last addresses."""
    ports = [ServicePort(f"p{n}", Protocol.TCP, n, 30000 + n) for n in range(1, 6)]
    planned = plan(service(ports=ports, external_ips=[f"198.51.100.{n}" for n in range(9)]))

    assert Counter(f.kind for f in planned.frontends) == {
        FrontendKind.CLUSTER_IP: 5,
        FrontendKind.NODE_PORT: 5,
        FrontendKind.EXTERNAL_IP: 10,
    }
    (limited,) = planned.limited
    assert limited.field == "spec.ports"
    assert "more than 20 frontends" in limited.what


def test_ports_beyond_the_limit_are_not_planned():
    """Also where each has a single frontend, and both families count."""
    ports = [ServicePort(f"p{n}", Protocol.TCP, n, 0) for n in range(1, 16)]
    planned = plan(service(ports=ports, cluster_ips=("10.96.0.1", "fd00:96::1")))

    assert Counter(f.key.family for f in planned.frontends) == {Family.IPV4: 15, Family.IPV6: 5}
    assert len(planned.limited) == 1


def test_endpoints_beyond_the_limit_are_chosen():
    """The frontends balance over as many as the limit, and the Service is reported."""
    planned = plan(service(), 50)
    (frontend,) = planned.frontends

    assert frontend.verdict == schema.goto("cluster-tcp-10")
    assert [(one.field, one.key) for one in planned.limited] == [("spec.selector", frontend.key)]


def test_local_endpoints_are_still_found():
    """Policy Local is about this node's endpoints, however many there are elsewhere."""
    local = [endpoint(f"10.244.1.{n}", "node-1") for n in range(1, 4)]
    remote = [endpoint(f"10.244.2.{n}", "node-2") for n in range(1, 100)]
    made = service(load_balancer_ips=["203.0.113.1"], external_local=True)
    planned = plan_service(made, [endpoint_slice("web", *local, *remote)], config())

    (frontend,) = (f for f in planned.frontends if f.kind is FrontendKind.LOAD_BALANCER_IP)
    assert [len(slots) for slots in frontend.slot_ranges] == [3, 10]


def test_the_largest_source_ranges_count():
    """The others are dropped: what is left out is not open to all."""
    made = service(
        load_balancer_ips=["203.0.113.1"],
        source_ranges=[*(f"10.0.{2 * n}.0/24" for n in range(9)), "172.16.0.0/12"],
    )
    planned = plan(made)
    ranges = [e for e in planned.shared_elements if e.set == schema.SOURCE_RANGES]

    assert len(ranges) == 5
    assert any(e.key.startswith(parse_address("172.16.0.0")) for e in ranges)
    assert [one.field for one in planned.limited] == ["spec.loadBalancerSourceRanges"]


def test_all_ports_share_the_elements():
    """More ports have fewer endpoints each, but at least one."""
    limits = ServiceLimits(frontends=1000, endpoints=500, source_ranges=1, elements=1000)

    def most(count: int) -> int:
        ports = [ServicePort(f"p{n}", Protocol.TCP, n + 1, 0) for n in range(count)]
        return endpoint_limit(service(ports=ports), limits)

    assert [most(count) for count in (1, 2, 10, 100, 500)] == [499, 249, 49, 4, 1]


@pytest.mark.parametrize("affinity", [None, 600])
@pytest.mark.parametrize("cluster_ips", [("10.96.0.1",), ("10.96.0.1", "fd00:96::1")])
@pytest.mark.parametrize("internal_local", [False, True])
@pytest.mark.parametrize("external_local", [False, True])
@pytest.mark.parametrize("addresses", [0, 1, 40])
def test_all_elements_of_a_service_count(
    affinity: int | None,
    cluster_ips: tuple[str, ...],
    internal_local: bool,
    external_local: bool,
    addresses: int,
):
    """Session affinity's, both families', and those of both policies where all pods are here."""
    limits = ServiceLimits(frontends=1000, endpoints=5000, source_ranges=10, elements=10_000)
    made = service(
        ports=[ServicePort(f"p{n}", Protocol.TCP, n, 30000 + n) for n in range(1, 4)],
        cluster_ips=cluster_ips,
        external_ips=[f"198.51.100.{n}" for n in range(addresses)],
        load_balancer_ips=["203.0.113.1"],
        source_ranges=["10.0.0.0/8"],
        affinity_timeout_s=affinity,
        internal_local=internal_local,
        external_local=external_local,
    )
    ports = [SlicePort(port.name, port.protocol, 8080) for port in made.ports]
    pods = [f"10.244.{n // 250}.{n % 250 + 1}" for n in range(2500)]
    pieces = [
        endpoint_slice("web", *(endpoint(one, "node-1") for one in some), ports=ports)
        for some in (pods, [f"fd00::{n + 1:x}" for n in range(2500)])
    ]
    planned = plan_service(made, pieces, config(limits))

    elements = len(planned.shared_elements)
    elements += sum(1 + len(f.own_elements) for f in planned.frontends)
    elements += sum(map(len, [*planned.affinity_lists.values()]))
    elements += sum(len(slots) for f in planned.frontends for slots in f.own_slots)
    elements += sum(len(slots) for listed in planned.lists.values() for slots in listed)
    assert planned.limited
    assert 0.2 * limits.elements < elements <= limits.elements


def test_the_choice_is_stable_and_even():
    """One endpoint more changes one at most, and all nodes together use every endpoint."""
    many = [address + schema.port_bytes(8080) for address in MANY]
    before = set(choose(many[:1000], 100, "node-1"))
    after = set(choose(many[:1001], 100, "node-1"))
    uses = Counter(d for n in range(200) for d in choose(many[:1000], 100, f"node-{n}"))

    assert len(before) == len(after) == 100
    assert len(before - after) <= 1
    assert len(uses) == 1000
    assert max(uses.values()) < 45  # 20 on average
    assert choose(many[:100], 100, "node-1") == many[:100]
    others = [address + schema.port_bytes(9090) for address in MANY[:1000]]
    assert {d[:4] for d in choose(others, 100, "node-1")} == {d[:4] for d in before}


@pytest.mark.parametrize("count", [5, 12])
def test_a_limit_is_a_finding_while_it_is_exceeded(count: int):
    """It is counted for the metric, and begins once."""
    planner = Planner(config())
    piece = endpoint_slice("web", *(f"10.244.1.{n + 1}" for n in range(count)))
    planner.apply(changes(service(), piece))
    begun = planner.desired.findings.take_begun()

    assert planner.desired.findings.counts[ClaimReason.LIMITED] == (count > 10)
    assert [one.finding.reason for one in begun] == [ClaimReason.LIMITED] * (count > 10)
    planner.apply(changes(endpoint_slice("web", "10.244.1.1")))
    assert not planner.desired.findings.counts[ClaimReason.LIMITED]


# --- what planning takes ------------------------------------------------------------------


def pieces(count: int, ports: int, *, ready: int = 0, name: str = "web") -> EndpointSlice:
    """Return a slice with endpoints of another node; all are ready, or the first few are."""
    listed = [
        Endpoint(address, ready=not ready or number < ready, node="node-2")
        for number, address in enumerate(MANY[:count])
    ]
    slice_ports = [SlicePort(f"p{n}", Protocol.TCP, 8080 + n) for n in range(ports)]
    return endpoint_slice(name, *listed, ports=slice_ports)


def test_no_more_endpoints_are_planned_than_limits_could_allow():
    """Each costs as many times as its slice has ports; which ones they are hardly changes."""
    few, many, more = pieces(13, 10), pieces(1000, 10), pieces(1001, 10)
    assert bounded([few], LIMITS, "node-1") == [few]
    first, second = (
        {one.address for piece in bounded([listed], LIMITS, "node-1") for one in piece.endpoints}
        for listed in (many, more)
    )
    assert 5 <= len(first) <= 40
    assert len(first ^ second) <= 3
    others = bounded([many], LIMITS, "node-2")[0]
    assert others == many  # its own endpoints
    assert {one.address for one in bounded([many], LIMITS, "node-3")[0].endpoints} != first


def test_ready_endpoints_are_planned_first():
    """However many others there are."""
    (piece,) = bounded([pieces(1000, 10, ready=7)], LIMITS, "node-1")
    ready = [one.address for one in piece.endpoints if one.ready]
    assert ready == list(MANY[:7])
    assert len(piece.endpoints) <= 60


def test_a_service_with_too_many_endpoints_is_planned_and_reported():
    """The same as planning all of them would report, at a bounded cost."""
    ports = [ServicePort(f"p{n}", Protocol.TCP, n + 1, 0) for n in range(10)]
    planner = Planner(config())
    piece = pieces(1000, 10)
    planner.apply(changes(service(ports=ports), piece))
    name = piece.service

    assert planner.slices_of(name) == (piece,)
    (planned,) = planner.planned_slices_of(name)
    assert 5 <= len(planned.endpoints) <= 40
    assert planner.desired.findings.counts[ClaimReason.LIMITED] == 10

    planner.apply(changes(pieces(3, 10)))
    assert planner.planned_slices_of(name) == planner.slices_of(name)


def test_ports_of_many_slices_are_looked_up():
    """Not at all ports of all slices for each port: 10,000 ports would take seconds."""
    groups = [
        endpoint_slice(
            "web",
            "10.244.1.1",
            name=f"web-{group}",
            ports=[SlicePort(f"p{100 * group + n}", Protocol.TCP, 8080) for n in range(100)],
        )
        for group in range(10)
    ]
    slices_of = slices_by_port(groups, 1000)
    assert slices_of(Family.IPV4, "p250", Protocol.TCP) == (groups[2],)
    assert not slices_of(Family.IPV6, "p250", Protocol.TCP)
    assert not slices_of(Family.IPV4, "p250", Protocol.UDP)
    few = slices_by_port(groups, 10)
    assert few(Family.IPV4, "p250", Protocol.TCP) == groups
