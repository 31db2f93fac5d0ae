"""What the engine finds, by code."""

from typing import Any

import msgspec
import pytest
from support.insight import codes, explained, shop, sight
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.insight.explainwords import verdict_words
from nfproxy.insight.explanation import Conclusion
from nfproxy.model.nodeconfig import ServiceLimits

SHOP = sight(*shop())


@pytest.mark.parametrize(
    ("what", "conclusion", "found", "said"),
    [
        ("shop/web", "works", [], ""),
        ("shop/web:http", "works", [], ""),
        ("shop/web:80", "works", [], ""),
        ("shop/web:30080", "works", [], ""),
        ("shop/orders", "refused", ["fail NoSlices"], "kubernetes.io/service-name=orders"),
        ("shop/catalog", "refused", ["fail PortNotInSlices"], "named 'http-alt'"),
        ("shop/billing", "refused", ["fail PortNameDiffers"], "named 'web', the Service's 'http'"),
        ("shop/search", "refused", ["fail NoneReady"], "2 endpoints are there, none is ready"),
        ("shop/audit", "partly", ["note NoLocalExternal"], "health check node port 32060"),
        ("shop/logs", "dropped", ["fail NoLocalInternal"], "node-1 has no endpoint"),
        ("shop/api", "works", [], ""),
        ("shop/jobs", "works", ["warn TerminatingOnly"], "until they are gone"),
        ("shop/mail", "works", ["note FrontendConflict"], "of team-b/mail2"),
        ("team-b/mail2", "partly", ["fail FrontendConflict"], "Service shop/mail, which keeps it"),
        ("shop/peers", "unknown", ["note Headless"], "headless"),
        ("shop/elsewhere", "unknown", ["note ExternalName"], "db.example.com"),
        ("shop/mesh", "unknown", ["warn ProxiedByOther"], "'other'"),
        ("shop/wbe", "unknown", ["fail UnknownService"], "is it shop/web?"),
        ("web", "unknown", ["fail UnknownService"], "is it shop/web?"),
        ("shop/web:81", "unknown", ["fail UnknownPort"], "no port '81'; it has 80/tcp (http)"),
        # Addresses
        ("10.96.0.10:80", "works", [], ""),
        ("10.96.0.10", "works", [], ""),
        ("10.96.0.10:81", "refused", ["fail UnknownPort"], "no port '81'"),
        ("10.96.0.10:80/udp", "refused", ["fail UnknownPort"], "no port '80/udp'"),
        ("10.96.0.77:80", "dropped", ["fail UnallocatedAddress"], "10.96.0.0/16"),
        ("203.0.113.120:80", "works", ["note FrontendConflict"], "team-b/mail2"),
        (":30080", "works", [], ""),
        (":31999", "unknown", ["fail UnknownPort"], "node port 31999"),
        ("192.168.77.11:30080", "works", [], ""),
        ("192.168.77.12:30080", "works", ["note NotAService"], "whose rules decide"),
        ("192.168.77.12:22", "unknown", ["fail NotAService"], "node node-2"),
        ("192.168.77.12", "unknown", ["note NotAService"], "node node-2"),
        ("127.0.0.1:30080", "refused", ["fail NodePortLoopback"], "cannot serve node port"),
        ("127.0.0.1:80", "unknown", ["note NotAService"], "loopback"),
        ("10.244.1.11", "works", [], ""),
        ("10.244.1.11:8080", "works", [], ""),
        ("10.244.1.15", "refused", ["fail NoneReady"], "none is ready"),
        ("10.244.2.99", "unknown", ["fail NotAService"], "podCIDR 10.244.2.0/24 of node node-2"),
        ("8.8.8.8:53", "unknown", ["fail NotAService"], "leaves connections to it alone"),
    ],
)
def test_a_cluster_with_mistakes(what: str, conclusion: str, found: list[str], said: str) -> None:
    """The verdict, the codes, and what the first message names."""
    explanation = explained(what, SHOP)

    assert (explanation.conclusion.value, codes(explanation)) == (conclusion, found)
    assert said in "".join(one.message for one in explanation.findings[:1])


