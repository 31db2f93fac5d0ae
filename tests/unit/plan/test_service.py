"""What one Service wants in the kernel."""

import pytest
from support.objects.model import endpoint, endpoint_slice, service

from nfproxy.model.addresses import Family, Prefix, format_address, parse_address, parse_prefix
from nfproxy.model.endpoints import Endpoint, EndpointSlice
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.nft import schema
from nfproxy.nft.chains import FindChain, Guard, RecordChain, Shape
from nfproxy.nft.endpointnumbers import endpoint_number
from nfproxy.plan.frontends import Frontend, ServicePlan
from nfproxy.plan.service import plan_node, plan_service

CONFIG = NodeConfig(node_name="node-1")
LOCAL, REMOTE = endpoint("10.244.1.5", "node-1"), endpoint("10.244.2.6", "node-2")
EXTERNALS = {"external_ips": ("198.51.100.7",), "load_balancer_ips": ("203.0.113.5",)}


def plan(made: Service, *slices: EndpointSlice, config: NodeConfig = CONFIG) -> ServicePlan:
    return plan_service(made, slices, config)


def verdicts(made: ServicePlan) -> dict[str, str]:
    return {str(f.key): str(f.verdict) for f in made.frontends}


def at(made: ServicePlan, where: str) -> Frontend:
    (found,) = (f for f in made.frontends if str(f.key) == where)
    return found


CLUSTER_IP, NODE_PORT = "10.96.0.1:80/tcp", "node port 30080/tcp (IPv4)"
EXTERNAL_IP, LOAD_BALANCER = "198.51.100.7:80/tcp", "203.0.113.5:80/tcp"
NONE = "goto reject-connection"

# (internal Local, external Local, endpoints) -> cluster IP, node port, external IP
TABLE = [
    (False, False, [LOCAL, REMOTE], "cluster-tcp-2", "external-tcp-2"),
    (False, True, [LOCAL, REMOTE], "cluster-tcp-2", "local-tcp-1-of-2"),
    (True, False, [LOCAL, REMOTE], "cluster-tcp-1", "external-tcp-2"),
    (True, True, [LOCAL, REMOTE], "cluster-tcp-1", "local-tcp-1-of-2"),
    (False, True, [REMOTE], "cluster-tcp-1", "local-tcp-0-of-1"),
    (True, False, [REMOTE], "drop", "external-tcp-1"),
    (True, True, [REMOTE], "drop", "local-tcp-0-of-1"),
    (False, False, [], "reject", "reject"),
    (True, True, [], "reject", "reject"),
]


@pytest.mark.parametrize(("internal", "external", "endpoints", "inside", "outside"), TABLE)
def test_what_each_frontend_answers(
    internal: bool, external: bool, endpoints: list, inside: str, outside: str
):
    """
    A cluster IP follows internalTrafficPolicy, everything else externalTrafficPolicy.

    No endpoint at all: rejected; some, but none on this node: dropped.
    """
    made = service(internal_local=internal, external_local=external, node_port=30080, **EXTERNALS)
    answers = verdicts(plan(made, endpoint_slice("web", *endpoints)))
    words = {"reject": NONE, "drop": "goto drop-no-local"}
    node_port = f"goto node-port-{outside}" if outside != "reject" else NONE

    assert answers == {
        CLUSTER_IP: words.get(inside, f"goto {inside}"),
        NODE_PORT: node_port,
        EXTERNAL_IP: words.get(outside, f"goto {outside}"),
        LOAD_BALANCER: words.get(outside, f"goto {outside}"),
    }


def test_local_endpoints_and_all_endpoints_are_in_their_own_slot_ranges():
    """With externalTrafficPolicy Local, slots from 0 are local, slots from 32768 everything."""
    made = service(external_local=True, node_port=30080)
    frontend = at(plan(made, endpoint_slice("web", LOCAL, REMOTE)), NODE_PORT)

    assert [d[:4] for d in frontend.slot_ranges[0]] == [LOCAL.address]
    assert [d[:4] for d in frontend.slot_ranges[1]] == [LOCAL.address, REMOTE.address]


