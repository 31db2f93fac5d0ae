"""
Mistakes in objects, and what is intended: what clients get, and what explain says of it.

All clients try at once; then each incident is asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest
import yaml
from incidents.conftest import Incident
from support.packets.sending import Outcome, Probe, probe_many
from support.processes.commands import wait_until

from nfproxy.model.service import Protocol

POD, OUTSIDE, NODE = "pod", "outside", "node"


class Case(NamedTuple):
    """
    What is asked about; who tries which address, and what becomes of it; what explain has to say.

    Without an address, DNS leads clients past nfproxy. `codes` are those that fail or are worth a
    look, and of notes those that are given.
    """

    what: str
    client: str
    address: str
    becomes: str
    says: str
    codes: str
    port: int = 80


CASES = {
    "all is well": Case("shop/web", POD, "10.96.0.10", "answered", "works", ""),
    "no slice at all": Case(
        "shop/orders", POD, "10.96.0.20", "refused", "REFUSES every connection", "fail NoSlices"
    ),
    "targetPort names nothing": Case(
        "shop/catalog", POD, "10.96.0.30", "refused", "REFUSES", "fail PortNotInSlices"
    ),
    "a slice by hand names the port otherwise": Case(
        "shop/billing", POD, "10.96.0.40", "refused", "REFUSES", "fail PortNameDiffers"
    ),
    "a slice by hand has another protocol": Case(
        "more/dns", POD, "10.96.1.10", "refused", "REFUSES", "fail PortProtocolDiffers"
    ),
    "nothing is ready": Case(
        "shop/search", POD, "10.96.0.50", "refused", "REFUSES", "fail NoneReady"
    ),
    "the selector selects nothing": Case(
        "more/lost", POD, "10.96.1.20", "refused", "REFUSES", "fail NoEndpoints"
    ),
    "external Local, no endpoint here": Case(
        "shop/audit",
        OUTSIDE,
        "203.0.113.60",
        "dropped",
        "outside clients are DROPPED",
        "note NoLocalExternal",
    ),
    "internal Local, no endpoint here": Case(
        "shop/logs", POD, "10.96.0.70", "dropped", "DROPS", "fail NoLocalInternal"
    ),
    "only terminating endpoints": Case(
        "shop/jobs", POD, "10.96.0.90", "answered", "works, LOOK AT THIS", "warn TerminatingOnly"
    ),
    "external Local, only terminating endpoints here": Case(
        "more/leaving", OUTSIDE, "203.0.113.95", "answered", "LOOK AT THIS", "warn TerminatingOnly"
    ),
    "two Services claim one external IP": Case(
        "team-b/mail2",
        OUTSIDE,
        "203.0.113.120",
        "answered",  # by the other one
        "WORKS IN PART",
        "fail FrontendConflict",
    ),
    "hints leave this zone out": Case(
        "more/zones", POD, "10.96.1.30", "answered", "works", "note HintsIgnored"
    ),
    "an IPv6 Service with IPv4 pods": Case(
        "more/six", POD, "fd00:10:96::20", "refused", "REFUSES", "fail FamilyNotServed"
    ),
    "an external IP of the other family": Case(
        "more/outer", OUTSIDE, "2001:db8::7", "lost", "WORKS IN PART", "fail FamilyNotServed"
    ),
    "a field that cannot be used": Case(
        "more/wrong", POD, "10.96.1.60", "answered", "LOOK AT THIS", "warn InvalidField"
    ),
    "a port of nfproxy's own": Case(
        "more/taken", POD, "10.96.1.70", "answered", "WORKS IN PART", "fail FrontendRefused", 10256
    ),
    "a port that the Service has not": Case(
        "10.96.0.10:443", POD, "10.96.0.10", "refused", "REFUSES", "fail UnknownPort", 443
    ),
    "an address that no Service has": Case(
        "10.96.0.99:80", POD, "10.96.0.99", "dropped", "DROPS", "fail UnallocatedAddress"
    ),
    "a node port that no Service has": Case(
        ":30099", OUTSIDE, "192.168.77.11", "refused", "NOT SERVED", "fail UnknownPort", 30099
    ),
    "a node port on loopback": Case(
        "127.0.0.1:30080", NODE, "127.0.0.1", "refused", "REFUSES", "fail NodePortLoopback", 30080
    ),
    "an address of a pod that gets nothing": Case(
        "10.244.1.15:8080", POD, "10.244.1.15", "answered", "GETS NO CONNECTIONS", "fail NoneReady",
        8080,
    ),
    "headless": Case("shop/peers", POD, "", "", "nfproxy does not serve it", "note Headless"),
    "ExternalName": Case("shop/elsewhere", POD, "", "", "does not serve it", "note ExternalName"),
    "another proxy's": Case(
        "shop/mesh", POD, "10.96.0.110", "dropped", "does not serve it", "warn ProxiedByOther"
    ),
    "an endpoint is a cluster IP": Case(
        "more/chain", POD, "10.96.1.80", "dropped", "DROPS", "fail EndpointIsService"
    ),
    "no source range is valid": Case(
        "203.0.113.90:80", OUTSIDE, "203.0.113.90", "dropped", "DROPS",
        "fail SourceRange, warn InvalidField, warn InvalidField, warn InvalidField",
    ),
    "a cluster IP in the range of pods": Case(
        "more/overlap", POD, "10.244.1.200", "answered", "LOOK AT THIS", "warn FrontendShadows"
    ),
    "one of two ports has no endpoint": Case(
        "more/two", POD, "10.96.1.100", "answered", "http works; admin REFUSES",
        "fail PortNotInSlices",
    ),
    "one of two families has no endpoint": Case(
        "more/dual", POD, "fd00:10:96::30", "refused", "IPv4 works; IPv6 REFUSES",
        "fail FamilyNotServed",
    ),
    "no load balancer": Case(
        "more/waiting", POD, "10.96.1.50", "answered", "works", "note NoLoadBalancer"
    ),
}  # fmt: skip


def _service(name: str, ip: str, **spec: object) -> dict[str, object]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "more"},
        "spec": {"clusterIP": ip, "ports": ports, "selector": {"app": name}} | spec,
    }


def _slice(service: str, *addresses: str, **fields: object) -> dict[str, object]:
    labels = {"kubernetes.io/service-name": service}
    ends = [{"addresses": [address], "nodeName": "node-1"} for address in addresses]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-1", "namespace": "more", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": ends,
    } | fields


HINTED = {"addresses": ["10.244.1.13"], "hints": {"forZones": [{"name": "east"}]}}
LEAVING = {
    "addresses": ["10.244.1.13"],
    "nodeName": "node-1",
    "conditions": {"ready": False, "serving": True, "terminating": True},
}
MORE = [
    _service("dns", "10.96.1.10"),
    _slice("dns", "10.244.1.13", ports=[{"name": "http", "port": 8080, "protocol": "UDP"}]),
    _service("leaving", "10.96.1.95", externalIPs=["203.0.113.95"], externalTrafficPolicy="Local"),
    _slice("leaving", endpoints=[LEAVING, {"addresses": ["10.244.2.13"], "nodeName": "node-2"}]),
    _service("lost", "10.96.1.20"),
    _slice("lost"),
    _service("zones", "10.96.1.30"),
    _slice("zones", endpoints=[HINTED]),
    _service("six", "fd00:10:96::20", ipFamilies=["IPv6"]),
    _slice("six", "10.244.1.13"),
    _service("outer", "10.96.1.40", externalIPs=["2001:db8::7"]),
    _slice("outer", "10.244.1.13"),
    _service("waiting", "10.96.1.50", type="LoadBalancer"),
    _slice("waiting", "10.244.1.13"),
    _service(
        "taken",
        "10.96.1.70",
        externalIPs=["192.168.77.11"],
        ports=[{"name": "http", "port": 10256, "targetPort": 8080}],
    ),
    _slice("taken", "10.244.1.13"),
    _service("chain", "10.96.1.80"),
    _slice(
        "chain",
        ports=[{"name": "http", "port": 80}],
        endpoints=[{"addresses": ["10.96.0.10"]}],
    ),
    _service("overlap", "10.244.1.200"),
    _slice("overlap", "10.244.1.13"),
    _service("ranges", "10.96.1.90", type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.0/33"])
    | {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.90"}]}}},
    _slice("ranges", "10.244.1.13"),
    _service(
        "two", "10.96.1.100", ports=[{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    ),
    _slice("two", "10.244.1.13"),
    _service(
        "dual",
        "10.96.1.110",
        clusterIPs=["10.96.1.110", "fd00:10:96::30"],
        ipFamilies=["IPv4", "IPv6"],
    ),
    _slice("dual", "10.244.1.13"),
    _service("wrong", "10.96.1.60", externalIPs=["10.300.0.1"]),
    _slice("wrong", "10.244.1.13"),
]


@pytest.fixture(scope="module")
def tried(lasting: Incident) -> Mapping[str, Outcome]:
    """What became of each client's connection."""
    path = lasting.manifests / "more.yaml"
    path.write_text(yaml.safe_dump_all(MORE))
    wait_until(lambda: "10.96.1.60" in lasting.on_node("nft list table ip nfproxy"))
    cluster = lasting.cluster
    hosts = {POD: cluster.pod(1, 2), OUTSIDE: cluster.client, NODE: lasting.node}
    cases = {name: case for name, case in CASES.items() if case.address}
    probes = [Probe(hosts[c.client], c.address, c.port, Protocol.TCP) for c in cases.values()]
    return dict(zip(cases, probe_many(probes), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_in_objects(lasting: Incident, tried: Mapping[str, Outcome], name: str) -> None:
    case = CASES[name]
    if case.becomes == "lost":  # dropped on the way, or without a route
        assert not tried[name].answered
    elif case.address:
        assert tried[name].verdict.value == case.becomes, tried[name]

    answer = lasting.explain(case.what)

    serious = [code for code in answer.codes if not code.startswith("note")]
    if case.codes.startswith("note"):
        assert (serious, case.codes in answer.codes) == ([], True), answer.codes
    else:
        assert serious == case.codes.split(", ") * bool(case.codes)
    assert case.says in answer.first_line
    assert answer.exit_status == ("fail" in case.codes)
