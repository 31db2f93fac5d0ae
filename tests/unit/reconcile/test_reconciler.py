"""What the reconciler commits, in which order, and what it does after failures."""

import pytest
from support.fakekernel import FlakyKernel
from support.memoryproxy import CONFIG, MemoryProxy
from support.objects import changes, endpoint_slice, service
from support.tables import dump, meaning

from nfproxy.errors import DataplaneError, NfproxyError
from nfproxy.model.addresses import FAMILIES, Family, parse_address, parse_prefix
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.nft.chains import FIXED_CHAINS
from nfproxy.reconcile.reconciler import LINGER_S
from nfproxy.reconcile.script import script
from nfproxy.reconcile.transition import Operation

WEB = service("web")
A, B, C = "10.244.1.1", "10.244.1.2", "10.244.1.3"
TCP_SLOTS = schema.ENDPOINTS[Protocol.TCP]


def web(*addresses: str):
    return endpoint_slice("web", *addresses)


def slot_key(number: int) -> bytes:
    address = parse_address("10.96.0.1")
    return address + schema.port_bytes(80) + schema.number_bytes(number)


def stranger(proxy: MemoryProxy, *operations: Operation) -> None:
    """Change elements behind the reconciler's back."""
    proxy.kernel.commit(operations)


def test_the_first_sync_makes_tables_and_everything_in_them(proxy: MemoryProxy):
    """
    From nothing to a working Service, both tables included.
    """
    report = proxy.put(WEB, web(A, B))

    assert report.resynced
    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-2"
    assert proxy.slots("10.96.0.1") == {0: f"{A} . 8080", 1: f"{B} . 8080"}
    assert all(proxy.kernel.has_table(family) for family in FAMILIES)


def test_replacing_an_endpoint_costs_two_operations(proxy: MemoryProxy):
    """
    One delete and one add of a map element; no chain, no verdict, nothing of other Services.
    """
    proxy.put(WEB, web(A, B), service("other", cluster_ips=("10.96.0.2",)))
    before = proxy.kernel.transactions
    report = proxy.put(web(A, C))

    assert report.operations == 2
    assert report.chains_made == 0
    assert proxy.kernel.transactions == before + 1
    assert proxy.slots("10.96.0.1") == {0: f"{A} . 8080", 1: f"{C} . 8080"}


def test_syncing_what_is_in_force_commits_nothing(proxy: MemoryProxy):
    """
    An object that comes again as it was costs no transaction.
    """
    proxy.put(WEB, web(A, B))
    before = proxy.kernel.transactions
    report = proxy.put(WEB, web(A, B))

    assert (report.operations, report.chains_made) == (0, 0)
    assert proxy.kernel.transactions == before


def test_a_slot_outlives_the_shrinking_of_its_frontend(proxy: MemoryProxy):
    """
    A packet that read the old verdict may still draw the last slot; later it goes.
    """
    proxy.put(WEB, web(A, B, C))
    proxy.put(web(B, C))

    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-2"
    assert proxy.slots("10.96.0.1")[2] == f"{C} . 8080"
    assert proxy.reconciler.next_due() == proxy.now + LINGER_S
    assert proxy.linger() == 1
    assert sorted(proxy.slots("10.96.0.1").values()) == [f"{B} . 8080", f"{C} . 8080"]


def test_slots_outlive_their_service(proxy: MemoryProxy):
    """
    A deleted Service's verdict goes at once and its slots later.
    """
    proxy.put(WEB, web(A, B))
    proxy.remove(WEB, web())

    assert proxy.verdict("10.96.0.1") == ""
    assert len(proxy.slots("10.96.0.1")) == 2
    proxy.linger()
    assert not proxy.slots("10.96.0.1")


def test_what_lingers_counts_from_the_end_of_the_commit(proxy: MemoryProxy):
    """
    A transaction may take longer than the whole delay; until its end the old verdict is read.
    """

    def slow() -> None:
        proxy.now += 10.0

    proxy.put(WEB, web(A, B, C))
    proxy.kernel.watch = slow
    proxy.put(web(A))

    assert proxy.reconciler.tidy() == 0
    assert len(proxy.slots("10.96.0.1")) == 3


def test_tidying_does_not_run_ahead_of_the_verdict(proxy: MemoryProxy):
    """
    A change that is planned but not in force yet does not take slots away.
    """
    proxy.put(WEB, web(A, B, C))
    proxy.put(web(A, B))
    touched = proxy.planner.apply(changes(web(A)))
    proxy.linger()

    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-2"
    assert set(proxy.slots("10.96.0.1")) == {0, 1}
    proxy.reconciler.sync(touched)
    proxy.linger()
    assert proxy.slots("10.96.0.1") == {0: f"{A} . 8080"}