def test_families_are_planned_apart_and_only_where_there_is_a_cluster_ip():
    """External addresses of a family without a cluster IP are not proxied either."""
    both = service(
        cluster_ips=("10.96.0.1", "fd00:96::1"), external_ips=("198.51.100.7", "2001:db8::7")
    )
    slices = [endpoint_slice("web", LOCAL), endpoint_slice("web", "fd00:244::5")]

    assert set(verdicts(plan(both, *slices))) == {
        CLUSTER_IP,
        EXTERNAL_IP,
        "[fd00:96::1]:80/tcp",
        "[2001:db8::7]:80/tcp",
    }
    single = service(external_ips=("198.51.100.7", "2001:db8::7"))
    assert set(verdicts(plan(single, *slices))) == {CLUSTER_IP, EXTERNAL_IP}


def test_external_ips_are_left_out_where_they_are_not_allowed():
    """As with the gate AllowServiceExternalIPs switched off."""
    made = service(**EXTERNALS)
    config = NodeConfig(node_name="node-1", external_ips=False)

    assert EXTERNAL_IP not in verdicts(plan(made, endpoint_slice("web", LOCAL), config=config))
    assert LOAD_BALANCER in verdicts(plan(made, endpoint_slice("web", LOCAL), config=config))


def test_one_address_in_two_roles_is_one_frontend():
    """The first role counts: a load-balancer IP that is an external IP, too, stays guarded."""
    made = service(
        external_ips=("203.0.113.5",),
        load_balancer_ips=("203.0.113.5",),
        source_ranges=("10.0.0.0/8",),
    )
    frontend = at(plan(made, endpoint_slice("web", LOCAL)), LOAD_BALANCER)

    assert frontend.verdict.is_jump
    assert frontend.answer == schema.goto("external-tcp-1")


def test_every_cluster_ip_is_known_even_without_ports_that_work():
    """Unknown ports of it are rejected."""
    shared = plan(service(cluster_ips=("10.96.0.1", "fd00:96::1"))).shared_elements

    assert {(m.set, m.key) for m in shared} == {
        (schema.CLUSTER_IPS, parse_address("10.96.0.1")),
        (schema.CLUSTER_IPS, parse_address("fd00:96::1")),
    }


def ranges(planned: ServicePlan) -> set[str]:
    return {
        f"{format_address(e.key[: e.family.size])}/{schema.number_of(e.key, e.family.size + 8)}"
        for e in planned.shared_elements
        if e.set == schema.SOURCE_RANGES
    }


GUARDED = service(node_port=30080, source_ranges=("10.0.0.0/8", "10.1.0.0/16"), **EXTERNALS)


def test_source_ranges_guard_load_balancer_ips_and_nothing_else():
    """Overlapping ranges are joined; cluster IP, node port and external IPs stay open."""
    made = plan(GUARDED, endpoint_slice("web", LOCAL))

    assert ranges(made) == {"10.0.0.0/8"}
    assert at(made, LOAD_BALANCER).verdict.is_jump
    assert not any(f.verdict.is_jump for f in made.frontends if str(f.key) != LOAD_BALANCER)


def test_source_ranges_are_there_once_for_all_frontends():
    """A Service costs its ranges and its frontends, not their product."""
    made = service(
        ports=[ServicePort(f"p{n}", Protocol.TCP, n, 0) for n in range(1, 41)],
        load_balancer_ips=[f"203.0.113.{n}" for n in range(30)],
        source_ranges=[f"10.{n}.0.0/24" for n in range(50)],
    )
    planned = plan(made, endpoint_slice("web", LOCAL))

    assert len(planned.frontends) == 40 * 31
    assert len(ranges(planned)) == 50
    assert sum(len(f.own_elements) for f in planned.frontends) == 40 * 30
    assert len({c.name for f in planned.frontends for c in f.chains if isinstance(c, Guard)}) == 1


def test_the_load_balancer_ip_may_be_used_by_a_node_that_is_allowed():
    """Bound on the node it becomes the source address of what the node sends to it."""
    config = NodeConfig(node_name="node-1", node_ips={Family.IPV4: parse_address("10.9.9.9")})
    made = plan(GUARDED, endpoint_slice("web", LOCAL), config=config)

    assert ranges(made) == {"10.0.0.0/8", "203.0.113.5/32"}
    elsewhere = NodeConfig(node_name="n", node_ips={Family.IPV4: parse_address("192.0.2.9")})
    assert ranges(plan(GUARDED, config=elsewhere)) == {"10.0.0.0/8"}


