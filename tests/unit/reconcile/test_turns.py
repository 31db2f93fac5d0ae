"""What waits for what while a change goes on in several transactions."""

from collections.abc import Iterator

import pytest
from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import MemoryProxy, transactions_of
from support.objects.model import endpoint, endpoint_slice, service

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol, Service
from nfproxy.nft import schema
from nfproxy.reconcile.syncreport import Report

LISTS = schema.LIST_ENDPOINTS[Protocol.TCP]
ADDRESSES = tuple(f"198.51.100.{n}" for n in range(1, 9))


@pytest.fixture
def proxy() -> MemoryProxy:
    return MemoryProxy(FlakyKernel())


def listed(proxy: MemoryProxy) -> int:
    """Return how many endpoints there are in all lists."""
    return sum(len(proxy.kernel.elements(Family.IPV4, name)) for name in LISTS)


def rest(proxy: MemoryProxy, report: Report) -> Iterator[Report]:
    """Yield after each transaction, until nothing waits."""
    yield report
    while report.left:
        report = proxy.resync()
        yield report


def web(name: str, cluster_ip: str, *addresses: str, **more: object) -> Service:
    return service(name, cluster_ips=(cluster_ip,), external_ips=addresses, **more)  # type: ignore[arg-type]


def endpoints(name: str, count: int) -> EndpointSlice:
    return endpoint_slice(name, *(f"10.244.1.{n}" for n in range(1, count + 1)))


def test_a_frontend_that_goes_over_to_another_service_waits_for_its_list(proxy: MemoryProxy):
    """The older Service claims an address whose frontend waits already, for the other one."""
    taken = "198.51.100.1"
    proxy.put(endpoints("a", 40))
    with transactions_of(4):
        proxy.put(web("b", "10.96.0.2", taken, created="2024-01-01T00:00:00Z"))
        change = web("a", "10.96.0.1", *ADDRESSES, created="2023-01-01T00:00:00Z")
        proxy.put(endpoints("b", 40))
        for _ in rest(proxy, proxy.put(change)):
            if proxy.verdict(taken).startswith("goto list-"):
                assert listed(proxy) == 40


def test_a_list_stays_until_the_last_frontend_has_left_it(proxy: MemoryProxy):
    """Sharing ends in many transactions, and what is tidied in between is of no use to anyone."""
    addresses = [f"198.51.100.{n}" for n in range(1, 31)]
    proxy.put(web("a", "10.96.0.1", *addresses), endpoints("a", 10))
    assert proxy.verdict(addresses[0]).startswith("goto list-")
    with transactions_of(4):
        for _ in rest(proxy, proxy.put(endpoints("a", 2))):
            proxy.linger()
            if any(proxy.verdict(one).startswith("goto list-") for one in addresses):
                assert listed(proxy)
    proxy.linger()
    assert not listed(proxy)


def test_ranges_stay_until_the_last_frontend_has_left_its_guard(proxy: MemoryProxy):
    """A client that was allowed is let in while the ranges of many frontends go away."""
    guarded = service(load_balancer_ips=ADDRESSES, source_ranges=("203.0.113.0/24",))
    proxy.put(guarded, endpoints("web", 10))
    with transactions_of(4):
        for _ in rest(proxy, proxy.put(service(load_balancer_ips=ADDRESSES))):
            proxy.linger()
            if any(proxy.verdict(one).startswith("jump guard-") for one in ADDRESSES):
                assert proxy.kernel.elements(Family.IPV4, schema.SOURCE_RANGES)
    proxy.linger()
    assert not proxy.kernel.elements(Family.IPV4, schema.SOURCE_RANGES)


def sticky_local(count: int) -> list[Service | EndpointSlice]:
    """Return Services with session affinity and policy Local, each with a count of its own."""
    found: list[Service | EndpointSlice] = []
    for number in range(count):
        pods = [f"10.244.{number}.{n + 1}" for n in range(number % 100 + 1)]
        found += [
            service(
                f"s{number}",
                cluster_ips=(f"10.96.1.{number}",),
                node_port=30000 + number,
                external_local=True,
                affinity_timeout_s=600,
            ),
            endpoint_slice(
                f"s{number}",
                *(endpoint(pod, f"node-{n % 3}") for n, pod in enumerate(pods)),
            ),
        ]
    return found


def test_many_shapes_cost_what_each_of_them_does():
    """However many Services have counts of their own: one script, and full transactions."""
    texts = {}
    for count in (50, 200):
        kernel = FlakyKernel()
        loaded: list[str] = []
        load = kernel.load
        kernel.load = lambda text, load=load, loaded=loaded: loaded.append(text) or load(text)
        proxy = MemoryProxy(kernel)
        report = proxy.put(*sticky_local(count))
        while report.left:
            report = proxy.resync()
        texts[count] = sum(map(len, loaded)) / count
        assert len(loaded) <= 2
        assert kernel.transactions <= 3 + kernel.operations / 2000
    assert texts[200] < 1.1 * texts[50] < 5000