def test_an_unused_chain_is_kept_for_a_while_and_then_removed(proxy: MemoryProxy):
    """
    The next rollout passes through the same counts; after that nobody needs the chain.
    """
    proxy.put(WEB, web(A, B))
    proxy.put(web(A))
    proxy.linger()

    assert "cluster-tcp-2" in proxy.chains()
    proxy.idle()
    assert "cluster-tcp-2" not in proxy.chains()
    assert "cluster-tcp-1" in proxy.chains()
    assert proxy.reconciler.next_due() is None


def test_a_chain_that_is_needed_again_stays(proxy: MemoryProxy):
    """
    An idle chain comes back into use without being made anew.
    """
    proxy.put(WEB, web(A, B))
    proxy.put(web(A))
    report = proxy.put(web(A, B))
    proxy.idle()

    assert report.chains_made == 0
    assert "cluster-tcp-2" in proxy.chains()


def test_a_chain_removal_of_unknown_outcome_is_tried_again(proxy: MemoryProxy):
    """
    Where libnftables crashed the chains may be gone already; that is not an error for ever.
    """
    proxy.put(WEB, web(A, B))
    proxy.put(web(A))
    proxy.linger()
    proxy.kernel.faults = ["after"]
    proxy.idle()
    proxy.idle()

    assert proxy.reconciler.next_due() is None


def test_a_chain_that_may_be_gone_is_made_before_it_is_used(proxy: MemoryProxy):
    """
    After a removal of unknown outcome nothing relies on the chain.
    """
    proxy.put(WEB, web(A, B))
    proxy.put(web(A))
    proxy.linger()
    proxy.kernel.faults = ["after"]
    proxy.idle()
    report = proxy.put(web(A, B))

    assert report.chains_made == 1
    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-2"


def test_a_takeover_commits_nothing_where_all_is_right(proxy: MemoryProxy):
    """
    A new process over the tables of the old one reads them, and leaves every element alone.
    """
    proxy.put(WEB, web(A, B))
    before = proxy.kernel.operations
    successor = proxy.successor()
    report = successor.resync()

    assert report.resynced
    assert report.operations == 0
    assert proxy.kernel.operations == before


def test_a_takeover_keeps_the_slots_it_finds(proxy: MemoryProxy):
    """
    Which endpoint sits in which slot is history, and a new process does not rewrite it.
    """
    proxy.put(WEB, web(B, C))
    proxy.put(web(A, B, C))
    before = dump(proxy.kernel)
    proxy.successor().resync()

    assert before == dump(proxy.kernel)


def test_what_lingers_at_a_takeover_is_removed_by_the_successor(proxy: MemoryProxy):
    """
    Leftovers of the old process do not stay for ever.
    """
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
    """
    Whether the failed transaction took effect or not, what is there is read and completed.
    """
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
    """
    `tidy` does not touch a table that nobody has read.
    """
    proxy.put(WEB, web(A, B))
    proxy.kernel.faults = ["before"]
    with pytest.raises(DataplaneError):
        proxy.put(web(A, C))

    assert not proxy.reconciler.trusted
    assert proxy.linger() == 0
    assert proxy.resync().resynced
    assert proxy.reconciler.trusted


def test_a_slot_that_a_stranger_deleted_comes_back(proxy: MemoryProxy):
    """
    A takeover repairs a hole in a frontend's slots.
    """
    proxy.put(WEB, web(A, B, C))
    stranger(proxy, Operation(False, Family.IPV4, TCP_SLOTS, slot_key(1)))
    proxy.successor().resync()

    assert set(proxy.slots("10.96.0.1")) == {0, 1, 2}
    assert len(set(proxy.slots("10.96.0.1").values())) == 3


@pytest.mark.parametrize("value", [A, "10.244.1.9"])
def test_slots_without_a_verdict_do_not_hinder_a_repair(proxy: MemoryProxy, value: str):
    """
    A slot behind a hole is cleared away before the slots of a new frontend are written.
    """
    proxy.put(WEB)
    data = schema.endpoint_bytes(parse_address(value), 8080)
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


def frontend_element(address: str) -> bytes:
    return parse_address(address) + schema.protocol_bytes(Protocol.TCP) + schema.port_bytes(80)


