"""Endpoints that several frontends of a service port share."""

import tracemalloc

import pytest
from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import MemoryProxy, one_at_a_time
from support.kernel.tables import dump, meaning
from support.objects.model import changes, endpoint, endpoint_slice, service

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.endpoints import EndpointSlice, SlicePort
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.nft import schema
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.script import fresh_elements
from nfproxy.reconcile.tracker import LINGER_S

V4 = Family.IPV4
LISTS = schema.LIST_ENDPOINTS[Protocol.TCP]
OWN = schema.ENDPOINTS[Protocol.TCP]
ADDRESSES = tuple(f"198.51.100.{n}" for n in range(1, 9))


def web(*, addresses: tuple[str, ...] = ADDRESSES, **more: object) -> Service:
    return service(external_ips=addresses, node_port=30080, **more)  # type: ignore[arg-type]


def endpoints(count: int, *, first: int = 1) -> EndpointSlice:
    return endpoint_slice(
        "web",
        *(
            endpoint(f"10.244.{n // 250}.{n % 250 + 1}", "node-1" if n % 3 == 0 else "node-2")
            for n in range(first, first + count)
        ),
    )


@pytest.fixture
def proxy() -> MemoryProxy:
    return MemoryProxy(FlakyKernel())


def count(proxy: MemoryProxy, *names: str) -> int:
    return sum(len(proxy.kernel.elements(V4, name)) for name in names or LISTS)


def test_a_service_costs_its_addresses_and_its_endpoints(proxy: MemoryProxy):
    """Ports x (addresses + endpoints) elements, not ports x addresses x endpoints."""
    ports = [ServicePort(f"p{n}", Protocol.TCP, n, 0) for n in range(1, 41)]
    proxy.put(
        service(ports=ports, external_ips=[f"198.51.100.{n}" for n in range(50)]),
        endpoint_slice(
            "web",
            *(f"10.244.1.{n}" for n in range(60)),
            ports=[SlicePort(p.name, p.protocol, 8080) for p in ports],
        ),
    )
    total = sum(len(elements) for elements in dump(proxy.kernel).values())

    assert count(proxy) == 40 * 60
    assert not count(proxy, OWN)
    assert total < 40 * (51 + 60) + 100


def test_few_addresses_keep_slots_of_their_own(proxy: MemoryProxy):
    """A cluster IP, and one with a node port, whatever the number of endpoints."""
    proxy.put(web(addresses=()), endpoints(90))

    assert count(proxy) == 0
    assert count(proxy, OWN) == 90


def test_one_endpoint_more_or_less_changes_one_element(proxy: MemoryProxy):
    """No verdict changes and no chain is loaded, up to the list's size."""
    proxy.put(web(), endpoints(33))
    for number in (*range(34, 49), *range(47, 32, -1)):
        report = proxy.put(endpoints(number))
        assert (report.operations, report.chains_made) == (1, 0)
        assert len(report.frontends) == 10
    assert proxy.put(endpoints(33, first=2)).operations == 2
    assert proxy.linger() == 0


def test_another_size_needs_other_chains_and_no_other_elements(proxy: MemoryProxy):
    """All frontends go over to them in the transaction that adds the endpoint."""
    proxy.put(web(), endpoints(48))
    seen: list[tuple[int, str]] = []
    proxy.kernel.watch = lambda: seen.append((count(proxy), proxy.verdict("198.51.100.3")[-6:]))
    report = proxy.put(endpoints(49))

    assert report.chains_made == 3  # it draws, and there are two policies
    assert seen == [(48, "tcp-48"), (49, "tcp-64")]
    assert {proxy.verdict(a)[-6:] for a in ("10.96.0.1", *ADDRESSES)} == {"tcp-64"}


@pytest.mark.parametrize("local", [False, True])
def test_a_second_address_may_begin_and_end_sharing(proxy: MemoryProxy, local: bool):
    """What the old verdicts draw from stays until no packet can draw from it."""
    policy = {"external_local": local}
    proxy.put(web(addresses=(), **policy), endpoints(90))
    own = count(proxy, OWN)
    for _ in range(2):
        proxy.put(web(addresses=ADDRESSES[:1], **policy))
        assert count(proxy) == 90 + 30 * local
        assert count(proxy, OWN) == own
        proxy.linger()
        assert not count(proxy, OWN)
        proxy.put(web(addresses=(), **policy))
        assert (count(proxy), count(proxy, OWN)) == (90 + 30 * local, own)
        proxy.linger()
        assert not count(proxy)


