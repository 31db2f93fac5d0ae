"""
The packet harness reports what happens: rules written by hand, what they do read from probes.

Every claim about a rule is tried without the rule first, so none can pass by accident.
"""

import itertools

import pytest
from support.kernel import rules
from support.packets.sending import Probe, Verdict, probe, probe_many, repeat, tally
from support.packets.steps import Streams
from support.responders import Responders
from support.traffic import HELD_PORTS, Traffic

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster, Host

pytestmark = pytest.mark.doubles

PORT = 8080

families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.label)
protocols = pytest.mark.parametrize("protocol", Protocol, ids=lambda protocol: protocol.word)


@pytest.fixture(scope="module")
def served(cluster: Cluster, responders: Responders) -> Cluster:
    """The cluster, with every host answering on one port over every protocol."""
    for host in cluster.hosts:
        for protocol in Protocol:
            responders.listen(host, PORT, protocol)
    return cluster


@pytest.fixture(autouse=True)
def no_rules(served: Cluster) -> None:
    """Begin each test without rules on the nodes."""
    for node in served.nodes:
        rules.flush(node)


def service(family: Family, last: int = 1) -> str:
    """Return an address from the service range, which no host has."""
    return f"10.96.0.{last}" if family is Family.IPV4 else f"fd00:10:96::{last}"


def program(node: Host, family: Family, rule: str, *, hooks: tuple[str, ...] = ()) -> None:
    """Load one rule into chains at the nat hooks named, by default prerouting and output."""
    chains = "\n".join(
        f"chain nat-{hook} {{ type nat hook {hook} priority -100\n {rule}\n }}"
        for hook in hooks or ("prerouting", "output")
    )
    # a nat chain sees nothing until something in the namespace needs conntrack
    needs_conntrack = "chain any { ct state new counter\n }"
    rules.load(node, f"table {family.table} test {{ {needs_conntrack}\n {chains}\n }}")


def to(family: Family, protocol: Protocol, what: str, *, last: int = 1, port: int = 80) -> str:
    """Return a rule that does `what` to packets to a service address and port."""
    return f"{family.table} daddr {service(family, last)} {protocol.word} dport {port} {what}"


def dnat(host: Host, family: Family) -> str:
    """Return the translation to where `host` answers."""
    address = host.address(family)
    return f"dnat to [{address}]:{PORT}" if family is Family.IPV6 else f"dnat to {address}:{PORT}"


@families
@protocols
def test_everyone_reaches_everyone(served: Cluster, family: Family, protocol: Protocol) -> None:
    """Without rules every host answers every host, itself too, and sees its own address."""
    pairs = list(itertools.product(served.hosts, repeat=2))
    outcomes = probe_many(Probe(a, b.address(family), PORT, protocol) for a, b in pairs)

    expected = [(b.name, a.address(family)) for a, b in pairs]
    assert expected == [(one.by, one.seen_address) for one in outcomes]
    assert [one.source_port for one in outcomes] == [one.seen_port for one in outcomes]


@families
@protocols
def test_closed_port_is_refused(served: Cluster, family: Family, protocol: Protocol) -> None:
    """A port where no process listens refuses at once."""
    assert probe(served.client, served.pod(2, 1).address(family), 81, protocol).refused


@families
@protocols
def test_unknown_address_is_silent(served: Cluster, family: Family, protocol: Protocol) -> None:
    """A service address without rules leads to silence, from inside and outside."""
    sources = (served.client, served.nodes[0], served.nodes[1], served.pod(1, 1))
    outcomes = probe_many(Probe(one, service(family), 80, protocol) for one in sources)

    assert [Verdict.DROPPED] * len(sources) == [one.verdict for one in outcomes]