def test_a_guard_without_ranges_of_a_family_guards_nothing_there():
    """IPv4 ranges say nothing about IPv6 clients."""
    made = service(
        cluster_ips=("10.96.0.1", "fd00:96::1"),
        load_balancer_ips=("203.0.113.5", "2001:db8::5"),
        source_ranges=("10.0.0.0/8",),
    )
    guards = {str(f.key): f.verdict.is_jump for f in plan(made).frontends}

    assert guards[LOAD_BALANCER]
    assert not guards["[2001:db8::5]:80/tcp"]


def test_a_guarded_frontend_without_endpoints_rejects_only_those_it_would_serve():
    """Others are dropped, as they would be with endpoints."""
    frontend = at(plan(GUARDED), LOAD_BALANCER)

    assert frontend.verdict.is_jump
    assert frontend.answer == schema.goto("reject-connection")
    assert ranges(plan(GUARDED)) == {"10.0.0.0/8"}


def sticky(**more: object) -> Service:
    return service(affinity_timeout_s=30, node_port=30080, **more)  # type: ignore[arg-type]


def searched(frontend: Frontend) -> list[str]:
    (chain,) = (c for c in frontend.chains if isinstance(c, FindChain))
    return [one.which for one in chain.lists]


@pytest.mark.parametrize(
    ("internal", "external", "inside", "outside"),
    [
        (False, False, ["cluster"], ["cluster"]),
        (False, True, ["cluster"], ["cluster", "local"]),
        (True, False, ["local"], ["cluster"]),
        (True, True, ["local"], ["cluster", "local"]),
    ],
)
def test_clients_are_looked_up_on_the_list_they_are_balanced_over(
    internal: bool, external: bool, inside: list[str], outside: list[str]
):
    """A client is never sent to a remembered endpoint that the policy rules out."""
    made = plan(
        sticky(internal_local=internal, external_local=external),
        endpoint_slice("web", LOCAL, REMOTE),
    )

    assert searched(at(made, CLUSTER_IP)) == inside
    assert searched(at(made, NODE_PORT)) == outside
    assert at(made, CLUSTER_IP).verdict.chain.startswith("affinity-")
    assert at(made, CLUSTER_IP).answer.chain.startswith("cluster-tcp-")


def test_all_frontends_of_a_port_remember_clients_on_the_same_lists():
    """A client keeps its endpoint whichever of the Service's addresses it uses."""
    made = plan(sticky(external_local=True), endpoint_slice("web", LOCAL, REMOTE))
    recorded = [
        {c for c in at(made, where).chains if isinstance(c, RecordChain)}
        for where in (CLUSTER_IP, NODE_PORT)
    ]
    (record,) = recorded[0]

    assert recorded[0] == recorded[1]
    # the shorter one first, which holds a part of the endpoints
    assert [one.which for one in record.lists] == ["local", "cluster"]
    assert record.timeout_s == 30


def test_a_sticky_frontend_costs_two_elements_and_an_endpoint_one():
    """F + E for a service port with F frontends and E endpoints, not F x E."""
    pods = [f"10.244.3.{number}" for number in range(1, 101)]
    addresses = [f"198.51.100.{number}" for number in range(1, 51)]
    made = plan(sticky(external_ips=addresses), endpoint_slice("web", *pods))
    ((key, elements),) = made.affinity_lists.items()

    assert {len(f.own_elements) for f in made.frontends} == {2}
    assert {e.set for e in at(made, NODE_PORT).own_elements} == {
        schema.STICKY_NODE_PORTS,
        schema.RECORD_NODE_PORTS[Protocol.TCP],
    }
    assert {e.set for e in at(made, CLUSTER_IP).own_elements} == {
        schema.STICKY_FRONTENDS,
        schema.RECORD_FRONTENDS[Protocol.TCP],
    }
    assert len(elements) == len(pods)
    maps = schema.AFFINITY_ENDPOINTS[Protocol.TCP]
    assert {e.set for e in elements} == {schema.map_of(maps, key.number)}


def test_a_list_has_the_endpoints_with_all_their_port_numbers():
    """The kernel remembers a number for address and port."""
    made = plan(
        sticky(),
        endpoint_slice("web", LOCAL, name="one", port=8080),
        endpoint_slice("web", REMOTE, name="two", port=9090),
    )
    (elements,) = made.affinity_lists.values()

    assert {e.value for e in elements} == {
        LOCAL.address + schema.port_bytes(8080),
        REMOTE.address + schema.port_bytes(9090),
    }


