"""Tables of another layout that are too large for one transaction: they serve until new ones do."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from unittest import mock

import pytest
from support.kernel.fake import FakeKernel, FakeTable, FlakyKernel
from support.kernel.memoryproxy import MemoryProxy, transactions_of
from support.kernel.tables import dump
from support.objects.model import changes, service
from support.objects.web import WEB, A, B, C, web

from nfproxy.errors import NfproxyError, TransactionError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.nft.chains import BASE_CHAINS
from nfproxy.nft.schema import NEXT_TABLE, TABLE
from nfproxy.nft.stages import ASIDE, BACK, IN_PLACE, LAYOUT, first_stage, layout_of, next_stage
from nfproxy.plan.desired import Touched
from nfproxy.reconcile import reconciler
from nfproxy.reconcile.extent import Extent
from nfproxy.reconcile.syncreport import Report

OLD = """
table ip nfproxy {
	comment "nfproxy layout 1, managed: changes are undone"
	set cluster-ips {
		typeof meta l4proto
	}
	chain nat-prerouting {
		type nat hook prerouting priority -100; policy accept;
	}
}
table ip6 nfproxy {
	chain nat-prerouting {
		type nat hook prerouting priority -100; policy accept;
	}
}
"""
OTHER = service("other", cluster_ips=["10.96.0.2"])
OBJECTS = (WEB, web(A, B), OTHER)


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Let few elements be too many for one transaction."""
    with mock.patch.object(reconciler, "_SCRIPT_ELEMENTS", 1), transactions_of(4):
        yield


class WritingFails(FlakyKernel):
    """A kernel whose `faults` are those of writing; reading always works."""

    elements = FakeKernel.elements


def hooked(tables: dict[Family, FakeTable]) -> set[str]:
    """Return the base chains of tables."""
    return {name for table in tables.values() for name in table.hooks}


def is_old(kernel: FlakyKernel) -> bool:
    """Return whether the old table is in force."""
    return hooked(kernel.tables) == {"nat-prerouting"}


def over_old_tables(kernel: FlakyKernel | None = None) -> MemoryProxy:
    """Return a process that has planned, over tables of another layout."""
    proxy = MemoryProxy(kernel or WritingFails())
    if not kernel:
        proxy.kernel.load(OLD)
    proxy.reconciler.touch(proxy.planner.apply(changes(*OBJECTS)))
    return proxy


def to_the_end(proxy: MemoryProxy) -> list[Report]:
    """Synchronise until nothing is left."""
    reports = [proxy.resync()]
    while reports[-1].left:
        assert len(reports) < 200
        reports.append(proxy.resync())
    return reports


@functools.cache
def wanted() -> FlakyKernel:
    """Return a kernel that was programmed from nothing."""
    proxy = MemoryProxy(FlakyKernel())
    proxy.reconciler.touch(proxy.planner.apply(changes(*OBJECTS)))
    to_the_end(proxy)
    return proxy.kernel


def assert_right(kernel: FlakyKernel) -> None:
    """Everything is as if it had been programmed from nothing, and no second table is left."""
    right = wanted()
    assert dump(right) == dump(kernel)
    assert kernel.next_tables == {}
    for family in FAMILIES:
        assert kernel.tables[family].rules == right.tables[family].rules
        assert kernel.tables[family].hooks == right.tables[family].hooks


def test_the_plan_of_stages():
    """The new tables are filled aside, then under their own name."""
    assert first_stage([]) == IN_PLACE
    assert first_stage([{TABLE}, set()]) == IN_PLACE
    assert first_stage([{TABLE, NEXT_TABLE}]) == IN_PLACE
    assert first_stage([set(), {NEXT_TABLE}]) == BACK
    assert first_stage([{TABLE}, {NEXT_TABLE}]) == BACK
    assert next_stage(ASIDE) == BACK
    assert next_stage(BACK) == IN_PLACE
    assert ASIDE.other_table == IN_PLACE.table == BACK.table
    assert BACK.other_table == ASIDE.table


def test_there_are_tables_in_force_all_the_time():
    """First the old ones, then full ones of the second name, then full ones of their own name."""
    proxy = over_old_tables()
    kernel, full, seen = proxy.kernel, dump(wanted()), list[str]()

    def watch() -> None:
        tables = [one for one in (kernel.tables, kernel.next_tables) if hooked(one)]
        assert len(tables) == 1
        if is_old(kernel):
            seen.append("old")
            return
        assert hooked(tables[0]) == set(BASE_CHAINS)
        before, kernel.table = kernel.table, NEXT_TABLE if hooked(kernel.next_tables) else TABLE
        assert dump(kernel) == full
        seen.append(kernel.table)
        kernel.table = before

    kernel.watch = watch
    reports = to_the_end(proxy)

    assert list(dict.fromkeys(seen)) == ["old", NEXT_TABLE, TABLE]
    assert seen.count("old") > 3
    assert_right(kernel)
    assert not any(report.finished.services for report in reports[:-1])
    assert {name.name for name in reports[-1].finished.services} == {"web", "other"}
    assert [report.resynced for report in reports].count(True) == 1
    assert reports[-1].resynced


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_process_that_ends_at_any_step_leaves_what_the_next_one_goes_on_with(fault: str):
    """In each state that it may leave, tables are in force, and the next start makes all right."""
    position, ended = 0, False
    while not ended:
        proxy = over_old_tables()
        proxy.kernel.faults = [""] * position + [fault]
        try:
            to_the_end(proxy)
        except NfproxyError:
            assert hooked(proxy.kernel.tables) or hooked(proxy.kernel.next_tables)
        ended = bool(proxy.kernel.faults)
        proxy.kernel.faults = []
        successor = over_old_tables(proxy.kernel)
        to_the_end(successor)
        assert_right(proxy.kernel)
        to_the_end(proxy)  # this one goes on, too
        assert_right(proxy.kernel)
        position += 2
    assert position > 20


