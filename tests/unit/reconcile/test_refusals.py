"""One element that the kernel refuses costs itself, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import MemoryProxy
from support.objects.model import endpoint_slice, service
from support.objects.web import A

from nfproxy.errors import TransactionError
from nfproxy.model.addresses import parse_address
from nfproxy.reconcile.transition import Operation

COUNT = 40
BAD = "10.96.0.7"


class Refusing(FlakyKernel):
    """A kernel that refuses every transaction with an element that holds some bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: tuple[bytes, ...] = (parse_address(BAD),)
        self.code = "EINVAL"

    def commit(self, operations: Sequence[Operation]) -> None:
        if any(part in one.key for one in operations for part in self.refused):
            raise TransactionError("refused for a test", code=self.code)
        super().commit(operations)


@pytest.fixture
def proxy() -> MemoryProxy:
    return MemoryProxy(Refusing())


def objects() -> list:
    return [
        one
        for number in range(1, COUNT + 1)
        for one in (
            service(f"web-{number}", cluster_ips=(f"10.96.0.{number}",)),
            endpoint_slice(f"web-{number}", A),
        )
    ]


def served(proxy: MemoryProxy) -> set[int]:
    return {n for n in range(1, COUNT + 1) if proxy.verdict(f"10.96.0.{n}")}


ALL = set(range(1, COUNT + 1))


def test_all_but_the_refused_frontend_is_served(proxy: MemoryProxy):
    """Of the refused Service the report names each part."""
    report = proxy.put(*objects())

    assert served(proxy) == ALL - {7}
    assert {str(one.service) for one in report.refused} == {"default/web-7"}
    assert any(f"{BAD}:80/tcp" in one.text for one in report.refused)
    assert report.resynced
    assert proxy.reconciler.trusted


def test_what_is_refused_is_not_tried_until_it_changes(proxy: MemoryProxy):
    proxy.put(*objects())
    assert proxy.put(*objects()).refused == ()

    proxy.kernel.refused = ()
    assert served(proxy) == ALL - {7}
    proxy.put(endpoint_slice("web-7", A, "10.244.0.99"))
    assert 7 in served(proxy)


def test_every_report_has_what_is_left_out_now(proxy: MemoryProxy):
    """Not only the one of the refusal, until the kernel takes it or no Service wants it."""
    report = proxy.put(*objects())
    assert report.left_out == {(one.service, one.part) for one in report.refused}
    assert proxy.put(service("late", cluster_ips=("10.96.1.1",))).left_out == report.left_out

    assert proxy.remove(*objects()[12:14]).left_out == frozenset()


def test_it_is_tried_again_when_the_tables_are_read(proxy: MemoryProxy):
    proxy.put(*objects())
    proxy.kernel.refused = ()
    proxy.reconciler.distrust("audit")
    proxy.resync()

    assert served(proxy) == ALL


def test_a_refusal_during_operation_first_makes_the_tables_be_read(proxy: MemoryProxy):
    """It may be about what another process has done."""
    proxy.kernel.refused = ()
    proxy.put(*objects()[2:])
    proxy.kernel.refused = (parse_address("10.96.0.1") + b"\6",)
    with pytest.raises(TransactionError):
        proxy.put(*objects()[:2])
    assert len(proxy.resync().refused) == 1
    assert served(proxy) == ALL - {1}


@pytest.mark.parametrize("code", ["ENOMEM", "ENOBUFS", "EPERM"])
def test_memory_and_rights_are_no_fault_of_elements(proxy: MemoryProxy, code: str):
    proxy.kernel.code = code
    with pytest.raises(TransactionError):
        proxy.put(*objects())
    proxy.kernel.refused = ()
    proxy.resync()

    assert served(proxy) == ALL


def test_a_kernel_that_refuses_everything_is_not_asked_for_each_element(proxy: MemoryProxy):
    proxy.kernel.refused = (b"",)
    with pytest.raises(TransactionError):
        proxy.put(*objects())
    assert served(proxy) == set()
