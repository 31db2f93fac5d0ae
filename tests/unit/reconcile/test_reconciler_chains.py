"""When the reconciler makes chains, and when it removes them."""

from __future__ import annotations

from unittest import mock

from support.kernel.memoryproxy import MemoryProxy
from support.objects.model import endpoint_slice, service
from support.objects.web import WEB, A, B, C, web

from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.nft import schema
from nfproxy.nft.chains import FIXED_CHAINS
from nfproxy.reconcile import chainuses
from nfproxy.reconcile.chainuses import AHEAD_S


def test_an_unused_chain_is_kept_for_a_while_and_then_removed(proxy: MemoryProxy):
    """The next rollout may go through the same numbers of endpoints."""
    proxy.put(WEB, web(A, B))
    proxy.put(web(A))
    proxy.linger()

    assert "cluster-tcp-2" in proxy.chains()
    proxy.idle()
    assert "cluster-tcp-2" not in proxy.chains()
    assert "cluster-tcp-1" in proxy.chains()
    assert proxy.reconciler.next_due() is None


def test_a_chain_that_is_needed_again_stays(proxy: MemoryProxy):
    """An idle chain is used again as it is."""
    proxy.put(WEB, web(A, B))
    proxy.put(web(A))
    report = proxy.put(web(A, B))
    proxy.idle()

    assert report.chains_made == 0
    assert "cluster-tcp-2" in proxy.chains()


def test_a_chain_removal_of_unknown_outcome_is_tried_again(proxy: MemoryProxy):
    """
    The removal may have taken effect before libnftables crashed; then the next try has less to do.
    """
    proxy.put(WEB, web(A, B))
    proxy.put(web(A))
    proxy.linger()
    proxy.kernel.faults = ["after"]
    proxy.idle()
    proxy.idle()

    assert proxy.reconciler.next_due() is None


def test_a_chain_that_may_be_gone_is_made_before_it_is_used(proxy: MemoryProxy):
    """After a removal with unknown outcome, the chain is made again before it is used."""
    proxy.put(WEB, web(A, B))
    proxy.put(web(A))
    proxy.linger()
    proxy.kernel.faults = ["after"]
    proxy.idle()
    report = proxy.put(web(A, B))

    assert report.chains_made == 1
    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-2"


def test_a_guard_serves_all_frontends_of_its_service(proxy: MemoryProxy):
    """One chain for all ports and addresses, and ranges of the same lengths need no other."""

    def guarded(*ranges: str):
        return service(
            ports=[ServicePort(p.word, p, 80, 0) for p in Protocol],
            load_balancer_ips=("192.0.2.1", "192.0.2.2"),
            source_ranges=ranges,
        )

    assert proxy.put(guarded("10.0.0.0/8")).chains_made == 1
    guard = proxy.verdict("192.0.2.1", protocol=Protocol.UDP)
    assert guard.startswith("jump guard-")
    assert proxy.verdict("192.0.2.2", protocol=Protocol.SCTP) == guard
    assert proxy.put(guarded("11.0.0.0/8", "12.0.0.0/8")).chains_made == 0
    assert proxy.put(guarded("11.0.0.0/8", "12.0.0.1/32")).chains_made == 1
    assert len(dict(proxy.kernel.elements(Family.IPV4, schema.SOURCE_RANGES))) == 4
    proxy.linger()
    assert len(dict(proxy.kernel.elements(Family.IPV4, schema.SOURCE_RANGES))) == 2


# --- chains made ahead --------------------------------------------------------------------


def ahead(proxy: MemoryProxy) -> int:
    """Let pass what chains are not made ahead in, and make them."""
    proxy.now += AHEAD_S
    return proxy.reconciler.make_chains_ahead()


def test_chains_of_neighbouring_counts_are_made_after_the_commit(proxy: MemoryProxy):
    """One endpoint more or less is then a matter of elements."""
    assert proxy.put(WEB, web(A, B)).chains_made == 1
    assert proxy.reconciler.make_chains_ahead() == 0
    assert proxy.reconciler.next_ahead() == proxy.now + AHEAD_S
    assert ahead(proxy) == 3
    assert {f"cluster-tcp-{count}" for count in (1, 2, 3, 4)} <= proxy.chains()
    assert ahead(proxy) == 0

    assert proxy.put(web(A, B, C)).chains_made == 0
    assert ahead(proxy) == 1
    assert proxy.put(web(A)).chains_made == 0


def test_chains_made_ahead_stay_while_their_neighbour_is_in_use(proxy: MemoryProxy):
    """And go with it."""
    proxy.put(WEB, web(A, B))
    ahead(proxy)
    for _ in range(3):
        proxy.idle()
    assert {"cluster-tcp-1", "cluster-tcp-3", "cluster-tcp-4"} <= proxy.chains()

    proxy.remove(WEB)
    ahead(proxy)
    for _ in range(3):
        proxy.idle()
    assert proxy.chains() == set(FIXED_CHAINS)


def test_chains_made_ahead_are_bounded_and_a_failure_is_left_to_the_change(proxy: MemoryProxy):
    """A cluster may have hundreds of counts. The most usual ones come first."""
    for number in range(5):
        count = 2 + 10 * number
        endpoints = [f"10.244.9.{n}" for n in range(1, count + 1)]
        for copy in range(2 if number == 3 else 1):
            name = f"s{number}-{copy}"
            address = f"10.96.2.{10 * number + copy}"
            proxy.put(service(name, cluster_ips=(address,)), endpoint_slice(name, *endpoints))
    with mock.patch.object(chainuses, "_MOST_AHEAD", 3):
        assert ahead(proxy) == 3
    assert {"cluster-tcp-31", "cluster-tcp-33", "cluster-tcp-34"} <= proxy.chains()

    proxy.put(WEB, web(A))
    proxy.kernel.faults = ["before"]
    assert ahead(proxy) == 0
    assert proxy.put(web(A, B, C)).chains_made == 1
    assert proxy.reconciler.trusted
