"""At a start portions are made ahead, while the kernel works on those before."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import MemoryProxy, transactions_of
from support.objects.model import endpoint_slice, service

from nfproxy.errors import TransactionError
from nfproxy.model.addresses import parse_address
from nfproxy.reconcile.tracker import LINGER_S
from nfproxy.reconcile.transition import Operation

COUNT = 40


class Slow(FlakyKernel):
    """A kernel, and a clock that each of its transactions moves on."""

    proxy: MemoryProxy
    seconds = 0.0
    refused = b"\xff" * 4

    def commit(self, operations: Sequence[Operation]) -> None:
        """Commit operations; refuse those about one address."""
        if any(self.refused in one.key for one in operations):
            raise TransactionError("refused for a test", code="EINVAL")
        super().commit(operations)
        self.proxy.now += self.seconds


@pytest.fixture
def proxy() -> MemoryProxy:
    kernel = Slow()
    kernel.proxy = MemoryProxy(kernel)
    return kernel.proxy


def cluster(endpoints: int) -> list:
    """Return Services with so many endpoints each."""
    return [
        one
        for number in range(COUNT)
        for one in (
            service(f"web-{number}", cluster_ips=(f"10.96.0.{number}",)),
            endpoint_slice(f"web-{number}", *(f"10.244.{number}.{n}" for n in range(endpoints))),
        )
    ]


def verdicts(proxy: MemoryProxy) -> list[str]:
    """Return the verdict of each Service, "" where it has none."""
    return [proxy.verdict(f"10.96.0.{number}") for number in range(COUNT)]


def test_a_start_is_several_transactions_in_one_sync(proxy: MemoryProxy):
    """They are as large as ever: others wait for one of them at a time."""
    with transactions_of(100, several=True):
        report = proxy.put(*cluster(10))

    assert report.left == 0
    assert report.resynced
    assert report.operations > COUNT * 12
    assert proxy.kernel.transactions > 3
    assert verdicts(proxy) == ["goto cluster-tcp-10"] * COUNT
    assert len(report.finished.services) == COUNT
    assert proxy.resync().operations == 0


def test_a_sync_ends_after_a_while(proxy: MemoryProxy):
    """What comes in during a start waits for a part of it alone."""
    proxy.kernel.seconds = 0.3
    with transactions_of(100, several=True):
        report = proxy.put(*cluster(10))
        assert report.left > 0
        assert not report.resynced
        syncs = 1
        while report.left:
            report, syncs = proxy.resync(), syncs + 1

    assert syncs == 2
    assert report.resynced
    assert verdicts(proxy) == ["goto cluster-tcp-10"] * COUNT


def test_all_but_what_the_kernel_refuses_is_served(proxy: MemoryProxy):
    """Behind it portions were made that were not committed; the tables show that."""
    proxy.kernel.refused = parse_address("10.96.0.7")
    with transactions_of(100, several=True):
        report = proxy.put(*cluster(10))
        while report.left:
            report = proxy.resync()

    assert [n for n, verdict in enumerate(verdicts(proxy)) if not verdict] == [7]
    assert {str(service) for service, _ in report.left_out} == {"default/web-7"}


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_start_that_fails_goes_on_from_what_the_tables_have(proxy: MemoryProxy, fault: str):
    """Whether or not the kernel has what was sent last."""
    proxy.kernel.faults = [*[""] * 60, fault]
    with transactions_of(40, several=True), pytest.raises(Exception, match="injected"):
        proxy.put(*cluster(10))
    assert not proxy.reconciler.trusted

    proxy.resync()
    assert verdicts(proxy) == ["goto cluster-tcp-10"] * COUNT


def test_what_lingers_does_so_from_the_end_of_its_commit(proxy: MemoryProxy):
    """A packet may be inside the kernel until then, so nothing is made ahead of it."""
    proxy.put(*cluster(4))
    proxy.put(*cluster(2))
    new = proxy.successor()
    new.kernel.proxy, new.kernel.seconds = new, 0.01
    with transactions_of(20, several=True):
        report = new.put(*cluster(1))
        assert report.left
        assert new.reconciler.next_due() == pytest.approx(new.now + LINGER_S)
        while report.left:
            report = new.resync()
    assert verdicts(new) == ["goto cluster-tcp-1"] * COUNT