def test_elements_that_a_stranger_added_go(proxy: MemoryProxy):
    """
    A takeover removes what nobody asked for.
    """
    proxy.put(WEB, web(A))
    wanted = dump(proxy.kernel)
    stranger(
        proxy,
        Operation(True, Family.IPV4, schema.CLUSTER_IPS, parse_address("10.96.0.99")),
        Operation(True, Family.IPV4, schema.FRONTENDS, frontend_element("10.96.0.99"), "drop"),
        Operation(True, Family.IPV4, TCP_SLOTS, slot_key(7), b"\x0a\xf4\0\1\0\x50\0\0"),
    )
    proxy.successor().resync()

    assert wanted == dump(proxy.kernel)


def test_a_base_chain_that_a_stranger_added_goes(proxy: MemoryProxy):
    """
    It sees packets, so it must not stay; a takeover removes it with the same script.
    """
    proxy.put(WEB, web(A))
    proxy.kernel.load(
        "add chain ip nfproxy evil { type filter hook input priority 0; policy drop; }\n"
    )
    proxy.successor().resync()

    assert "evil" not in proxy.chains()


def test_rules_that_a_stranger_changed_are_restored(proxy: MemoryProxy):
    """
    Fixed chains and shapes in use get their rules anew.
    """
    proxy.put(WEB, web(A))
    rules = {name: list(r) for name, r in proxy.kernel.tables[Family.IPV4].rules.items()}
    proxy.kernel.load(
        "flush chain ip nfproxy services\nflush chain ip nfproxy cluster-tcp-1\n"
        "flush chain ip nfproxy nat-prerouting\n"
    )
    proxy.successor().resync()

    assert rules == proxy.kernel.tables[Family.IPV4].rules


def test_a_table_of_another_layout_is_replaced(proxy: MemoryProxy):
    """
    Where the program is refused, whole tables are replaced, elements included.
    """
    proxy.kernel.load(
        "table ip nfproxy {\n\tset cluster-ips {\n\t\ttypeof meta l4proto\n\t}\n"
        "\tchain services {\n\t}\n}\n"
    )
    proxy.put(WEB, web(A, B))

    other = MemoryProxy(FlakyKernel())
    other.put(WEB, web(A, B))
    assert dump(proxy.kernel) == dump(other.kernel)
    assert proxy.put(web(A, C)).operations == 2


def test_run_and_render_make_the_same_elements_from_nothing(proxy: MemoryProxy):
    """
    Slots included: the script that `render` prints equals what a first sync commits.
    """
    proxy.put(WEB, web(C, A, B), service("lb", load_balancer_ips=("192.0.2.1",), node_port=30080))
    other = FlakyKernel()
    other.load(script(proxy.planner.desired, CONFIG, FAMILIES))

    assert dump(proxy.kernel) == dump(other)


def test_only_the_families_asked_for_are_programmed():
    """
    On a host without IPv6 there is no table for it, and no attempt at one.
    """
    proxy = MemoryProxy(FlakyKernel())
    proxy.reconciler = type(proxy.reconciler)(
        proxy.kernel, proxy.planner.desired, CONFIG, [Family.IPV4], lambda: proxy.now
    )
    proxy.put(service("web", cluster_ips=("10.96.0.1", "fd00:96::1")), web(A))

    assert not proxy.kernel.has_table(Family.IPV6)
    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-1"


def test_source_ranges_are_in_force_before_the_guarded_verdict(proxy: MemoryProxy):
    """
    No packet meets a guard whose list is still empty, nor one whose list has just gone.
    """
    open_to_all = service("web", load_balancer_ips=("192.0.2.1",))
    guarded = service(
        "web", load_balancer_ips=("192.0.2.1",), source_ranges=("10.0.0.0/8", "128.0.0.0/1")
    )
    proxy.put(open_to_all, web(A))
    seen: list[tuple[str, int]] = []

    def look() -> None:
        ranges = proxy.kernel.elements(Family.IPV4, schema.SOURCE_RANGES)
        seen.append((proxy.verdict("192.0.2.1"), len(ranges)))

    proxy.kernel.watch = look
    proxy.put(guarded)
    proxy.put(open_to_all)
    proxy.linger()

    balanced = [step for step in seen if step[1] == 2]
    assert ("goto guarded-external-tcp-1", 2) in balanced
    assert all(count == 2 for verdict, count in seen if verdict.startswith("goto guarded-"))
    assert ("goto external-tcp-1", 2) in seen
    assert seen[-1] == ("goto external-tcp-1", 0)


