"""Claims that lose, are refused, or take what belongs to the node, a pod or another Service."""

import msgspec
import pytest
from support.objects.model import changes, endpoint_slice, gone, service

from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.nodeconfig import KeptAddresses, Listener, NodeConfig
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.plan.claims import ClaimReason
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner

NODE_IP, SERVER = "192.168.77.11", "192.168.77.1"
KEPT = KeptAddresses(
    node_addresses=frozenset((parse_address(NODE_IP), parse_address("2001:db8::11"))),
    own_addresses=frozenset(map(parse_address, (NODE_IP, "2001:db8::11", "10.0.0.1"))),
    listeners=(Listener(b"", 10256, "its health page"),),
    api_servers=frozenset(((parse_address(SERVER), 6443), (parse_address("10.96.0.1"), 443))),
    pod_prefixes=(parse_prefix("10.244.0.0/16"),),
)


def planner(*objects, kept=KEPT, **config) -> Planner:
    made = Planner(NodeConfig(node_name="node-1", kept=kept, **config))
    made.apply(changes(*objects))
    return made


def key(address: str, port: int = 80, protocol: Protocol = Protocol.TCP) -> FrontendKey:
    packed = parse_address(address) if address else b""
    family = Family.IPV6 if ":" in address else Family.IPV4
    return FrontendKey(family, packed, protocol, port)


def holder(made: Planner, at: FrontendKey) -> str:
    return str(made.desired.frontends[at].claim.service.name)


def outside(name: str, address: str, port: int = 80, last: int = 50, **fields):
    ips = (f"10.96.0.{last}", f"fd00:10:96::{last}")
    return service(name, cluster_ips=ips, port=port, external_ips=(address,), **fields)


def reported(made: Planner) -> list[tuple[str, str]]:
    """Return reason and line of what has begun to be wrong."""
    begun = made.desired.findings.take_begun()
    return [(b.finding.reason.value, str(b.problem(lambda _: ""))) for b in begun]


DNS = service("zz-dns", cluster_ips=("10.96.0.10",), port=53, created="2026-06-01")


@pytest.mark.parametrize("field", ["external_ips", "load_balancer_ips"])
def test_a_cluster_ip_outranks_every_other_claim(field):
    """However old the other Service is, and whichever comes first."""
    other = service(
        "aa-old",
        cluster_ips=("10.96.0.50",),
        port=53,
        created="2020-01-01",
        **{field: ("10.96.0.10",)},
    )
    at = key("10.96.0.10", 53)
    for order in ((DNS, other), (other, DNS)):
        made = planner()
        for each in order:
            made.apply(changes(each))
        assert holder(made, at) == "zz-dns"
        (conflict,) = [line for reason, line in reported(made) if reason == "FrontendConflict"]
        assert "10.96.0.10:53/tcp is the cluster IP of Service default/zz-dns" in conflict
        assert "Service default/aa-old" in conflict
        # While the cluster IP's Service is away, the other one is served as in kube-proxy.
        made.apply(gone(DNS))
        assert holder(made, at) == "aa-old"
        assert made.desired.findings.counts[ClaimReason.CONFLICT] == 0
        assert at in made.apply(changes(DNS)).frontends
        assert holder(made, at) == "zz-dns"


@pytest.mark.parametrize(
    "claim",
    [
        outside("mallory", SERVER, 6443),
        outside("mallory", NODE_IP, 10256),
        outside("mallory", "2001:db8::11", 10256),
        outside("mallory", "10.0.0.1", 10256),
        outside("mallory", "10.96.0.1", 443),
        service("mallory", cluster_ips=("10.96.0.9",), port=6443, load_balancer_ips=(SERVER,)),
        service("mallory", cluster_ips=("10.96.0.9",), port=80, node_port=10256),
        service("mallory", cluster_ips=("10.96.0.1",), port=443),
    ],
)
def test_what_keeps_the_node_running_is_refused(claim):
    """The rest of the Service is served."""
    made = planner(claim)

    refused = [line for reason, line in reported(made) if reason == "FrontendRefused"]
    assert refused
    assert "no Service may take it over" in refused[0]
    assert made.desired.findings.counts[ClaimReason.REFUSED]
    for at in ((SERVER, 6443), (NODE_IP, 10256), ("10.96.0.1", 443), ("", 10256)):
        assert key(*at) not in made.desired.frontends
    made.apply(gone(claim))
    assert not made.desired.findings.counts[ClaimReason.REFUSED]


def test_other_protocols_and_ports_of_these_addresses_are_served():
    udp = outside("dns", SERVER, ports=(ServicePort("", Protocol.UDP, 6443),))
    made = planner(udp, outside("web", SERVER, 80, last=51))

    assert key(SERVER, 6443, Protocol.UDP) in made.desired.frontends
    assert holder(made, key(SERVER, 80)) == "web"


