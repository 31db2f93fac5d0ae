"""What a dataplane accepts and refuses: the kernel, and the fake that other tests use."""

from collections.abc import Callable

import pytest
from support.kernel.fake import FakeKernel
from support.kernel.real import RealKernel

from nfproxy.errors import TransactionError
from nfproxy.model.addresses import FAMILIES, Family, parse_address, parse_prefix
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.nft import ruleset, schema
from nfproxy.nft.chains import AffinityList, Policy, RecordChain, Shape
from nfproxy.nft.schema import TABLE, Value
from nfproxy.reconcile.transition import Operation

Dataplane = FakeKernel | RealKernel

CONFIG = NodeConfig(node_name="node-1")
V4, V6 = Family.IPV4, Family.IPV6
SHAPE = Shape(Policy.CLUSTER, Protocol.TCP, cluster=2)
FRONTEND = parse_address("10.96.0.1") + schema.protocol_bytes(6) + schema.port_bytes(80)
SLOT = parse_address("10.96.0.1") + schema.port_bytes(80) + schema.number_bytes(0)
ONE = parse_address("10.244.0.1") + schema.port_bytes(8080)
OTHER = parse_address("10.244.0.2") + schema.port_bytes(8080)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.namespaces)])
def dataplane(request: pytest.FixtureRequest) -> Dataplane:
    """The fake, and the kernel: each with tables that have one balancing chain."""
    made: Dataplane = FakeKernel()
    if request.param == "real":
        made = request.getfixturevalue("real")
    for family in FAMILIES:
        made.load(ruleset.program_text(CONFIG.program, family, [SHAPE]))
    return made


def add(name: str, key: bytes, value: Value = None, family: Family = V4) -> Operation:
    return Operation(True, family, name, key, value)


def delete(name: str, key: bytes, family: Family = V4) -> Operation:
    return Operation(False, family, name, key)


def cidr(text: str) -> bytes:
    return schema.prefix_key(parse_prefix(text))


def held(dataplane: Dataplane, name: str, family: Family = V4) -> dict[bytes, Value]:
    return dict(dataplane.elements(family, name))


def refuses(dataplane: Dataplane, *operations: Operation) -> None:
    """Check that the operations are refused, and that no element changes."""

    def everything() -> list[dict[bytes, Value]]:
        return [held(dataplane, name, f) for f in FAMILIES for name in schema.SCHEMAS]

    before = everything()
    with pytest.raises(TransactionError):
        dataplane.commit(operations)
    assert before == everything()


def test_added_elements_are_there_and_deleted_ones_are_not(dataplane: Dataplane):
    """Elements of every kind are read back as they were written, until they are deleted."""
    elements: list[tuple[str, bytes, Value]] = [
        (schema.CLUSTER_IPS, parse_address("10.96.0.1"), None),
        (schema.FRONTENDS, FRONTEND, schema.goto(SHAPE.name)),
        (schema.NODE_PORTS, FRONTEND[4:], schema.DROP),
        (schema.ENDPOINTS[Protocol.TCP], SLOT, ONE),
        (schema.SERVICE_CIDRS, cidr("10.96.0.0/16"), None),
    ]
    dataplane.commit([add(*element) for element in elements])

    for name, key, value in elements:
        assert {key: value} == held(dataplane, name)

    dataplane.commit([delete(name, key) for name, key, _ in elements])

    assert all(not held(dataplane, name) for name in schema.SCHEMAS)


def test_both_families_change_in_one_transaction(dataplane: Dataplane):
    """A refusal in one family undoes what the same transaction did in the other."""
    refuses(
        dataplane,
        add(schema.CLUSTER_IPS, parse_address("10.96.0.1")),
        delete(schema.CLUSTER_IPS, parse_address("fd00::1"), V6),
    )


def test_deleting_an_absent_element_is_refused(dataplane: Dataplane):
    """So a reconciler that is wrong about the kernel gets an error."""
    refuses(dataplane, delete(schema.ENDPOINTS[Protocol.TCP], SLOT))


def test_deleting_twice_is_refused(dataplane: Dataplane):
    """Within one transaction as well."""
    name = schema.ENDPOINTS[Protocol.TCP]
    dataplane.commit([add(name, SLOT, ONE)])

    refuses(dataplane, delete(name, SLOT), delete(name, SLOT))


def test_adding_a_key_with_another_value_is_refused(dataplane: Dataplane):
    """An element's value cannot be changed in place."""
    name = schema.ENDPOINTS[Protocol.TCP]
    dataplane.commit([add(name, SLOT, ONE)])

    refuses(dataplane, add(name, SLOT, OTHER))


