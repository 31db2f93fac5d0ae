"""
A new process over existing tables, with real packets.

Where nothing changed it touches nothing and no client notices; what changed is applied; tables of
another layout give way as a whole, and serve until then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from support.kernel import rules
from support.kernel.memoryproxy import transactions_of
from support.kernel.wholetable import (
    OTHER,
    check_packets,
    left_by_another,
    objects,
    snapshot,
    started,
)
from support.objects.model import endpoint_slice
from support.packets.sending import probe
from support.packets.steps import (
    CLUSTER_IP,
    SHORT_S,
    Crowd,
    Frontend,
    Streams,
    endpoints_of,
    everywhere,
    families,
    reached,
    target,
)
from support.traffic import Traffic

from nfproxy.dataplane.kernel import Kernel
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol
from nfproxy.nft import ruleset
from nfproxy.nft.schema import NEXT_TABLE, TABLE
from nfproxy.reconcile import reconciler
from nfproxy.tools.lab import Cluster

pytestmark = pytest.mark.usefixtures("flushed")


def test_nothing_is_done_where_nothing_changed(served: Cluster, clients: Crowd) -> None:
    """No element is touched, no packet lost, no client moved."""
    objects_ = objects(served)
    proxy = started(served, objects_)
    asked = [(address, 80) for address in OTHER]
    before = [clients.who(*where) for where in asked]
    expected = snapshot(served)
    streams = Streams(
        *(
            Traffic(served.client, *target(served, frontend, family), protocol, rate=200, held=held)
            for family in FAMILIES
            for frontend, protocol, held in (
                (Frontend.NODE_PORT, Protocol.TCP, 2),
                (Frontend.CLUSTER_IP, Protocol.UDP, 0),
            )
        )
    )
    with streams:
        for _ in range(4):
            streams.run(10)
            proxy.close(keep_tables=True)
            proxy = started(served, objects_)
            assert proxy.report.resynced
            assert proxy.report.operations == 0
            proxy.clean_up()
            streams.run(10)
    assert streams.lost == []
    assert expected == snapshot(served)
    assert before == [clients.who(*where) for where in asked]
    for family in FAMILIES:
        check_packets(served, family)
    proxy.close()


def test_slots_are_kept_where_history_put_them(served: Cluster) -> None:
    """What scaling has put out of order, or left to be tidied, is taken over as it is."""
    proxy = started(served, objects(served))
    proxy.put(*objects(served, web_pods=2))
    every = objects(served)
    turned = [
        endpoint_slice(
            piece.service.name,
            *reversed(piece.endpoints[1:]),
            name=piece.name.name,
            family=piece.family,
            ports=piece.ports,
        )
        if isinstance(piece, EndpointSlice)
        else piece
        for piece in every
    ]
    proxy.put(*turned)
    swap_slots(served)
    proxy.close(keep_tables=True)  # with leftovers not yet tidied
    left = snapshot(served)
    with started(served, turned) as second:
        assert second.report.operations == 0
        assert left == snapshot(served)
        names = {pod.name for pod in served.pods[1:]}
        for family in FAMILIES:
            assert reached(served.client, CLUSTER_IP.of(family), 80) == names
        second.clean_up()
        assert left != snapshot(served)
        for family in FAMILIES:
            assert reached(served.client, CLUSTER_IP.of(family), 80) == names


def swap_slots(cluster: Cluster) -> None:
    """Exchange what two slots of a frontend hold, as another history might have."""
    for family in FAMILIES:
        table, address = f"{family.table} nfproxy", CLUSTER_IP.of(family)
        name = f"element {table} endpoints-tcp"
        found = []
        for slot in (0, 2):
            key = f"{address} . 80 . {slot}"
            listed = rules.listing(cluster.nodes[0], *f"map {table} endpoints-tcp".split())
            value = re.search(rf"{re.escape(key)} : (\S+ \. \d+)", listed)
            assert value
            found.append((key, value[1]))
        (first, one), (second, other) = found
        text = f"delete {name} {{ {first}, {second} }}\n"
        text += f"add {name} {{ {first} : {other}, {second} : {one} }}\n"
        rules.load(cluster.nodes[0], text)


def test_what_changed_meanwhile_is_applied(served: Cluster) -> None:
    """Services and endpoints that came, changed and went while no process was there."""
    proxy = started(served, objects(served, web_pods=2))
    extra = everywhere(
        "gone",
        cluster_ips=("10.96.0.99", "fd00:10:96::99"),
        node_port=30099,
        load_balancer_ips=(),
        external_ips=(),
        affinity_timeout_s=60,
    )
    proxy.put(extra, *endpoints_of("gone", served.pods))
    proxy.close(keep_tables=True)
    with started(served, objects(served)) as second:
        assert second.report.operations > 0
        second.clean_up()
        for index, family in enumerate(FAMILIES):
            check_packets(served, family)
            gone_ip = ("10.96.0.99", "fd00:10:96::99")[index]
            assert probe(served.client, gone_ip, 80, timeout_s=SHORT_S).dropped
            assert probe(served.client, served.nodes[0].address(family), 30099).refused


def test_one_table_only(served: Cluster) -> None:
    """The table of one family is there, the other has been deleted."""
    for family in FAMILIES:
        expected = left_by_another(served)
        rules.load(served.nodes[0], f"delete table {family.table} nfproxy\n")
        with started(served, objects(served)):
            for each in FAMILIES:
                check_packets(served, each)
            assert expected == snapshot(served)


LAYOUTS = {
    "shorter keys": """map frontends {
        typeof ip daddr . th dport : verdict
        elements = { 192.0.2.1 . 1536 : drop }
    }""",
    "longer keys": """map frontends {
        typeof ip daddr . ip daddr . meta l4proto . th dport : verdict
        elements = { 192.0.2.1 . 192.0.2.1 . tcp . 80 : drop }
    }""",
    "a set, no map": "set frontends {\n typeof tcp dport\n elements = { 80 }\n }",
    "other values": """map endpoints-tcp {
        typeof tcp dport : tcp dport
        elements = { 80 : 80 }
    }""",
    "no intervals": "set service-cidrs {\n typeof ip daddr\n elements = { 192.0.2.1 }\n }",
    "intervals": """set cluster-ips {
        typeof ip daddr
        flags interval
        elements = { 192.0.2.0/24 }
    }""",
    "another type of chain": """chain nat-prerouting {
        type filter hook prerouting priority -100; policy drop;
    }""",
    "a base chain for a plain one": """chain services {
        type filter hook forward priority 0; policy drop;
    }""",
    "a set that the kernel fills": """set source-ranges {
        typeof ip saddr
        flags dynamic,timeout
        timeout 1h
        elements = { 192.0.2.1 }
    }""",
    "empty": "",
    "of another program": "chain input {\n type filter hook input priority 0; policy drop;\n }",
}


@families
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_a_table_of_another_layout_is_replaced(
    served: Cluster, family: Family, layout: str
) -> None:
    """What an older version, or another program, called nfproxy gives way as a whole."""
    expected = left_by_another(served)
    node = served.nodes[0]
    rules.load(node, f"delete table {family.table} nfproxy\n")
    rules.load(node, f"table {family.table} nfproxy {{\n{layout}\n}}\n")
    with started(served, objects(served)) as proxy:
        assert expected == snapshot(served)
        for each in FAMILIES:
            check_packets(served, each)
        proxy.put(*objects(served, web_pods=2))
        found = reached(served.client, CLUSTER_IP.of(family), 80)
        assert found == {pod.name for pod in served.pods[:2]}


@pytest.fixture
def older(served: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """
    Tables of another layout are in force, and too large for one transaction.

    They are full, so no connection has to fail. Yields what is to be there afterwards.
    """
    expected = left_by_another(served)
    leave_older(served)
    monkeypatch.setattr(reconciler, "_SCRIPT_ELEMENTS", 1)
    with transactions_of(8):
        yield expected
    for family in FAMILIES:
        rules.load(served.nodes[0], ruleset.delete_table_text(family, NEXT_TABLE))


def leave_older(cluster: Cluster) -> None:
    """Leave tables that say that they have another layout."""
    for family in FAMILIES:
        rules.load(cluster.nodes[0], ruleset.delete_table_text(family, TABLE))
    with mock.patch.object(ruleset, "TABLE_COMMENT", "nfproxy layout 1, managed"):
        left_by_another(cluster)


def all_streams(cluster: Cluster) -> Streams:
    """Return streams of connections that any gap would show."""
    return Streams(
        *(
            Traffic(cluster.client, *target(cluster, frontend, family), protocol, rate=300)
            for family in FAMILIES
            for frontend, protocol in (
                (Frontend.NODE_PORT, Protocol.TCP),
                (Frontend.CLUSTER_IP, Protocol.UDP),
            )
        )
    )


def test_large_tables_of_another_layout_serve_until_the_new_ones_do(
    served: Cluster, older: dict[str, Any]
) -> None:
    """They are filled in many transactions, and no connection fails meanwhile."""
    streams = all_streams(served)
    with streams:
        streams.run(10)
        started(served, objects(served)).close(keep_tables=True)
        streams.run(10)
    assert streams.lost == []
    assert older == snapshot(served)
    assert NEXT_TABLE not in rules.listing(served.nodes[0], "tables")
    for family in FAMILIES:
        check_packets(served, family)


class Ended(BaseException):
    """The process ends here."""


@contextmanager
def ended_after(loads: int) -> Iterator[None]:
    """Let a process end as soon as it has loaded so many texts."""
    original, loaded = Kernel.load, list[str]()

    def load(kernel: Kernel, text: str) -> None:
        original(kernel, text)
        loaded.append(text)
        if len(loaded) == loads:
            kernel.close()
            raise Ended

    with mock.patch.object(Kernel, "load", load), pytest.raises(Ended):
        yield


@pytest.mark.parametrize("loads", [1, 2, 4])
def test_a_process_that_ends_while_it_changes_the_layout(
    served: Cluster, older: dict[str, Any], loads: int
) -> None:
    """What it leaves serves, and the next process goes on: no connection fails, nothing is left."""
    streams = all_streams(served)
    with streams:
        with ended_after(loads):
            started(served, objects(served))
        streams.run(10)
        started(served, objects(served)).close(keep_tables=True)
    assert streams.lost == []
    assert older == snapshot(served)
    assert NEXT_TABLE not in rules.listing(served.nodes[0], "tables")