def test_changes_meanwhile_are_not_lost():
    """Objects change while the tables are filled: all of it is there at the end."""
    steps = len(to_the_end(over_old_tables()))
    for step in range(1, steps):
        proxy = over_old_tables()
        for _ in range(step):
            proxy.resync()
        touched = proxy.planner.apply(changes(web(A, C)))
        proxy.reconciler.touch(touched)
        finished = [name for report in to_the_end(proxy) for name in report.finished.services]
        assert {name.name for name in finished} == {"web", "other"}
        assert set(proxy.slots("10.96.0.1").values()) == {f"{A} . 8080", f"{C} . 8080"}
        assert not proxy.kernel.next_tables


def test_foreign_changes_meanwhile_do_not_begin_it_again():
    """The old tables give way soon, whatever another process did to them."""
    proxy = over_old_tables()
    reports = [proxy.resync()]
    while reports[-1].left:
        assert len(reports) < 200
        goes_on = (
            proxy.reconciler.put_back(Extent(everything=True))
            if is_old(proxy.kernel)
            else proxy.resync()
        )
        reports.append(goes_on)
    assert_right(proxy.kernel)


def test_tables_that_vanish_meanwhile_come_back():
    """Another process flushes the whole ruleset at any step."""
    steps = len(to_the_end(over_old_tables()))
    for step in range(1, steps):
        proxy = over_old_tables()
        for _ in range(step):
            proxy.resync()
        proxy.kernel.tables.clear()
        proxy.kernel.next_tables.clear()
        with suppress(NfproxyError):
            proxy.reconciler.put_back(Extent(everything=True))
        to_the_end(proxy)
        assert_right(proxy.kernel)


def test_second_tables_that_another_process_deletes_while_they_serve_are_made_good():
    """What is filled already comes into force at once, and the rest follows."""
    steps, served = len(to_the_end(over_old_tables())), 0
    for step in range(1, steps):
        proxy = over_old_tables()
        for _ in range(step):
            proxy.resync()
        if not hooked(proxy.kernel.next_tables):
            continue
        proxy.kernel.next_tables.clear()
        proxy.reconciler.put_back(Extent(everything=True))
        assert hooked(proxy.kernel.tables) == set(BASE_CHAINS)
        to_the_end(proxy)
        assert_right(proxy.kernel)
        served += 1
    assert served


def test_what_an_unfinished_change_left_is_removed():
    """Also where the old tables have come back into force, by an older version."""
    proxy = over_old_tables()
    proxy.resync()
    assert proxy.kernel.next_tables
    other = MemoryProxy(proxy.kernel)
    proxy.kernel.tables.clear()
    other.reconciler.touch(other.planner.apply(changes(*OBJECTS)))
    to_the_end(other)
    assert_right(proxy.kernel)


@pytest.mark.parametrize("comment", ["nfproxy layout 1, managed: changes are undone", ""])
def test_a_layout_that_the_kernel_would_take_is_another_one_by_its_comment(comment: str):
    """Its maps may have other contents under the same names. Without one it is unknown."""
    proxy = MemoryProxy(FlakyKernel())
    proxy.reconciler.touch(proxy.planner.apply(changes(*OBJECTS)))
    to_the_end(proxy)
    for table in proxy.kernel.tables.values():
        table.comment = comment
    successor = over_old_tables(proxy.kernel)
    to_the_end(successor)
    assert_right(proxy.kernel)
    assert {layout_of(table.comment) for table in proxy.kernel.tables.values()} == {LAYOUT}


def test_tables_that_may_not_be_written_have_no_other_layout_for_that():
    """Another process owns them: nothing is filled that could never take over."""
    proxy = over_old_tables()
    for table in proxy.kernel.tables.values():
        table.comment = f"nfproxy layout {LAYOUT}, managed"
    error = TransactionError("refused", code="EPERM")
    with mock.patch.object(proxy.kernel, "load", side_effect=error), pytest.raises(type(error)):
        proxy.resync()
    assert proxy.reconciler._loading.stage == IN_PLACE


def test_old_tables_that_no_packet_comes_to_are_replaced_at_once():
    """There is nothing to keep in force: the cluster's own Services come first."""
    proxy = over_old_tables()
    for table in proxy.kernel.tables.values():
        table.hooks.clear()
    proxy.resync()
    assert hooked(proxy.kernel.tables) == set(BASE_CHAINS)
    assert not proxy.kernel.next_tables
    assert proxy.reconciler.sync(Touched()).resynced is False
