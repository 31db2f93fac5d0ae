"""What elements have counted: those in a map, and those that nfproxy has deleted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nfproxy.dataplane.deletions import CountedDeletions, DeletedElement
from nfproxy.dataplane.kernel import Kernel
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.nft import schema
from nfproxy.reconcile.transition import Operation
from nfproxy.tools.lab import Lab, Namespace

V4, V6 = FAMILIES
ADDRESS = {V4: "10.96.0.1", V6: "fd00::1"}
TCP_80 = schema.protocol_bytes(6) + schema.port_bytes(80)


def table(family: Family, elements: str) -> str:
    """Return a table with some frontends, and two shapes."""
    word = family.table
    return f"""
table {word} nfproxy {{
    chain one {{
    }}
    chain two {{
    }}
    map frontends {{
        typeof {word} daddr . meta l4proto . th dport : verdict
        counter
        elements = {{ {elements} }}
    }}
}}
"""


def key(family: Family) -> bytes:
    """Return the key of the element that has counted."""
    return parse_address(ADDRESS[family]) + TCP_80


class Node:
    """A namespace with tables, a kernel, and the reports of its deletions."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.kernel: Kernel = namespace.call(Kernel)
        for family in FAMILIES:
            address = ADDRESS[family]
            self.nft(
                table(
                    family,
                    f"{address} . tcp . 80 counter packets 77 bytes 9 : goto one, "
                    f"{address} . tcp . 81 counter packets 0 bytes 0 : goto one",
                )
            )
        self.deletions: CountedDeletions = namespace.call(self.kernel.deletions)

    def nft(self, text: str) -> None:
        """Load text as another process."""
        self.namespace.run(["nft", "-f", "-"], input=text)

    def replace(self, family: Family) -> None:
        """Lead the frontend that has counted to another chain."""
        delete = Operation(False, family, schema.FRONTENDS, key(family))
        add = Operation(True, family, schema.FRONTENDS, key(family), schema.goto("two"))
        self.kernel.commit([delete, add])

    def close(self) -> None:
        """Close both sockets."""
        self.kernel.close()
        self.deletions.close()


@pytest.fixture
def node(lab: Lab) -> Iterator[Node]:
    namespace = lab.namespace("deletions")
    made = Node(namespace)
    yield made
    made.close()
    lab.drop(namespace)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.label)
def test_the_count_of_a_replaced_element_is_reported(node: Node, family: Family) -> None:
    """With the generation of the ruleset that no longer has the element."""
    before, counted = node.kernel.counters(family, schema.FRONTENDS)
    assert [*counted] == [(key(family), 77)]
    node.replace(family)
    after, left = node.kernel.counters(family, schema.FRONTENDS)

    assert before is not None
    assert after == (before + 1) & 0xFFFF
    assert [*left] == []
    expected = DeletedElement(after, family, schema.FRONTENDS, key(family), 77)
    assert [*node.deletions.read()] == [expected]
    assert [*node.deletions.read()] == []


def test_elements_that_have_counted_nothing_are_not_reported(node: Node) -> None:
    """Added elements are not reported either."""
    idle = parse_address(ADDRESS[V4]) + schema.protocol_bytes(6) + schema.port_bytes(81)
    node.kernel.commit([Operation(False, V4, schema.FRONTENDS, idle)])
    node.kernel.commit([Operation(True, V4, schema.FRONTENDS, idle, schema.goto("two"))])

    assert [*node.deletions.read()] == []


def test_deletions_by_other_processes_are_not_reported(node: Node) -> None:
    """Another proxy's tables must not fill the buffer."""
    node.nft(f"delete element ip nfproxy frontends {{ {ADDRESS[V4]} . tcp . 80 }}")
    node.nft(table(V4, f"{ADDRESS[V4]} . tcp . 80 counter packets 5 bytes 0 : goto one"))
    node.nft("flush map ip nfproxy frontends")

    assert [*node.deletions.read()] == []


def test_an_absent_table_has_counted_nothing(lab: Lab) -> None:
    """It has no generation."""
    namespace = lab.namespace("empty")
    kernel: Kernel = namespace.call(Kernel)

    assert kernel.counters(V4, schema.FRONTENDS) == (None, [])
    kernel.close()
    lab.drop(namespace)


def test_more_than_fits_is_lost_without_an_error(node: Node) -> None:
    """Reading goes on with what the kernel kept."""
    node.deletions.close()
    node.deletions = node.namespace.call(CountedDeletions, node.kernel._netlink.port, 1)
    for number in range(50):
        frontend = parse_address(f"10.97.0.{number}") + TCP_80
        add = Operation(True, V4, schema.FRONTENDS, frontend, schema.goto("one"))
        node.kernel.commit([add])
    node.replace(V4)  # lost
    assert [*node.deletions.read()] == []
    node.replace(V6)

    assert [each.family for each in node.deletions.read()] == [V6]