def test_adding_a_verdict_other_than_the_one_there_is_refused(dataplane: Dataplane):
    """The same holds for verdicts."""
    dataplane.commit([add(schema.FRONTENDS, FRONTEND, schema.DROP)])

    refuses(dataplane, add(schema.FRONTENDS, FRONTEND, schema.goto(SHAPE.name)))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (schema.ENDPOINTS[Protocol.TCP], SLOT, ONE),
        (schema.CLUSTER_IPS, parse_address("10.96.0.1"), None),
        (schema.FRONTENDS, FRONTEND, schema.goto(SHAPE.name)),
        (schema.SERVICE_CIDRS, cidr("10.96.0.0/16"), None),
        (schema.SOURCE_RANGES, schema.source_range_key(parse_prefix("10.0.0.0/8"), bytes(8)), None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_adding_a_present_element_changes_nothing(
    dataplane: Dataplane, name: str, key: bytes, value: Value
):
    """The kernel accepts an element that it holds already."""
    dataplane.commit([add(name, key, value)])
    dataplane.commit([add(name, key, value)])

    assert {key: value} == held(dataplane, name)


def test_delete_and_add_in_one_transaction_replace_a_value(dataplane: Dataplane):
    """The reconciler gives a slot another endpoint in this way."""
    name = schema.ENDPOINTS[Protocol.TCP]
    dataplane.commit([add(name, SLOT, ONE)])
    dataplane.commit([delete(name, SLOT), add(name, SLOT, OTHER)])

    assert held(dataplane, name) == {SLOT: OTHER}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10.96.0.0/16", "10.96.0.0/24"),
        ("10.96.0.0/24", "10.96.0.0/16"),
        ("10.96.0.0/16", "10.96.255.255/32"),
        ("0.0.0.0/0", "255.255.255.255/32"),
    ],
)
def test_overlapping_ranges_are_refused(dataplane: Dataplane, one: str, other: str):
    """Two ranges of a set never share an address."""
    dataplane.commit([add(schema.SERVICE_CIDRS, cidr(one))])

    refuses(dataplane, add(schema.SERVICE_CIDRS, cidr(other)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["10.96.0.0/16"], ["10.96.0.0/12"]),
        (["10.96.0.0/12"], ["10.96.0.0/16", "10.97.0.0/16"]),
        (["10.96.0.0/16", "10.97.0.0/24"], ["10.97.0.0/24"]),
        (["0.0.0.0/0"], ["128.0.0.0/1"]),
        (["240.0.0.0/4"], ["0.0.0.0/0"]),
    ],
)
def test_ranges_are_replaced_in_one_transaction(
    dataplane: Dataplane, old: list[str], new: list[str]
):
    """
    Deletions first, then additions: larger, smaller and adjacent ranges, up to the last address.
    """
    name = schema.SERVICE_CIDRS
    dataplane.commit([add(name, cidr(text)) for text in old])
    dataplane.commit(
        [delete(name, cidr(text)) for text in old] + [add(name, cidr(text)) for text in new]
    )

    assert {cidr(text) for text in new} == held(dataplane, name).keys()


def test_a_verdict_for_a_chain_that_does_not_exist_is_refused(dataplane: Dataplane):
    """Chains are made before elements point to them."""
    refuses(dataplane, add(schema.FRONTENDS, FRONTEND, schema.goto("cluster-tcp-9")))


def test_elements_of_a_set_that_does_not_exist_are_refused(dataplane: Dataplane):
    """Another process has deleted the table, say."""
    dataplane.load("delete table ip nfproxy\n")

    with pytest.raises(TransactionError):
        dataplane.commit([add(schema.CLUSTER_IPS, parse_address("10.96.0.1"))])


def chain_names(dataplane: Dataplane) -> set[str]:
    return {chain.name for chain in dataplane.chains(V4)}


def test_deleting_a_chain_that_an_element_leads_to_is_refused(dataplane: Dataplane):
    """First delete the elements that lead there, then the chain."""
    dataplane.commit([add(schema.FRONTENDS, FRONTEND, schema.goto(SHAPE.name))])
    text = ruleset.delete_chain_text(V4, SHAPE.name)

    with pytest.raises(TransactionError):
        dataplane.load(text)
    assert SHAPE.name in chain_names(dataplane)

    dataplane.commit([delete(schema.FRONTENDS, FRONTEND)])
    dataplane.load(text)
    assert SHAPE.name not in chain_names(dataplane)