@pytest.mark.parametrize(
    ("what", "reasons"),
    [
        ("shop/web", ["", ""]),
        ("shop/catalog", ["no port", "no port"]),
        ("shop/search", ["not ready", "not ready"]),
        ("shop/audit", ["Local: not on this node", "Local: not on this node"]),
        ("shop/logs", ["not on this node"]),
        ("shop/jobs", ["", "terminating and no longer serving"]),
    ],
)
def test_every_endpoint_that_gets_nothing_has_a_reason(what: str, reasons: list[str]) -> None:
    """Whether it has the port or not."""
    (port,) = explained(what, SHOP).ports

    assert [row.reason for row in port.endpoints] == reasons
    for row in port.endpoints:
        assert row.used.cluster or row.used.local or row.reason


def test_endpoints_are_named() -> None:
    """By pod, node and zone, and the slice that lists them."""
    (port,) = explained("shop/web", SHOP).ports
    first, second = port.endpoints

    assert (first.pod, first.node, first.zone, first.slice) == (
        *("shop/p11", "node-1", "west", "web-abcde"),
    )
    assert (first.local, second.local) == (True, False)


def test_frontends_say_what_they_answer_whom() -> None:
    """By policy: pods and nodes reach the endpoints of other nodes, outside clients do not."""
    (port,) = explained("shop/audit", SHOP).ports
    rows = {row.kind.value: row.answer for row in port.frontends}

    assert {a.outside.value for k, a in rows.items() if k != "clusterIP"} == {"dropped"}
    assert {a.pods.value for a in rows.values()} == {"endpoints"}
    assert port.health_check == 503


CLASH = [
    service("a", "10.96.0.1", created="2026-01-01T00:00:00Z"),
    service("b", "10.96.0.1", created="2026-02-01T00:00:00Z"),
    endpoint_slice("a", "10.244.1.1"),
    endpoint_slice("b", "10.244.1.2"),
]
NODE_PORT = [{"port": 80, "nodePort": 30080}]
#: The only endpoint of this node terminates, and one of another node is ready.
LEAVING = [
    endpoint_slice(
        "web", "10.244.1.5", conditions={"ready": False, "serving": True, "terminating": True}
    ),
    endpoint_slice("web", "10.244.2.5", name="web-b", node="node-2"),
]
TCP, UDP = ({"name": "dns", "port": 53, "protocol": word} for word in ("TCP", "UDP"))