@families
@protocols
def test_translation(served: Cluster, family: Family, protocol: Protocol) -> None:
    """Translated packets arrive with the source they left with, and the answer comes back."""
    node, pod = served.nodes[0], served.pod(2, 1)
    sources = (served.client, node, served.pod(1, 1))
    probes = [Probe(one, service(family), 80, protocol) for one in sources]
    # its answers go straight to the client, so they come from an address it did not ask
    expected = [("", ""), *((pod.name, one.address(family)) for one in sources[1:])]

    assert not any(one.answered for one in probe_many(probes))
    program(node, family, to(family, protocol, dnat(pod, family)))
    assert expected == [(one.by, one.seen_address) for one in probe_many(probes)]


@families
@protocols
def test_masquerade(served: Cluster, family: Family, protocol: Protocol) -> None:
    """With masquerade the answer finds its way, and the pod sees the node."""
    node, pod = served.nodes[0], served.pod(2, 1)

    program(node, family, to(family, protocol, dnat(pod, family)))
    assert probe(served.client, service(family), 80, protocol).dropped
    _masquerade(node, family)
    outcome = probe(served.client, service(family), 80, protocol)
    assert (outcome.by, outcome.seen_address) == (pod.name, node.address(family))
    assert outcome.masqueraded


@families
@protocols
def test_neighbours_on_one_node(served: Cluster, family: Family, protocol: Protocol) -> None:
    """A pod reaches another of its node through a service without masquerade."""
    pod, other = served.pod(1, 1), served.pod(1, 2)
    program(served.nodes[0], family, to(family, protocol, dnat(other, family)))

    outcome = probe(pod, service(family), 80, protocol)
    assert (outcome.by, outcome.seen_address) == (other.name, pod.address(family))


@families
@protocols
def test_hairpin_needs_masquerade(served: Cluster, family: Family, protocol: Protocol) -> None:
    """A pod reaches itself through a service only if it is masqueraded."""
    node, pod = served.nodes[0], served.pod(1, 1)
    program(node, family, to(family, protocol, dnat(pod, family)))

    assert probe(pod, service(family), 80, protocol).dropped
    _masquerade(node, family)
    outcome = probe(pod, service(family), 80, protocol)
    assert (outcome.by, outcome.masqueraded) == (pod.name, True)


@families
@protocols
def test_reject_and_drop_differ(served: Cluster, family: Family, protocol: Protocol) -> None:
    """A rejected packet is refused at once, a dropped one is silence: inside and outside."""
    sources = (served.client, served.nodes[0], served.pod(1, 1))
    probes = [Probe(one, service(family), 80, protocol) for one in sources]

    program(served.nodes[0], family, to(family, protocol, "drop"))
    assert tally(probe_many(probes)) == {"dropped": 3}
    rules.flush(served.nodes[0])
    program(served.nodes[0], family, to(family, protocol, "reject"))
    assert tally(probe_many(probes)) == {"refused": 3}


@families
@protocols
def test_many_at_once(served: Cluster, family: Family, protocol: Protocol) -> None:
    """Every one of many probes is a connection of its own, and none is lost."""
    pods = (served.pod(1, 1), served.pod(2, 1))
    one, two = (pod.address(family) for pod in pods)
    targets = f"{{ 0 : {one} . {PORT}, 1 : {two} . {PORT} }}"
    balance = f"dnat {family.table} to numgen inc mod 2 map {targets}"
    program(served.nodes[0], family, to(family, protocol, balance))

    tallied = repeat(200, served.nodes[0], service(family), 80, protocol)
    assert {pods[0].name: 100, pods[1].name: 100} == tallied


@families
@protocols
def test_second_client_address(served: Cluster, family: Family, protocol: Protocol) -> None:
    """A probe can choose among the addresses of its host, and its port."""
    second = served.client.addresses[1].of(family)
    pod = served.pod(1, 1).address(family)
    program(served.nodes[0], family, f"{family.table} saddr {second} drop", hooks=("prerouting",))

    assert probe(served.client, pod, PORT, protocol).answered
    assert probe(served.client, pod, PORT, protocol, source_address=second).dropped
    rules.flush(served.nodes[0])
    outcome = probe(served.client, pod, PORT, protocol, source_address=second, source_port=61234)
    assert (outcome.seen_address, outcome.seen_port) == (second, 61234)