@pytest.mark.parametrize(
    "text",
    [
        ruleset.delete_chain_text(V4, "cluster-tcp-9"),
        "delete chain ip nfproxy services\n",
        "delete table ip nfproxy\ndelete table ip nfproxy\n",
        "add element ip nfproxy cluster-ips {\n\t10.96.0.1\n}\ndelete chain ip nfproxy absent\n",
        "table ip nfproxy {\n\tset cluster-ips {\n\t\ttypeof meta l4proto\n\t}\n}\n",
        "table ip nfproxy {\n\tchain more {\n\t\tgoto nowhere\n\t}\n}\n",
        "table ip nfproxy {\n\tchain more {\n\t\tip daddr @nothing drop\n\t}\n}\n",
        "once upon a time\n",
    ],
    ids=[
        "absent chain",
        "chain in use by rules",
        "absent table",
        "second command fails",
        "set of another kind",
        "rule to an absent chain",
        "rule with an absent set",
        "no nft",
    ],
)
def test_scripts_are_refused_as_a_whole(dataplane: Dataplane, text: str):
    """A refused script changes nothing."""
    before = chain_names(dataplane)

    with pytest.raises(TransactionError):
        dataplane.load(text)
    assert before == chain_names(dataplane)
    assert not held(dataplane, schema.CLUSTER_IPS)


def test_a_chain_is_deleted_with_its_rules(dataplane: Dataplane):
    """A chain that neither rules nor elements lead to can be deleted."""
    dataplane.load(f"delete chain ip nfproxy {SHAPE.name}\n")

    assert SHAPE.name not in chain_names(dataplane)


def test_the_program_is_loaded_again_without_touching_elements(dataplane: Dataplane):
    """At a restart chains get their rules again, and every element stays."""
    verdict = schema.goto(SHAPE.name)
    dataplane.commit([add(schema.FRONTENDS, FRONTEND, verdict)])
    dataplane.load(ruleset.program_text(CONFIG.program, V4, [SHAPE]))

    assert {FRONTEND: verdict} == held(dataplane, schema.FRONTENDS)


def test_a_replaced_table_is_empty(dataplane: Dataplane):
    """The complete script deletes the table first."""
    dataplane.commit([add(schema.FRONTENDS, FRONTEND, schema.goto(SHAPE.name))])
    dataplane.load(ruleset.replacement_text(CONFIG.program, V4, [SHAPE]))

    assert not held(dataplane, schema.FRONTENDS)
    assert {SHAPE.name, "services"} <= chain_names(dataplane)


def test_base_chains_have_a_hook(dataplane: Dataplane):
    """Packets pass a foreign base chain, so the reconciler must find it."""
    base = {chain.name for chain in dataplane.chains(V4) if chain.hook is not None}

    late = {"nat-prerouting-late", "nat-output-late"}
    assert {"nat-prerouting", "nat-output", "nat-postrouting", "nat-input", *late} == base


def test_an_absent_table_lists_as_empty(dataplane: Dataplane):
    """Reading it is not an error."""
    dataplane.load("delete table ip nfproxy\n")

    assert not dataplane.table_row(V4, TABLE)
    assert dataplane.table_row(V6, TABLE)
    assert not list(dataplane.chains(V4))
    assert not held(dataplane, schema.FRONTENDS)
    assert not list(dataplane.set_names(V4))


PORT = "default/web/tcp/"
CLUSTER = AffinityList(PORT, "cluster")
RECORD = RecordChain(PORT, Protocol.TCP, (CLUSTER,), 30)


def test_a_map_of_clients_comes_with_its_chain_and_goes_after_it(dataplane: Dataplane):
    """Not before: a chain's rules use it."""
    dataplane.load(ruleset.chains_text([RECORD], CONFIG.program, V4))
    assert CLUSTER.name in dataplane.set_names(V4)
    assert not dataplane.clients(V4)

    with pytest.raises(TransactionError):
        dataplane.load(ruleset.delete_map_text(V4, CLUSTER.name))
    removal = ruleset.delete_chain_text(V4, RECORD.name) + ruleset.delete_map_text(V4, CLUSTER.name)
    dataplane.load(removal)
    assert CLUSTER.name not in dataplane.set_names(V4)
    with pytest.raises(TransactionError):
        dataplane.load(ruleset.delete_map_text(V4, CLUSTER.name))


def test_every_transaction_calls_the_watcher():
    """The fake calls `watch` after a transaction that took effect, and not after a refusal."""
    calls: list[Callable[[], None]] = []
    fake = FakeKernel()
    fake.watch = lambda: calls.append(fake.watch)
    fake.load(ruleset.program_text(CONFIG.program, V4, [SHAPE]))
    with pytest.raises(TransactionError):
        fake.commit([delete(schema.CLUSTER_IPS, parse_address("10.96.0.1"))])

    assert len(calls) == 1