@pytest.mark.parametrize(
    ("objects", "flags", "found"),
    [
        pytest.param(
            [service(), endpoint_slice("web", "10.244.1.5")], {}, [], id="nothing"
        ),
        pytest.param(
            [service(), endpoint_slice("web", "fd00:10:244:1::5")],
            {},
            ["fail FamilyNotServed"],
            id="only IPv6 endpoints",
        ),
        pytest.param(
            [service(), endpoint_slice("web")], {}, ["fail NoEndpoints"], id="an empty slice"
        ),
        pytest.param(
            [service(), endpoint_slice("web", "10.244.1.999")],
            {},
            ["fail NoEndpoints", "warn InvalidField"],
            id="no usable endpoint",
        ),
        pytest.param(
            [service(ports=[UDP]), endpoint_slice("web", "10.244.1.5", ports=[TCP])],
            {},
            ["fail PortProtocolDiffers"],
            id="another protocol",
        ),
        pytest.param(
            [service(ports=[UDP]), endpoint_slice("web", "10.244.1.5", ports=[{"port": 53}])],
            {},
            ["fail PortNameDiffers"],
            id="a slice's port without a name",
        ),
        pytest.param(
            [
                service(ports=[UDP]),
                endpoint_slice("web", "10.244.1.5", ports=[UDP]),
                endpoint_slice("web", "10.244.1.6", name="web-b", ports=None),
            ],
            {},
            ["warn PortNotInSlices"],
            id="some endpoints lack the port",
        ),
        pytest.param(
            [
                service(type="NodePort", externalTrafficPolicy="Local",
                        ports=[{"port": 80, "nodePort": 30080}]),
                endpoint_slice("web", "10.244.2.5", node="node-2"),
            ],
            {},
            ["warn NoLocalExternal"],
            id="Local, and no load balancer that would ask",
        ),
        pytest.param(
            [service(type="NodePort", externalTrafficPolicy="Local", ports=NODE_PORT), *LEAVING],
            {},
            ["warn TerminatingOnly"],
            id="outside clients have only terminating endpoints here",
        ),
        pytest.param(
            [
                service(type="LoadBalancer", externalTrafficPolicy="Local", ports=NODE_PORT,
                        healthCheckNodePort=32060),
                *LEAVING,
            ],
            {},
            ["note TerminatingOnly", "note NoLoadBalancer"],
            id="terminating endpoints here, and load balancers ask",
        ),
        pytest.param(
            [service(internalTrafficPolicy="Local"), *LEAVING],
            {},
            ["warn TerminatingOnly"],
            id="clients here have only terminating endpoints",
        ),
        pytest.param(
            [
                service(internalTrafficPolicy="Local"),
                *LEAVING,
                endpoint_slice("web", "10.244.1.6", name="web-c"),
            ],
            {},
            [],
            id="another endpoint here is ready",
        ),
        pytest.param(
            [service(type="NodePort", ports=NODE_PORT), *LEAVING],
            {},
            [],
            id="terminating endpoints here, and no policy Local",
        ),
        pytest.param(
            [service(externalIPs=["203.0.113.9"]), endpoint_slice("web", "10.244.1.5")],
            {"feature_gates": "AllowServiceExternalIPs=false"},
            ["fail ExternalIPsOff"],
            id="external IPs off",
        ),
        pytest.param(
            [service(externalIPs=["2001:db8::9"]), endpoint_slice("web", "10.244.1.5")],
            {},
            ["fail FamilyNotServed"],
            id="an external IP of a family without cluster IP",
        ),
        pytest.param(
            [service(externalIPs=["192.168.77.11"]), endpoint_slice("web", "10.244.1.5")],
            {},
            ["warn FrontendShadows"],
            id="an external IP that is the node's",
        ),
        pytest.param(
            [service(externalIPs=["203.0.113.900"]), endpoint_slice("web", "10.244.1.5")],
            {},
            ["warn InvalidField"],
            id="a bad external IP",
        ),
        pytest.param(
            [service(cluster_ip="10.96.0.300"), endpoint_slice("web", "10.244.1.5")],
            {},
            ["fail InvalidField"],
            id="a bad cluster IP",
        ),
        pytest.param(
            [service(port=99999), endpoint_slice("web", "10.244.1.5")],
            {},
            ["fail InvalidField"],
            id="a bad port",
        ),
        pytest.param(
            [service(type="LoadBalancer"), endpoint_slice("web", "10.244.1.5")],
            {},
            ["note NoLoadBalancer"],
            id="a load balancer that is awaited",
        ),
        pytest.param(
            [service(), endpoint_slice("web", "10.244.1.5")],
            {"cluster_cidr": "10.245.0.0/16"},
            ["warn ClusterCIDRMissesPods"],
            id="clusterCIDR misses the pods",
        ),
        pytest.param(
            [service(), endpoint_slice("web", "10.244.1.5")],
            {"cluster_cidr": "0.0.0.0/0"},
            ["warn ClusterCIDRHoldsNode"],
            id="clusterCIDR holds the node",
        ),
        pytest.param(
            [service(), endpoint_slice("web", "10.244.1.5")],
            {"cluster_cidr": ""},
            ["note NoClusterCIDR"],
            id="no clusterCIDR",
        ),
        pytest.param(
            [
                service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}]),
                endpoint_slice("web", "10.244.1.5"),
            ],
            {"nodeport_addresses": "10.9.0.0/16"},
            [],
            id="node ports on another range",
        ),
        pytest.param(
            [
                service(),
                endpoint_slice("web", "10.244.1.5") | {
                    "endpoints": [
                        {"addresses": ["10.244.1.5"], "hints": {"forZones": [{"name": "a"}]}},
                        {"addresses": ["10.244.1.6"], "hints": {"forZones": [{"name": "b"}]}},
                    ]
                },
            ],
            {},
            ["note HintsElsewhere"],
            id="hints",
        ),
    ],
)  # fmt: skip
def test_one_thing_wrong(
    objects: list[dict[str, Any]], flags: dict[str, str], found: list[str]
) -> None:
    """It has its code, and nothing else is found."""
    seen = sight(node_object(), *objects, **flags)

    assert codes(explained("web", seen)) == found


