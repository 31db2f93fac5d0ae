"""What the reconciler makes of the clients that are remembered."""

from __future__ import annotations

from support.kernel.memoryproxy import MemoryProxy
from support.objects.model import changes, service
from support.objects.web import A, B, C, web

from nfproxy.model.addresses import Family, parse_address
from nfproxy.nft.chains import FIXED_CHAINS


def record(proxy: MemoryProxy, client: str, endpoint: str, which: int = 0) -> bytes:
    """Note a client on one of the desired lists; return its key."""
    number = sorted(k.number for k in proxy.planner.desired.affinity_lists)[which]
    key = parse_address(client) + number
    proxy.kernel.record(Family.IPV4, key, parse_address(endpoint))
    return key


STICKY = service("web", affinity_timeout_s=30)


def entries(proxy: MemoryProxy) -> set[bytes]:
    return {key for key, _ in proxy.kernel.affinity_entries(Family.IPV4, [b""])}


def test_an_endpoints_entries_go_with_it(proxy: MemoryProxy):
    """A client is not sent to an endpoint that left; other clients keep theirs."""
    proxy.put(STICKY, web(A, B))
    leaving, staying = record(proxy, "192.0.2.1", A), record(proxy, "192.0.2.2", B)
    proxy.put(web(B))

    assert leaving not in entries(proxy)
    assert staying in entries(proxy)


def test_an_entry_that_came_too_late_goes_as_well(proxy: MemoryProxy):
    """A packet on its way may record an endpoint just after it left; one more look finds it."""
    proxy.put(STICKY, web(A, B))
    proxy.put(web(B))
    late = record(proxy, "192.0.2.1", A)
    proxy.linger()

    assert late not in entries(proxy)


def test_an_entry_that_came_too_late_at_a_takeover_goes_as_well(proxy: MemoryProxy):
    """
    After a reading of the tables all lists are looked at twice: which endpoints left is unknown.
    """
    proxy.put(STICKY, web(A, B))
    successor = proxy.successor()
    successor.planner.apply(changes(web(B)))
    successor.resync()
    late = record(successor, "192.0.2.1", A)
    successor.linger()

    assert late not in entries(proxy)


def test_another_timeout_rewrites_the_chain_that_records(proxy: MemoryProxy):
    """The chain keeps its name, and gets the new rule before anything else happens."""
    proxy.put(STICKY, web(A))
    proxy.put(service("web", affinity_timeout_s=60))
    rules = proxy.kernel.tables[Family.IPV4].rules
    (record,) = (name for name in rules.keys() - set(FIXED_CHAINS) if name.startswith("record-"))

    assert "timeout 60s" in rules[record][0]


def test_a_takeover_keeps_clients_where_they_are(proxy: MemoryProxy):
    """Entries that are still right survive a restart, others do not."""
    proxy.put(STICKY, web(A, B))
    right, wrong = record(proxy, "192.0.2.1", A), record(proxy, "192.0.2.2", C)
    proxy.successor().resync()

    assert entries(proxy) == {right}
    assert wrong not in entries(proxy)
