"""When the reconciler makes chains, and when it removes them."""

from __future__ import annotations

from support.kernel.memoryproxy import MemoryProxy
from support.objects.model import service
from support.objects.web import WEB, A, B, web

from nfproxy.model.service import Protocol


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


def test_guarded_frontends_without_endpoints_share_one_chain(proxy: MemoryProxy):
    """The chain does not depend on the protocol, so there is one for all."""

    def guarded(name: str, protocol: Protocol):
        return service(
            name,
            cluster_ips=(f"10.96.0.{protocol % 100}",),
            protocol=protocol,
            load_balancer_ips=("192.0.2.1",),
            source_ranges=("10.0.0.0/8",),
        )

    proxy.put(guarded("one", Protocol.TCP))
    report = proxy.put(guarded("two", Protocol.UDP))

    assert proxy.verdict("192.0.2.1", protocol=Protocol.UDP) == "goto guarded-reject"
    assert report.chains_made == 0
