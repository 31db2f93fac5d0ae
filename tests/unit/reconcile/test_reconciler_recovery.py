"""The reconciler after failures, and over tables that other processes made or changed."""

from __future__ import annotations

import pytest
from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import MemoryProxy
from support.kernel.tables import dump, meaning
from support.objects.model import changes, gone, service
from support.objects.web import TCP_SLOTS, WEB, A, B, C, slot_key, stranger, web

from nfproxy.errors import DataplaneError, NfproxyError, TransactionError
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.netlink.nftables import TableRow
from nfproxy.nft import schema
from nfproxy.reconcile.extent import Extent
from nfproxy.reconcile.syncreport import Report, ResyncReason
from nfproxy.reconcile.transition import Operation


def frontend_element(address: str) -> bytes:
    return parse_address(address) + schema.protocol_bytes(Protocol.TCP) + schema.port_bytes(80)


def test_a_takeover_commits_nothing_where_all_is_right(proxy: MemoryProxy):
    """A new process reads the tables of the old one and changes no element."""
    proxy.put(WEB, web(A, B))
    before = proxy.kernel.operations
    successor = proxy.successor()
    report = successor.resync()

    assert report.resynced
    assert report.operations == 0
    assert proxy.kernel.operations == before


def test_a_takeover_keeps_the_slots_it_finds(proxy: MemoryProxy):
    """The slot of an endpoint has no meaning, so a new process does not change it."""
    proxy.put(WEB, web(B, C))
    proxy.put(web(A, B, C))
    before = dump(proxy.kernel)
    proxy.successor().resync()

    assert before == dump(proxy.kernel)


def test_what_lingers_at_a_takeover_is_removed_by_the_successor(proxy: MemoryProxy):
    """The new process removes what the old one left for packets on their way."""
    proxy.put(WEB, web(A, B, C))
    proxy.put(web(A))
    successor = proxy.successor()
    successor.resync()
    successor.linger()

    assert len(successor.slots("10.96.0.1")) == 1


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("position", range(3))
def test_after_a_failure_the_next_sync_makes_it_right(
    proxy: MemoryProxy, fault: str, position: int
):
    """Whether the failed transaction took effect or not, what is there is read and completed."""
    proxy.put(WEB, web(A, B))
    proxy.kernel.faults = [""] * position + [fault]
    failed = 0
    for _ in range(3):
        try:
            proxy.put(service("web", node_port=30080), web(C))
        except DataplaneError:
            failed += 1
    proxy.kernel.faults = []
    proxy.linger()
    proxy.idle()

    other = MemoryProxy(FlakyKernel())
    other.put(service("web", node_port=30080), web(C))
    assert meaning(proxy.kernel) == meaning(other.kernel)
    assert failed == (1 if position < 2 else 0)


def test_after_a_failure_nothing_is_trusted_until_a_sync_succeeds(proxy: MemoryProxy):
    """`tidy` does not touch tables whose contents are unknown."""
    proxy.put(WEB, web(A, B))
    proxy.kernel.faults = ["before"]
    with pytest.raises(DataplaneError):
        proxy.put(web(A, C))

    assert not proxy.reconciler.trusted
    assert proxy.linger() == 0
    assert proxy.resync().resynced
    assert proxy.reconciler.trusted


def test_a_slot_that_a_stranger_deleted_comes_back(proxy: MemoryProxy):
    """A takeover fills a gap in a frontend's slots."""
    proxy.put(WEB, web(A, B, C))
    stranger(proxy, Operation(False, Family.IPV4, TCP_SLOTS, slot_key(1)))
    proxy.successor().resync()

    assert set(proxy.slots("10.96.0.1")) == {0, 1, 2}
    assert len(set(proxy.slots("10.96.0.1").values())) == 3


@pytest.mark.parametrize("value", [A, "10.244.1.9"])
def test_slots_without_a_verdict_do_not_hinder_a_repair(proxy: MemoryProxy, value: str):
    """A slot after a gap is removed before a new frontend's slots are written."""
    proxy.put(WEB)
    data = parse_address(value) + schema.port_bytes(8080)
    stranger(
        proxy,
        Operation(True, Family.IPV4, TCP_SLOTS, slot_key(1), data),
        Operation(False, Family.IPV4, schema.FRONTENDS, frontend_element("10.96.0.1")),
    )
    successor = proxy.successor()
    successor.planner.apply(changes(web(A, B, C)))
    successor.resync()

    assert successor.verdict("10.96.0.1") == "goto cluster-tcp-3"
    assert set(successor.slots("10.96.0.1")) == {0, 1, 2}
    assert len(set(successor.slots("10.96.0.1").values())) == 3


def test_elements_that_a_stranger_added_go(proxy: MemoryProxy):
    """A takeover removes what no object asks for."""
    proxy.put(WEB, web(A))
    wanted = dump(proxy.kernel)
    stranger(
        proxy,
        Operation(True, Family.IPV4, schema.CLUSTER_IPS, parse_address("10.96.0.99")),
        Operation(True, Family.IPV4, schema.FRONTENDS, frontend_element("10.96.0.99"), schema.DROP),
        Operation(True, Family.IPV4, TCP_SLOTS, slot_key(7), b"\x0a\xf4\0\1\0\x50\0\0"),
    )
    proxy.successor().resync()

    assert wanted == dump(proxy.kernel)