def test_a_conflict_is_reported_to_both() -> None:
    """The loser fails; the winner has a note."""
    seen = sight(node_object(), *CLASH)

    loser, winner = explained("b", seen), explained("a", seen)
    assert codes(loser) == ["fail FrontendConflict"]
    assert codes(winner) == ["note FrontendConflict"]
    assert [row.winner for row in loser.ports[0].frontends] == ["default/a"]


def test_without_the_node_nothing_depends_on_which_one_it_is() -> None:
    """In a check of manifests the host's name is no node's: Local fails nowhere for certain."""
    seen = sight(
        service(internalTrafficPolicy="Local"), endpoint_slice("web", "10.244.2.5", node="node-2")
    )

    assert codes(explained("web", seen)) == ["note NoLocalInternal", "note UnknownNode"]


def test_node_ports_at_an_address_that_does_not_accept_them() -> None:
    """nodePortAddresses leaves it out."""
    objects = (
        node_object(),
        service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}]),
        endpoint_slice("web", "10.244.1.5"),
    )
    seen = sight(*objects, nodeport_addresses="10.9.0.0/16")

    assert codes(explained("192.168.77.11:30080", seen)) == ["fail NodePortOtherAddress"]


def test_loopback_that_is_served_in_user_space() -> None:
    """TCP alone."""
    objects = (
        node_object(),
        service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}]),
        endpoint_slice("web", "10.244.1.5"),
    )
    seen = sight(*objects, nodeport_addresses="primary,localhost")

    assert codes(explained("127.0.0.1:30080", seen)) == ["note NodePortLoopback"]
    assert explained("127.0.0.1:30080", seen).conclusion is Conclusion.WORKS


def test_an_address_that_is_asked_for_and_not_served() -> None:
    """The Service is named, and why it does not have it."""
    objects = (
        node_object(),
        service(externalIPs=["203.0.113.9"]),
        endpoint_slice("web", "10.244.1.5"),
    )
    found = explained(
        "203.0.113.9:80", sight(*objects, feature_gates="AllowServiceExternalIPs=false")
    )

    assert codes(found) == ["fail ExternalIPsOff"]
    assert "default/web asks for" in found.title