def test_a_restart_keeps_the_slots_it_finds(proxy: MemoryProxy):
    """Nothing is written, and the chains are known by their names."""
    proxy.put(web(external_local=True), endpoints(90))
    proxy.put(endpoints(80, first=15))
    before = dump(proxy.kernel)
    successor = proxy.successor()

    assert successor.resync().operations == 0
    assert successor.linger() == 0
    assert before == dump(proxy.kernel)


def test_a_restart_mends_a_list(proxy: MemoryProxy):
    """A gap, another endpoint, slots too many, and a list of no Service."""
    proxy.put(web(), endpoints(40))
    right = meaning(proxy.kernel)
    maps = proxy.kernel.tables[V4].elements
    (name,) = (name for name in LISTS if maps[name])
    held = maps[name]
    keys = sorted(held, key=lambda key: schema.number_of(key, 8))
    del held[keys[5]]
    held[keys[7]] = held[keys[8]]
    held[keys[0][:8] + schema.number_bytes(schema.CLUSTER_BASE + 77)] = held[keys[1]]
    held[keys[0][:4] + bytes(8)] = held[keys[1]]
    next(maps[other] for other in LISTS if other != name)[keys[0]] = held[keys[1]]
    successor = proxy.successor()
    successor.resync()
    successor.linger()

    assert right == meaning(proxy.kernel)


def test_everything_committed_is_read_back(proxy: MemoryProxy):
    """Lists are no strays."""
    proxy.put(web(external_local=True), endpoints(50))
    observed = observe(proxy.kernel.elements, FAMILIES)

    (state,) = observed.lists.values()
    assert [len(slots) for slots in state.slot_ranges] == [16, 50]
    assert not observed.strays


def test_a_list_that_returns_while_it_lingers_stays(proxy: MemoryProxy):
    """Endpoints go and come back: what is in the kernel serves again."""
    proxy.put(web(), endpoints(40))
    proxy.put(endpoints(0))
    assert proxy.verdict("10.96.0.1") == "goto reject-connection"
    assert count(proxy) == 40
    proxy.now += LINGER_S / 2
    assert proxy.put(endpoints(40)).operations == 10 * 2
    proxy.linger()
    assert count(proxy) == 40
    proxy.remove(web())
    proxy.linger()
    assert not count(proxy)
    proxy.idle()
    assert not [name for name in proxy.chains() if name.startswith(("list-", "draw-"))]


def test_a_hostile_service_takes_bounded_memory(proxy: MemoryProxy):
    """100 ports at 100 addresses, with 100 endpoints and 1,000 ranges, made 11 million elements."""
    ports = [ServicePort(f"p{n}", Protocol.TCP, n, 0) for n in range(1, 101)]
    made = service(
        ports=ports,
        load_balancer_ips=[f"198.51.100.{n}" for n in range(100)],
        source_ranges=[f"10.{n // 250}.{n % 250}.0/28" for n in range(1000)],
    )
    piece = endpoint_slice(
        "web",
        *(f"10.244.1.{n}" for n in range(100)),
        ports=[SlicePort(p.name, p.protocol, 8080) for p in ports],
    )
    tracemalloc.start()
    try:
        planner = Planner(proxy.planner.config)
        planner.apply(changes(made, piece))
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    elements = [o for o in fresh_elements(planner.desired, V4).values() for _ in o]

    assert len(elements) == 16 + 1 + 1000 + 100 * (101 + 100 + 100)
    assert used_bytes < 30 << 20


def test_all_chains_of_a_service_come_with_its_first_transaction(proxy: MemoryProxy):
    """A Service that takes many transactions waits for the child process once."""
    ports = [ServicePort(f"p{n}", Protocol.TCP, n, 0) for n in range(1, 41)]
    slice_ports = [SlicePort(p.name, p.protocol, 8080) for p in ports]
    piece = endpoint_slice("web", *(f"10.244.1.{n}" for n in range(30)), ports=slice_ports)
    proxy.reconciler.touch(
        proxy.planner.apply(changes(service(ports=ports, external_ips=ADDRESSES), piece))
    )
    proxy.kernel.transaction_limit = 40_000
    with one_at_a_time():
        made = [proxy.reconciler.sync().chains_made]
        while len(proxy.reconciler._tracker.backlog):
            made.append(proxy.reconciler.sync().chains_made)

    assert len(made) > 5
    assert len([count for count in made if count]) == 1
    assert sum(made) == 40 * 3
    proxy.idle()
    assert len([name for name in proxy.chains() if name.startswith("draw-")]) == 40