def test_a_base_chain_that_a_stranger_added_goes(proxy: MemoryProxy):
    """It meets packets. A takeover removes it in the transaction that loads the program."""
    proxy.put(WEB, web(A))
    proxy.kernel.load(
        "add chain ip nfproxy evil { type filter hook input priority 0; policy drop; }\n"
    )
    proxy.successor().resync()

    assert "evil" not in proxy.chains()


def test_rules_that_a_stranger_changed_are_restored(proxy: MemoryProxy):
    """A takeover writes the rules of fixed chains and of shapes that exist."""
    proxy.put(WEB, web(A))
    rules = {name: list(r) for name, r in proxy.kernel.tables[Family.IPV4].rules.items()}
    proxy.kernel.load(
        "flush chain ip nfproxy services\nflush chain ip nfproxy cluster-tcp-1\n"
        "flush chain ip nfproxy nat-prerouting\n"
    )
    proxy.successor().resync()

    assert rules == proxy.kernel.tables[Family.IPV4].rules


def test_a_table_of_another_layout_is_replaced(proxy: MemoryProxy):
    """Where the program is refused, whole tables are replaced, elements included."""
    proxy.kernel.load(
        "table ip nfproxy {\n\tset cluster-ips {\n\t\ttypeof meta l4proto\n\t}\n"
        "\tchain services {\n\t}\n}\n"
    )
    proxy.put(WEB, web(A, B))

    other = MemoryProxy(FlakyKernel())
    other.put(WEB, web(A, B))
    assert dump(proxy.kernel) == dump(other.kernel)
    assert proxy.put(web(A, C)).operations == 2


def test_a_kernel_without_tables_is_not_mistaken_for_one_of_another_layout(proxy: MemoryProxy):
    """A program that is refused though there is nothing in its way is an error to report."""
    proxy.kernel.faults = [""] * 2 * len(schema.SCHEMAS) + ["before"]

    with pytest.raises(NfproxyError, match="injected"):
        proxy.put(WEB)


def frontends(report: Report) -> set[str]:
    """Return the frontends that a report names, as text."""
    return {str(key) for key in report.frontends}


def test_a_report_names_the_frontends_that_answer_differently(proxy: MemoryProxy):
    """Not those that were looked at only."""
    other = service("other", cluster_ips=["10.96.0.2"])
    assert frontends(proxy.put(WEB, other, web(A))) == {"10.96.0.1:80/tcp", "10.96.0.2:80/tcp"}
    assert frontends(proxy.put(web(A))) == set()
    assert frontends(proxy.put(web(B))) == {"10.96.0.1:80/tcp"}
    assert frontends(proxy.remove(other)) == {"10.96.0.2:80/tcp"}


def test_after_a_reading_a_report_names_what_was_missing_and_what_only_the_kernel_had(
    proxy: MemoryProxy,
):
    """Also a frontend that went with the tables, and whose Service went before they were read."""
    other = service("other", cluster_ips=["10.96.0.2"])
    proxy.put(WEB, other, web(A))
    successor = proxy.successor()
    successor.planner.apply(gone(other))
    assert frontends(successor.resync()) == {"10.96.0.2:80/tcp"}

    proxy.put(other)
    proxy.kernel.tables.clear()
    proxy.planner.apply(gone(other))
    proxy.reconciler.distrust(ResyncReason.FOREIGN)
    assert frontends(proxy.resync()) == {"10.96.0.1:80/tcp", "10.96.0.2:80/tcp"}


class OrphanedKernel(FlakyKernel):
    """A kernel that refuses all but the deletion of some tables, as their owner left them."""

    orphans: frozenset[Family] = frozenset()

    def table_row(self, family: Family, table: str) -> TableRow | None:
        row = super().table_row(family, table)
        return row and row._replace(is_orphan=family in self.orphans)

    def load(self, text: str) -> None:
        gone = {f for f in self.orphans if text == f"delete table {f.table} nfproxy\n"}
        if not gone and any(f"table {f.table} nfproxy" in text for f in self.orphans):
            raise TransactionError("not supported", code="EOPNOTSUPP")
        super().load(text)
        self.orphans -= gone


def test_tables_that_outlived_their_owner_are_replaced(caplog: pytest.LogCaptureFixture):
    """At a start, and in a repair of which it is known what was changed."""
    proxy = MemoryProxy(OrphanedKernel())
    kernel = proxy.kernel
    proxy.put(WEB, web(A, B))
    before = dump(kernel)
    assert isinstance(kernel, OrphanedKernel)
    kernel.orphans = frozenset({Family.IPV4})
    proxy.successor().resync()
    assert dump(kernel) == before

    kernel.orphans = frozenset({Family.IPV4})
    extent = Extent()
    extent.rules = True
    proxy.reconciler.put_back(extent)
    assert not kernel.orphans
    assert len(caplog.messages) == 2
    assert "table ip nfproxy has the flag persist" in caplog.messages[0]