@families
def test_connections_are_listed(served: Cluster, family: Family) -> None:
    """The conntrack table shows a probe's connection."""
    program(served.nodes[0], family, to(family, Protocol.UDP, dnat(served.pod(1, 1), family)))
    outcome = probe(served.pod(1, 2), service(family), 80, Protocol.UDP)

    over_udp = [line for line in rules.connections(served.nodes[0]) if " udp " in line]
    assert len([line for line in over_udp if f"={outcome.source_port} " in line]) == 1


def test_rules_are_listed(served: Cluster) -> None:
    """What was loaded can be read as text and as JSON."""
    rules.load(served.nodes[0], "table ip seen { chain one { }\n }")

    assert "chain one" in rules.listing(served.nodes[0], "table", "ip", "seen")
    names = [one["table"]["name"] for one in rules.listing_json(served.nodes[0]) if "table" in one]
    assert names == ["seen"]
    assert "table" not in rules.listing(served.nodes[1])


@families
@protocols
def test_traffic_without_loss(served: Cluster, family: Family, protocol: Protocol) -> None:
    """With rules that only change between good ones, traffic reports nothing."""
    node, pod, other = served.nodes[0], served.pod(1, 1), served.pod(2, 1)
    program(node, family, to(family, protocol, dnat(pod, family)))
    held = 2 if protocol is Protocol.TCP else 0
    with Traffic(node, service(family), 80, protocol, rate=300, held=held) as traffic:
        traffic.wait_for(20)
        chains = "\n".join(
            f"flush chain {family.table} test nat-{hook}\n"
            f"add rule {family.table} test nat-{hook} {to(family, protocol, dnat(other, family))}"
            for hook in ("prerouting", "output")
        )
        rules.load(node, chains)
        traffic.wait_for(20)

    assert traffic.failures == []
    assert {pod.name, other.name} == set(traffic.answers)
    assert traffic.sent == traffic.answered


@families
@protocols
def test_traffic_counts_each_loss(served: Cluster, family: Family, protocol: Protocol) -> None:
    """One dropped first packet in the middle is one failure, neither more nor less."""
    pod = served.pod(2, 1)
    with Traffic(served.client, pod.address(family), PORT, protocol, rate=300) as traffic:
        traffic.wait_for(20)
        only_once = f"{protocol.word} dport {PORT} limit rate 1/hour burst 1 packets drop"
        program(served.nodes[1], family, only_once, hooks=("prerouting",))
        traffic.wait_for(300)

    assert len(traffic.failures) == 1
    assert "dropped" in traffic.failures[0].reason
    (text,) = Streams(traffic).lost
    assert text.startswith(
        f"{protocol.word} to {pod.address(family)}: {traffic.failures[0].reason}"
    )
    assert traffic.sent == traffic.answered + 1


@families
def test_held_connections_notice(served: Cluster, family: Family) -> None:
    """Connections that are held fail when their packets are dropped or reset."""
    pod = served.pod(2, 1)
    held = f"tcp dport {PORT} tcp sport {HELD_PORTS[0]}-{HELD_PORTS[-1]}"
    for what, reason in (("drop", "no echo"), ("reject with tcp reset", "ECONNRESET")):
        with Traffic(served.client, pod.address(family), PORT, rate=50, held=3) as traffic:
            rules.load(
                served.nodes[1],
                f"table {family.table} test {{ chain forward {{\n"
                f"type filter hook forward priority 0\n {held} {what}\n }}\n }}",
            )
            traffic.wait_for(60)
        rules.flush(served.nodes[1])
        assert [reason in one.reason for one in traffic.failures] == [True] * 3


def _masquerade(node: Host, family: Family) -> None:
    rules.load(
        node,
        f"table {family.table} test {{ chain nat-postrouting {{\n"
        "type nat hook postrouting priority 100\n ct status dnat masquerade\n }\n }",
    )