def test_ports_and_families_that_differ_are_told_apart() -> None:
    """The first line names each."""
    ports = [{"name": "http", "port": 80}, {"name": "metrics", "port": 9090}]
    many = sight(
        node_object(),
        service(ports=ports),
        endpoint_slice("web", "10.244.1.5", ports=[{"name": "http", "port": 8080}]),
    )
    both = {"clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}
    dual = sight(node_object(), service(**both), endpoint_slice("web", "10.244.1.5"))

    first, second = explained("web", many), explained("web", dual)
    assert [one.conclusion for one in (first, second)] == [Conclusion.PARTLY] * 2
    assert verdict_words(first) == "http works; metrics REFUSES every connection"
    assert verdict_words(second) == "IPv4 works; IPv6 REFUSES every connection"
    assert explained("web:metrics", many).conclusion is Conclusion.REFUSED


def test_a_slice_in_another_namespace_is_named() -> None:
    """A Service has the slices of its own namespace alone."""
    piece = endpoint_slice("web", "10.244.1.5")
    piece["metadata"]["namespace"] = "elsewhere"
    (cause,) = explained("web", sight(node_object(), service(), piece)).findings

    assert cause.code == "NoSlices"
    assert any("in another namespace" in line for line in cause.because)


def test_a_load_balancer_that_answers_itself() -> None:
    """nfproxy has no frontend at an IP of mode Proxy."""
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7", "ipMode": "Proxy"}]}}
    web = service(type="LoadBalancer", status=status)
    found = explained(
        "203.0.113.7:80", sight(node_object(), web, endpoint_slice("web", "10.244.1.5"))
    )

    assert codes(found) == ["note IPModeProxy"]


def test_a_service_with_more_than_one_may_have() -> None:
    """The first frontends by the order of their addresses are served."""
    many = service(externalIPs=["203.0.113.7", "203.0.113.8", "203.0.113.9"])
    seen = sight(node_object(), many, endpoint_slice("web", "10.244.1.5"))
    limits = ServiceLimits(frontends=2)
    planner = seen.planner
    planner.apply(planner.reconfigure(msgspec.structs.replace(planner.config, limits=limits)))
    found = explained("web", seen)

    assert "warn ServiceLimited" in codes(found)


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ({"addressType": "FQDN"}, "its addressType is FQDN"),
        (
            {
                "labels": {
                    "kubernetes.io/service-name": "web",
                    "service.kubernetes.io/headless": "",
                }
            },
            "it has the label service.kubernetes.io/headless",
        ),
    ],
)
def test_a_slice_that_no_proxy_uses_is_named(field: dict[str, Any], why: str) -> None:
    piece = endpoint_slice("web", "10.244.1.5")
    piece["metadata"] |= {key: value for key, value in field.items() if key == "labels"}
    piece |= {key: value for key, value in field.items() if key != "labels"}
    (cause,) = explained("web", sight(node_object(), service(), piece)).findings
    assert cause.code == "NoSlices"
    assert f"EndpointSlice default/{piece['metadata']['name']} is there" in cause.because[-1]
    assert why in cause.because[-1]


def test_addresses_of_a_slice_are_of_another_family_than_it_says() -> None:
    piece = endpoint_slice("web", "10.244.1.5") | {"addressType": "IPv6"}
    found = explained("web", sight(node_object(), service(), piece))
    assert codes(found)[0] == "fail FamilyNotServed"
    assert found.findings[0].message.startswith("no endpoint is there, and")
    assert "is not IPv6" in found.findings[0].because[0]


@pytest.mark.parametrize(
    ("pods", "conclusion"), [((), Conclusion.DROPPED), (("10.244.1.5",), Conclusion.PARTLY)]
)
def test_an_endpoint_is_an_address_of_a_service(
    pods: tuple[str, ...], conclusion: Conclusion
) -> None:
    pieces = [endpoint_slice("web", "10.96.0.2", name="other", port=80)]
    pieces += [endpoint_slice("web", *pods)] if pods else []
    other = service("other", "10.96.0.2")
    found = explained("web", sight(node_object(), service(), other, *pieces))
    assert codes(found) == ["fail EndpointIsService"]
    assert found.conclusion is conclusion


def test_no_source_range_is_valid() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
    web = service(type="LoadBalancer", status=status, loadBalancerSourceRanges=["10.0.0.0/33"])
    seen = sight(node_object(), web, endpoint_slice("web", "10.244.1.5"))
    assert "fail SourceRange" in codes(explained("web", seen))
    assert explained("web", seen).conclusion is Conclusion.PARTLY
    assert explained("203.0.113.7:80", seen).conclusion is Conclusion.DROPPED


@pytest.mark.parametrize(
    ("range_of_pods", "found"), [("10.0.0.0/8", "note"), ("10.96.0.0/24", "warn")]
)
def test_a_cluster_ip_is_in_the_range_of_pods(range_of_pods: str, found: str) -> None:
    here = node_object()
    if found == "warn":
        here["spec"] = {"podCIDRs": [range_of_pods]}
    seen = sight(here, service(), endpoint_slice("web", "10.97.1.5"), cluster_cidr="10.0.0.0/8")
    answer = explained("web", seen)
    assert f"{found} FrontendShadows" in codes(answer)
