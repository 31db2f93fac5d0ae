"""Operations in portions that fit the kernel's buffer."""

from __future__ import annotations

from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import MemoryProxy
from support.kernel.tables import dump
from support.objects.model import endpoint_slice, service

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.elements import element_requests
from nfproxy.netlink.nftables import batch
from nfproxy.nft import schema
from nfproxy.nft.schema import Interval, length
from nfproxy.reconcile.portions import most_bytes, portions
from nfproxy.reconcile.transition import Operation

V4 = Family.IPV4


def operation(name: str, number: int, *, add: bool = True) -> Operation:
    """Return an operation on one of many elements."""
    key = number.to_bytes(length(schema.SCHEMAS[name].key, V4), "big")
    return Operation(add, V4, name, key)


def test_no_operation_takes_more_bytes_than_its_bound():
    """Also where each begins a message of its own, as for neighbours in different sets."""
    for family in FAMILIES:
        for one in schema.SCHEMAS.values():
            key = bytes(range(length(one.key, family)))
            if one.interval is not Interval.NO:
                key = key + key
            value: schema.Value = None
            if one.verdicts:
                value = schema.goto("x" * 40)
            elif one.value:
                value = bytes(length(one.value, family))
            for made in (
                Operation(True, family, one.name, key, value),
                Operation(False, family, one.name, key),
            ):
                data = batch(element_requests([made]), 1)
                assert len(data) - 40 <= most_bytes(made), made


def test_operations_are_cut_between_elements():
    """Between the deletion and the addition of a slot, packets would find none; ranges overlap."""
    ips = [operation("cluster-ips", number) for number in range(4)]
    gone = ips[1]._replace(add=False)
    range_ = operation("service-cidrs", 1)
    old = range_._replace(add=False, key=bytes(len(range_.key)))
    size = most_bytes(ips[0])

    assert list(portions(ips, 2 * size)) == [ips[:2], ips[2:]]
    assert list(portions([ips[0], gone, *ips[1:3]], 2 * size)) == [
        [ips[0]],
        [gone, ips[1]],
        [ips[2]],
    ]
    assert list(portions([ips[0], old, range_, ips[1]], size)) == [
        [ips[0]],
        [old, range_],
        [ips[1]],
    ]
    assert list(portions(ips, None)) == [ips]
    assert list(portions(ips, None, 3)) == [ips[:3], ips[3:]]
    assert list(portions([ips[0], gone, *ips[1:3]], None, 2)) == [[ips[0], gone, ips[1]], [ips[2]]]
    assert list(portions([], None)) == list(portions([], size)) == []


class LimitedKernel(FlakyKernel):
    """A kernel that takes small transactions only."""

    def __init__(self) -> None:
        super().__init__()
        self.transaction_limit = 2000

    def commit(self, operations: list[Operation]) -> None:
        assert sum(map(most_bytes, operations)) <= 2000
        super().commit(operations)


def to_rest(proxy: MemoryProxy) -> None:
    """Let everything be committed that waits, and tidy."""
    while proxy.resync().left:
        pass
    while proxy.linger():
        pass


def test_limited_transactions_come_to_the_same_tables():
    """At a first load, when much changes, and when it goes."""
    whole, limited = MemoryProxy(FlakyKernel()), MemoryProxy(LimitedKernel())
    names = [f"s{number}" for number in range(8)]
    services = [
        service(
            name,
            cluster_ips=[f"10.96.0.{number}"],
            source_ranges=["192.0.2.0/24"],
            load_balancer_ips=[f"203.0.113.{number}"],
            affinity_timeout_s=60 * (number % 2),
        )
        for number, name in enumerate(names)
    ]
    for count in (5, 40, 3):
        slices = [
            endpoint_slice(name, *(f"10.244.{count}.{n}" for n in range(count))) for name in names
        ]
        for proxy in (whole, limited):
            proxy.put(*services, *slices)
            to_rest(proxy)
        assert dump(whole.kernel) == dump(limited.kernel)
    for proxy in (whole, limited):
        proxy.remove(*services)
        to_rest(proxy)
    assert dump(whole.kernel) == dump(limited.kernel)
    assert limited.kernel.transactions > whole.kernel.transactions
