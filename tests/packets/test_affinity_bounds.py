"""
Session affinity has bounds: one Service's clients cost no other Service anything.

What is measured is a ratio within one run, as machines differ.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence

from support.kernel import rules
from support.kernel.real import clients_in
from support.objects.model import endpoint_slice, service
from support.packets.steps import Crowd, Proxy, endpoints_of, proxied

from nfproxy.daemon.kernelcounters import KernelCounters
from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol
from nfproxy.nft.chains import AffinityList
from nfproxy.nft.schema import MOST_CLIENTS
from nfproxy.tools.lab import Cluster, Host

V4 = Family.IPV4
FLOODED, OTHER = "10.96.0.20", "10.96.0.21"
SEED = 7

#: Remembered clients, where they must not matter.
CLIENTS = 100_000

#: So many clients are recorded by packets, and the others by the test: a packet takes its time.
PACKETS = 3000


def forged(host: Host, sources: Iterable[int], destination: str, port: int) -> None:
    """Send UDP datagrams with these source addresses."""
    raw = host.namespace.call(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    target = socket.inet_aton(destination)
    udp = struct.pack("!HHHH", 5353, port, 8 + 4, 0) + b"ping"
    with raw:
        for number, source in enumerate(sources):
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, 17, 0)
            raw.sendto(head + source.to_bytes(4, "big") + target + udp, (destination, 0))
            if number % 500 == 499:
                time.sleep(0.02)  # what the queues of the lab hold


def sources(count: int) -> Iterator[int]:
    """Yield different addresses of 100.64.0.0/10, in an order that the seed decides."""
    first = int.from_bytes(socket.inet_aton("100.64.0.0"), "big")
    yield from (first + host for host in random.Random(SEED).sample(range(1 << 22), count))


def fill(cluster: Cluster, clients: str, count: int) -> None:
    """Record clients in a map, in some transactions, as if their packets had come."""
    addresses = [socket.inet_ntoa(one.to_bytes(4, "big")) for one in sources(count)]
    for at in range(0, count, 10_000):
        elements = ", ".join(f"{address} : 4000:1" for address in addresses[at : at + 10_000])
        rules.load(cluster.nodes[0], f"add element ip nfproxy {clients} {{ {elements} }}\n")


def test_a_flood_of_one_service_s_clients_costs_no_other_service(
    served: Cluster, clients: Crowd
) -> None:
    """
    The map of a Service is filled with forged packets; another one's new clients are remembered.

    The flooded one works on, without affinity for further clients, and the metrics say so.
    """
    both = [
        service(name, cluster_ips=[address], protocol=Protocol.UDP, affinity_timeout_s=3600)
        for name, address in (("flooded", FLOODED), ("other", OTHER))
    ]
    slices = [
        piece
        for name in ("flooded", "other")
        for piece in endpoints_of(name, served.pods, protocol=Protocol.UDP)
    ]
    clients_map = AffinityList("default/flooded/udp/", "cluster").name
    readings = KernelCounters([V4]).affinity
    with proxied(served, *both, *slices):
        fill(served, clients_map, MOST_CLIENTS - PACKETS // 2)
        flood = list(sources(MOST_CLIENTS + PACKETS))[-PACKETS:]
        forged(served.client, flood, FLOODED, 80)

        held = [name for name, _ in clients_in(served.nodes[0].namespace, V4)]
        assert held.count(clients_map) == len(held) == MOST_CLIENTS
        use = served.nodes[0].namespace.call(readings)[V4]
        assert use.refused > 0
        assert use.clients in (None, MOST_CLIENTS)
        assert use.fullest in (None, 1.0)

        before = clients.who(OTHER, 80, Protocol.UDP)
        for _ in range(3):
            assert before == clients.who(OTHER, 80, Protocol.UDP)
        names = {pod.name for pod in served.pods}
        assert {*clients.who(FLOODED, 80, Protocol.UDP).values()} <= names


def seconds_of(proxy: Proxy, *states: Sequence[EndpointSlice], rounds: int = 15) -> float:
    """
    Return the processor time of programming one of these states in turn: a quarter took less.

    It includes the kernel's time for our requests, and on a busy machine no other process's.
    """
    took = []
    for pieces in states * rounds:
        began = time.process_time()
        proxy.put(*pieces)
        took.append(time.process_time() - began)
    # Not the least one: an emulated machine's clock jumps.
    return sorted(took)[len(took) // 4]


def test_programming_does_not_wait_for_remembered_clients(served: Cluster, clients: Crowd) -> None:
    """
    Services with 100,000 clients lose an endpoint and get it back, as fast as without any client.

    So do changes of a Service without affinity. A client whose endpoint left gets another at once.
    """
    names = ("first", "second")
    addresses = ("10.96.1.1", "10.96.1.2")
    sticky = [
        service(name, cluster_ips=[address], affinity_timeout_s=3600)
        for name, address in zip(names, addresses, strict=True)
    ]
    plain = service("plain", cluster_ips=["10.96.2.1"])
    plain_slices = [[endpoint_slice("plain", f"10.244.9.{number}")] for number in (1, 2)]
    whole, less = (
        [piece for name in names for piece in endpoints_of(name, pods)]
        for pods in (served.pods, served.pods[1:])
    )
    with proxied(served, plain, *sticky, *whole) as proxy:
        seconds_of(proxy, less, whole, rounds=2)  # makes the chains
        empty = seconds_of(proxy, *plain_slices), seconds_of(proxy, less, whole)
        before = clients.who(addresses[0], 80)
        for name in names:
            fill(
                served, AffinityList(f"default/{name}/tcp/", "cluster").name, CLIENTS // len(names)
            )
        full = seconds_of(proxy, *plain_slices), seconds_of(proxy, less, whole)
        ratios = [one / other for one, other in zip(full, empty, strict=True)]
        assert before == clients.who(addresses[0], 80)

        leaving = next(pod for pod in served.pods if pod.name in before.values())
        proxy.put(*endpoints_of(names[0], [pod for pod in served.pods if pod is not leaving]))
        after = clients.who(addresses[0], 80)
        assert leaving.name not in after.values()
        assert after == {k: v if v != leaving.name else after[k] for k, v in before.items()}
    print(f"a plain change {ratios[0]:.2f}, a sticky one {ratios[1]:.2f} times as long")
    assert max(ratios) < 3  # 10 to 100 where the clients are read
