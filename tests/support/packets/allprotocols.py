"""
One Service over TCP, UDP and SCTP, all of one port number, asked over all three at once.

For what must not depend on the protocol: one scene and one batch of packets shows it for each.
::

    with proxied(cluster, everywhere(ports=SERVICE_PORTS), slice_of(…, ports=SLICE_PORTS)):
        assert_reached({"pod-1-1", "pod-2-1"}, cluster.client, CLUSTER_IP.ipv4, 80)
"""

from __future__ import annotations

from support.packets.sending import Probe, probe_many
from support.packets.steps import ENDPOINT_PORT, NODE_PORT, SHORT_S, answers

from nfproxy.model.endpoints import SlicePort
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.tools.lab import Host

SERVICE_PORTS = tuple(ServicePort(p.word, p, 80, NODE_PORT) for p in Protocol)
SLICE_PORTS = tuple(SlicePort(p.word, p, ENDPOINT_PORT) for p in Protocol)

#: How often each protocol is asked at a time. One of up to four endpoints that should not be
#: served goes unseen once in a thousand times at most, over one protocol.
DRAWS = 24
#: How many times at most. That one of four endpoints is drawn in none of them has a chance of 1
#: to 10^15.
ROUNDS = 5


def assert_reached(expected: set[str], source: Host, destination: str, port: int) -> None:
    """
    Over each of the three protocols all of `expected`, and no other, answer.

    A verdict ("refused") stands for the answer where none comes. Asks again only where one
    of `expected` has not come yet.
    """
    seen: dict[Protocol, set[str]] = {protocol: set() for protocol in Protocol}
    for _ in range(ROUNDS):
        asked = [p for p, found in seen.items() if found < expected for _ in range(DRAWS)]
        if not asked:
            break
        probes = [Probe(source, destination, port, protocol) for protocol in asked]
        outcomes = answers(probe_many(probes, timeout_s=SHORT_S))
        for protocol, by in zip(asked, outcomes, strict=True):
            seen[protocol].add(by)
    wrong = {p.word: sorted(found) for p, found in seen.items() if found != expected}
    assert not wrong, (
        f"{source.name} to {destination} port {port}: {wrong}, expected {sorted(expected)}"
    )