def test_of_two_lists_the_local_one_marks_its_endpoints():
    """A record chain has to know whether an endpoint is on it."""
    made = plan(sticky(external_local=True), endpoint_slice("web", LOCAL, REMOTE))
    marked = [
        e.key
        for found in made.affinity_lists.values()
        for e in found
        if e.set == schema.AFFINITY_LOCAL
    ]
    number = endpoint_number(LOCAL.address + schema.port_bytes(8080))

    assert [schema.number_of(key, 8) for key in marked] == [number]


@pytest.mark.parametrize("endpoints", [[REMOTE], [LOCAL], [LOCAL, REMOTE]])
def test_chains_do_not_depend_on_which_endpoints_there_are(endpoints: list[Endpoint]):
    """To make or change one takes a child process."""
    both = sticky(external_local=True)
    chains = [
        {
            c
            for f in plan(both, endpoint_slice("web", *found)).frontends
            for c in f.chains
            if not isinstance(c, Shape)
        }
        for found in (endpoints, [LOCAL, REMOTE])
    ]

    assert chains[0] == chains[1]


def test_a_sticky_service_without_endpoints_has_nothing_to_remember():
    """No chain, no element, no list."""
    made = plan(sticky())

    assert verdicts(made)[CLUSTER_IP] == NONE
    assert not any(f.own_elements or f.chains for f in made.frontends)
    assert not made.affinity_lists


def test_chains_of_a_frontend_are_those_its_elements_point_to():
    """What must be made before, and may go after."""
    guarded = service(
        node_port=30080,
        affinity_timeout_s=30,
        external_local=True,
        source_ranges=("10.0.0.0/8",),
        **EXTERNALS,
    )
    for frontend in plan(guarded, endpoint_slice("web", LOCAL, REMOTE)).frontends:
        values = [frontend.verdict, *(e.value for e in frontend.own_elements)]
        targets = {value.chain for value in values if isinstance(value, schema.Verdict)}
        assert targets == {chain.name for chain in frontend.chains}
        assert sum(isinstance(chain, Shape) for chain in frontend.chains) == 1


def test_ports_of_one_number_and_different_protocols_are_different_frontends():
    """TCP, UDP and SCTP on port 53."""
    ports = [ServicePort(p.word, p, 53) for p in Protocol]
    piece = endpoint_slice("web", LOCAL, port=5353, port_name="udp", protocol=Protocol.UDP)

    assert verdicts(plan(service(ports=ports), piece)) == {
        "10.96.0.1:53/tcp": NONE,
        "10.96.0.1:53/udp": "goto cluster-udp-1",
        "10.96.0.1:53/sctp": NONE,
    }


def test_the_node_asks_for_its_ranges():
    """ServiceCIDRs, joined where they overlap, and where node ports are accepted."""
    config = NodeConfig(
        node_name="n",
        node_port_prefixes={Family.IPV4: (parse_prefix("10.0.0.0/8"),), Family.IPV6: None},
    )
    cidrs: list[Prefix] = [
        parse_prefix(t) for t in ("10.96.0.0/16", "10.96.1.0/24", "fd00:96::/112")
    ]
    shared = plan_node(config, cidrs)
    ranges = {e for e in shared if e.set != schema.EQUAL_HASHES}

    assert {(m.family, m.set, m.key) for m in ranges} == {
        (Family.IPV4, schema.SERVICE_CIDRS, schema.prefix_key(cidrs[0])),
        (Family.IPV6, schema.SERVICE_CIDRS, schema.prefix_key(cidrs[2])),
        (Family.IPV4, schema.NODE_PORT_ADDRESSES, schema.prefix_key(parse_prefix("10.0.0.0/8"))),
    }


def test_the_node_asks_for_all_pairs_of_equal_hashes():
    """
    In both families, whatever the configuration, so that a pod that reaches itself is recognised.
    """
    shared = plan_node(NodeConfig(node_name="n"), [])

    assert {(e.family, e.key) for e in shared if e.set == schema.EQUAL_HASHES} == {
        (family, schema.number_bytes(number) + schema.number_bytes(number))
        for family in Family
        for number in range(schema.HASHES)
    }