def test_the_cluster_ip_of_the_api_server_is_served_also_where_nfproxy_uses_it():
    kubernetes = service("kubernetes", cluster_ips=("10.96.0.1",), port=443)
    made = planner(kubernetes, endpoint_slice("kubernetes", "192.168.77.1"))

    assert holder(made, key("10.96.0.1", 443)) == "kubernetes"
    assert not reported(made)


def test_the_node_learns_another_address_or_api_server():
    """Only the Services concerned are planned again."""
    claim, other = outside("mallory", SERVER, 6443), outside("web", "203.0.113.1", last=51)
    made = planner(claim, other, kept=KeptAddresses())
    assert key(SERVER, 6443) in made.desired.frontends

    touched = made.apply(made.reconfigure(NodeConfig(node_name="node-1", kept=KEPT)))
    assert touched.frontends.keys() == {key(SERVER, 6443)}
    assert touched.services == {claim.name}
    assert key(SERVER, 6443) not in made.desired.frontends

    made.apply(made.reconfigure(NodeConfig(node_name="node-1")))
    assert key(SERVER, 6443) in made.desired.frontends
    assert not made.desired.findings.counts[ClaimReason.REFUSED]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (NODE_IP, "is an address of this node"),
        ("2001:db8::11", "is an address of this node"),
        ("10.0.0.1", "is an address of this node"),
        ("10.244.7.7", "is in the range of pods' addresses"),
        ("10.96.0.10", "is at the cluster IP of Service default/zz-dns, which has no such port"),
    ],
)
def test_a_claim_that_shadows_something_is_served_and_reported(address, words):
    claim = outside("mallory", address)
    for order in ((DNS, claim), (claim, DNS)):
        made = planner(*order[:1])
        made.apply(changes(*order[1:]))
        assert holder(made, key(address)) == "mallory"
        (line,) = [line for reason, line in reported(made) if reason == "FrontendShadows"]
        assert words in line
        assert made.desired.findings.counts[ClaimReason.SHADOWS] == 1
        made.apply(gone(claim))
        assert made.desired.findings.counts[ClaimReason.SHADOWS] == 0


def test_a_claim_on_the_node_port_of_another_service_names_it():
    claim = outside("mallory", NODE_IP, 30080)
    victim = service("shop", cluster_ips=("10.96.0.60",), port=80, node_port=30080)
    for order in ((claim, victim), (victim, claim)):
        made = planner(order[0])
        made.apply(changes(order[1]))
        assert holder(made, key(NODE_IP, 30080)) == "mallory"
        lines = [line for reason, line in reported(made) if reason == "FrontendShadows"]
        assert "is also a node port of Service default/shop" in lines[-1]
        made.apply(gone(victim))
        assert "is an address of this node" in reported(made)[0][1]


def test_an_ordinary_service_shadows_nothing():
    made = planner(
        service(
            "web",
            cluster_ips=("10.96.0.60",),
            port=80,
            node_port=30080,
            external_ips=("203.0.113.9",),
            load_balancer_ips=("203.0.113.10", "10.0.0.1"),
        ),
        DNS,
    )
    assert not reported(made)


def test_many_common_claims_are_one_line_and_cost_nothing_later():
    """Two Services with 20,000 common claims; then an unrelated change."""
    ips = [f"203.0.{high}.{low}" for high in range(100) for low in range(200)]
    pair = [
        service(
            name, cluster_ips=(f"10.96.0.{last}",), external_ips=ips, created=f"2026-01-0{last}"
        )
        for last, name in ((1, "first"), (2, "second"))
    ]
    made = planner(*pair)
    assert made.desired.findings.counts[ClaimReason.CONFLICT] == len(ips)
    (line,) = reported(made)
    assert "(and 19,999 more frontends)" in line[1]
    made.apply(changes(DNS))
    assert not reported(made)
    made.apply(gone(pair[0]))
    assert made.desired.findings.counts[ClaimReason.CONFLICT] == 0


def test_an_ip_of_mode_router_without_its_gate_is_reported_once():
    """With the gate it is served, unless no endpoint exists."""
    web = msgspec.structs.replace(service(), router_ips=(parse_address("203.0.113.7"),))
    made = planner(web, endpoint_slice("web", "10.244.1.5"))
    ((reason, line),) = reported(made)
    assert reason == "FrontendRefused"
    assert "gate LoadBalancerIPModeRouter is off" in line
    made.apply(changes(endpoint_slice("web", "10.244.1.6")))
    assert not reported(made)

    at = key("203.0.113.7")
    assert at not in made.desired.frontends
    made.apply(made.reconfigure(msgspec.structs.replace(made.config, router_ips=True)))
    assert at in made.desired.frontends
    assert not made.desired.findings.counts[ClaimReason.REFUSED]
    made.apply(changes(endpoint_slice("web")))
    assert at not in made.desired.frontends