def test_guarded_frontends_without_endpoints_share_one_chain(proxy: MemoryProxy):
    """
    The chain does not depend on the protocol, so it is not written anew for each.
    """

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


def note(proxy: MemoryProxy, client: str, endpoint: str, which: int = 0) -> bytes:
    """Note a client on one of the desired lists; return its key."""
    number = sorted(k.number for k in proxy.planner.desired.scopes)[which]
    key = parse_address(client) + number
    proxy.kernel.note(Family.IPV4, key, parse_address(endpoint))
    return key


STICKY = service("web", affinity_timeout_s=30)


def notes(proxy: MemoryProxy) -> set[bytes]:
    return {key for key, _ in proxy.kernel.noted_clients(Family.IPV4, [b""])}


def test_notes_on_an_endpoint_go_with_it(proxy: MemoryProxy):
    """
    A client is not sent to an endpoint that left; other clients keep theirs.
    """
    proxy.put(STICKY, web(A, B))
    leaving, staying = note(proxy, "192.0.2.1", A), note(proxy, "192.0.2.2", B)
    proxy.put(web(B))

    assert leaving not in notes(proxy)
    assert staying in notes(proxy)


def test_a_note_that_came_too_late_goes_as_well(proxy: MemoryProxy):
    """
    A packet on its way may note an endpoint just after it left; one more look finds it.
    """
    proxy.put(STICKY, web(A, B))
    proxy.put(web(B))
    late = note(proxy, "192.0.2.1", A)
    proxy.linger()

    assert late not in notes(proxy)


def test_a_note_that_came_too_late_at_a_takeover_goes_as_well(proxy: MemoryProxy):
    """
    The second look is owed after a fresh reading, too: what left is not known any more.
    """
    proxy.put(STICKY, web(A, B))
    successor = proxy.successor()
    successor.planner.apply(changes(web(B)))
    successor.resync()
    late = note(successor, "192.0.2.1", A)
    successor.linger()

    assert late not in notes(proxy)


def test_a_takeover_keeps_clients_where_they_are(proxy: MemoryProxy):
    """
    Notes that are still right survive a restart, others do not.
    """
    proxy.put(STICKY, web(A, B))
    right, wrong = note(proxy, "192.0.2.1", A), note(proxy, "192.0.2.2", C)
    proxy.successor().resync()

    assert notes(proxy) == {right}
    assert wrong not in notes(proxy)


def test_another_timeout_rewrites_the_chain_that_notes(proxy: MemoryProxy):
    """
    The chain keeps its name, and gets the new rule before anything else happens.
    """
    proxy.put(STICKY, web(A))
    proxy.put(service("web", affinity_timeout_s=60))
    rules = proxy.kernel.tables[Family.IPV4].rules
    (record,) = (name for name in rules.keys() - set(FIXED_CHAINS) if name.startswith("record-"))

    assert "timeout 60s" in rules[record][0]


def test_another_configuration_loads_the_program_anew(proxy: MemoryProxy):
    """
    Also the rules of chains that exist already follow the node's configuration.
    """
    proxy.put(WEB, web(A))
    config = NodeConfig(node_name="node-1", masquerade_mark=0x2, masquerade_all=True)
    report = proxy.reconfigure(config)

    assert report.resynced
    assert report.operations == 0
    assert "0x00000002" in proxy.kernel.tables[Family.IPV4].rules["cluster-tcp-1"][0]


def test_service_cidrs_and_node_port_addresses_follow_the_configuration(proxy: MemoryProxy):
    """
    Set elements that belong to no Service change with the node.
    """
    prefixes = (parse_prefix("10.0.0.0/8"),)
    proxy.put(WEB)
    config = NodeConfig(node_name="node-1", node_port_prefixes={Family.IPV4: prefixes})
    proxy.reconfigure(config)
    held = [key for key, _ in proxy.kernel.elements(Family.IPV4, schema.NODE_PORT_ADDRESSES)]

    assert held == [schema.prefix_key(prefixes[0])]


def test_a_kernel_without_tables_is_not_mistaken_for_one_of_another_layout(proxy: MemoryProxy):
    """
    A program that is refused though there is nothing in its way is an error to report.
    """
    proxy.kernel.faults = [""] * 2 * len(schema.MANAGED) + ["before"]

    with pytest.raises(NfproxyError, match="injected"):
        proxy.put(WEB)
