"""
Transactions that fail, and tables that vanish, with real packets.

After a failure nothing is believed of the kernel, and the next synchronisation puts it right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.kernel import rules
from support.kernel.wholetable import (
    check_packets,
    objects,
    snapshot,
    started,
)
from support.objects.model import changes, gone
from support.packets.steps import (
    CLUSTER_IP,
    Streams,
    families,
    reached,
)
from support.traffic import Traffic

from nfproxy.dataplane.kernel import Kernel
from nfproxy.errors import DataplaneError, TransactionError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.reconcile.syncreport import ResyncReason
from nfproxy.tools.lab import Cluster

pytestmark = pytest.mark.usefixtures("flushed")


@contextmanager
def failing_once(method: str, *, after: bool) -> Iterator[list[str]]:
    """Let the next call of a method of Kernel fail, before or after it does its work."""
    real: Callable[..., Any] = getattr(Kernel, method)
    failed: list[str] = []

    def fail(self: Kernel, *arguments: Any) -> Any:
        if failed:
            return real(self, *arguments)
        failed.append(method)
        if after:
            real(self, *arguments)
        raise TransactionError("on purpose")

    setattr(Kernel, method, fail)
    try:
        yield failed
    finally:
        setattr(Kernel, method, real)


@pytest.mark.parametrize("after", [False, True], ids=["not in force", "in force"])
@pytest.mark.parametrize("method", ["commit", "load", "chains"])
def test_after_a_failure_everything_is_put_right(served: Cluster, method: str, after: bool) -> None:
    """The failed change is in force after the next sync, whatever had become of it."""
    with started(served, objects(served)) as proxy:
        if method == "chains":
            proxy.reconciler.distrust(ResyncReason.AUDIT)
        with failing_once(method, after=after) as failed:
            with pytest.raises(TransactionError):
                proxy.put(*objects(served, web_pods=3))
            assert failed
            assert not proxy.reconciler.trusted
            assert proxy.tidy() == 0
            report = proxy.apply(changes())
        assert report.resynced
        for family in FAMILIES:
            found = reached(served.client, CLUSTER_IP.of(family), 80)
            assert found == {pod.name for pod in served.pods[:3]}
        proxy.put(*objects(served))
        for family in FAMILIES:
            check_packets(served, family)


@pytest.mark.parametrize("after", [False, True], ids=["not in force", "in force"])
def test_after_tidying_failed_everything_is_put_right(served: Cluster, after: bool) -> None:
    """Leftovers go all the same, at the next sync or after it."""
    with started(served, objects(served, web_pods=1)):
        expected = snapshot(served)
    with started(served, objects(served)) as proxy:
        proxy.put(*objects(served, web_pods=1))
        with failing_once("commit", after=after) as failed:
            with pytest.raises(TransactionError):
                proxy.clean_up()
            assert failed
        proxy.apply(changes())
        proxy.clean_up()
        assert without_unused(expected, "4") == without_unused(snapshot(served), "4")


def test_packets_are_served_through_failures(served: Cluster) -> None:
    """What is in force stays in force while a transaction fails, and while it is made up for."""
    family = Family.IPV4
    streams = Streams(
        Traffic(served.client, CLUSTER_IP.of(family), 80, Protocol.UDP, rate=300),
        Traffic(served.client, CLUSTER_IP.of(family), 80, Protocol.TCP, rate=100, held=2),
    )
    with started(served, objects(served)) as proxy:
        with streams:
            for count in (3, 1, 4, 2, 4):
                for method in ("commit", "load"):
                    with failing_once(method, after=count % 2 == 0) as failed:
                        try:
                            proxy.put(*objects(served, web_pods=count))
                        except TransactionError:
                            assert failed
                        streams.run(5)
                        proxy.apply(changes())
                        streams.run(5)
                    proxy.tidy()
        assert streams.lost == []


@families
@pytest.mark.parametrize("made", ["elements", "chains", "nothing but leftovers"])
def test_a_table_that_vanished_comes_back(served: Cluster, family: Family, made: str) -> None:
    """The kernel refuses the next transaction; the one after it makes the table again."""
    with started(served, objects(served)) as proxy:
        expected = snapshot(served)
        change: dict[str, Callable[[], object]] = {
            "elements": lambda: proxy.apply(gone(*objects(served)[:1])),
            "chains": lambda: proxy.put(*objects(served, web_pods=3)),
            "nothing but leftovers": proxy.clean_up,
        }
        if made == "nothing but leftovers":
            proxy.put(*objects(served, web_pods=3))
        rules.load(served.nodes[0], f"delete table {family.table} nfproxy\n")
        with pytest.raises(DataplaneError):
            change[made]()
        assert not proxy.reconciler.trusted
        proxy.put(*objects(served))
        for each in FAMILIES:
            check_packets(served, each)
        proxy.clean_up()
        assert expected == without_unused(snapshot(served), "3")


def without_unused(found: dict[str, Any], count: str) -> dict[str, Any]:
    """Leave out the balancing chains of a number of endpoints; they go after half a minute."""
    ends = tuple(f"{protocol.word}-{count}" for protocol in Protocol)
    gone = {name for name in found if name.endswith(ends) and " map " not in name}
    return {name: value for name, value in found.items() if name not in gone}
