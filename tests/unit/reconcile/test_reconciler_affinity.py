"""What the reconciler makes of the clients that are remembered."""

from __future__ import annotations

import pytest
from support.kernel.memoryproxy import MemoryProxy
from support.objects.model import changes, endpoint_slice, service
from support.objects.web import A, B, web

from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.nft.chains import FIXED_CHAINS, is_clients_map
from nfproxy.nft.endpointnumbers import endpoint_number

V4 = Family.IPV4
STICKY = service("web", affinity_timeout_s=30)
FREE = service("web")
FRONTEND = parse_address("10.96.0.1") + schema.protocol_bytes(6) + schema.port_bytes(80)


def number(endpoint: str) -> bytes:
    """Return an endpoint's number as the kernel remembers it."""
    packed = parse_address(endpoint) + schema.port_bytes(8080)
    return schema.number_bytes(endpoint_number(packed))


def record(proxy: MemoryProxy, client: str, endpoint: str) -> tuple[str, bytes]:
    """Remember a client; return where."""
    (clients,) = maps(proxy)
    packed = parse_address(client)
    proxy.kernel.record(V4, clients, packed, number(endpoint))
    return clients, packed


def maps(proxy: MemoryProxy) -> list[str]:
    return [name for name in proxy.kernel.set_names(V4) if is_clients_map(name)]


def led_to(proxy: MemoryProxy, where: tuple[str, bytes]) -> str | None:
    """Return the endpoint that a remembered client is led to; None: it gets another."""
    held = proxy.kernel.clients(V4)[where]
    maps = schema.AFFINITY_ENDPOINTS[Protocol.TCP]
    for key, value in (e for name in maps for e in proxy.kernel.elements(V4, name)):
        if key[-4:] == held:
            assert isinstance(value, bytes)
            return ".".join(str(byte) for byte in value[:4])
    return None


def held(proxy: MemoryProxy, name: str) -> str:
    return str(dict(proxy.kernel.elements(V4, name)).get(FRONTEND, ""))


def test_an_endpoint_leaves_for_all_its_clients_at_once(proxy: MemoryProxy):
    """A client is not led to an endpoint that left; other clients keep theirs."""
    proxy.put(STICKY, web(A, B))
    leaving, staying = record(proxy, "192.0.2.1", A), record(proxy, "192.0.2.2", B)
    proxy.put(web(B))

    assert led_to(proxy, leaving) is None
    assert led_to(proxy, staying) == B


@pytest.mark.parametrize("clients", [0, 1000])
def test_what_a_leaving_endpoint_costs_does_not_depend_on_its_clients(
    proxy: MemoryProxy, clients: int
):
    """One element of its list beside its slot, and nothing is read."""
    proxy.put(STICKY, web(A, B))
    for index in range(clients):
        record(proxy, f"192.0.{index // 250}.{index % 250}", A)
    reads, operations = proxy.kernel.reads, proxy.kernel.operations
    proxy.put(web(B))
    proxy.linger()

    assert proxy.kernel.reads == reads
    # the slot moved (2), the verdict in the map for new clients (2), the last slot, the list
    assert proxy.kernel.operations - operations <= 6


def test_a_start_does_not_read_the_clients(proxy: MemoryProxy):
    """There may be very many."""
    proxy.put(STICKY, web(A, B))
    record(proxy, "192.0.2.1", A)
    before = proxy.kernel.reads
    proxy.successor().resync()

    assert proxy.kernel.reads - before == 2 * len(schema.SCHEMAS)


def test_another_timeout_rewrites_the_chain_that_records(proxy: MemoryProxy):
    """The chain keeps its name, and gets the new rule before anything else happens."""
    proxy.put(STICKY, web(A))
    where = record(proxy, "192.0.2.1", A)
    proxy.put(service("web", affinity_timeout_s=60))
    rules = proxy.kernel.tables[V4].rules
    (chain,) = (name for name in rules.keys() - set(FIXED_CHAINS) if name.startswith("record-"))

    assert "timeout 60s" in rules[chain][0]
    assert led_to(proxy, where) == A


def test_a_takeover_keeps_clients_where_they_are(proxy: MemoryProxy):
    """Those of endpoints that went meanwhile get others."""
    proxy.put(STICKY, web(A, B))
    right, wrong = record(proxy, "192.0.2.1", A), record(proxy, "192.0.2.2", B)
    successor = proxy.successor()
    successor.planner.apply(changes(web(A)))
    successor.resync()

    assert led_to(successor, right) == A
    assert led_to(successor, wrong) is None


def test_a_sticky_frontend_has_its_balancing_chain_in_a_map_of_its_own(proxy: MemoryProxy):
    """No map with all sticky frontends is behind another one: the kernel checks each way."""
    proxy.put(STICKY, web(A, B))

    assert held(proxy, schema.FRONTENDS).startswith("jump affinity-")
    assert held(proxy, schema.STICKY_FRONTENDS) == "goto cluster-tcp-2"


def test_a_packet_between_the_two_look_ups_still_finds_its_chain(proxy: MemoryProxy):
    """Where session affinity ends, the second verdict lingers; both ways and back at once."""
    proxy.put(STICKY, web(A, B))
    proxy.put(FREE)
    assert held(proxy, schema.FRONTENDS) == "goto cluster-tcp-2"
    assert held(proxy, schema.STICKY_FRONTENDS) == "goto cluster-tcp-2"
    proxy.put(STICKY, web(A))
    assert held(proxy, schema.FRONTENDS).startswith("jump affinity-")
    assert held(proxy, schema.STICKY_FRONTENDS) == "goto cluster-tcp-1"
    proxy.put(FREE)
    proxy.linger()
    assert held(proxy, schema.FRONTENDS) == "goto cluster-tcp-1"
    assert held(proxy, schema.STICKY_FRONTENDS) == ""


@pytest.mark.parametrize("restart", [False, True])
def test_a_map_of_clients_goes_with_its_chains(proxy: MemoryProxy, *, restart: bool):
    """Others stay, also after a restart, when what the unused chains did is unknown."""
    other = service("other", cluster_ips=("10.96.0.2",), affinity_timeout_s=30)
    proxy.put(STICKY, web(A), other, _endpoints_of_other())
    assert len(maps(proxy)) == 2
    process = proxy
    proxy.put(FREE)
    if restart:
        process = proxy.successor()
        process.resync()
    process.linger()
    assert len(maps(proxy)) == 2
    process.idle()

    (left,) = maps(proxy)
    chains = proxy.kernel.tables[V4].rules.keys() - set(FIXED_CHAINS)
    (chain,) = (one for one in chains if one.startswith("record-"))
    assert left == f"clients-{chain.removeprefix('record-')}-cluster"


def _endpoints_of_other() -> EndpointSlice:
    return endpoint_slice("other", B)
