"""What the reconciler commits, and in which order."""

from __future__ import annotations

import pytest
from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import CONFIG, MemoryProxy
from support.kernel.tables import dump
from support.objects.model import changes, endpoint_slice, service
from support.objects.web import WEB, A, B, C, web

from nfproxy.errors import DataplaneError, TransactionError
from nfproxy.model.addresses import FAMILIES, Family, parse_prefix
from nfproxy.model.endpoints import SlicePort
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.nft import schema
from nfproxy.reconcile import chainloading
from nfproxy.reconcile.costs import TRANSACTION_S
from nfproxy.reconcile.script import script
from nfproxy.reconcile.syncreport import Report, ResyncReason
from nfproxy.reconcile.tracker import LINGER_S


def test_the_first_sync_makes_tables_and_everything_in_them(proxy: MemoryProxy):
    """From nothing to a working Service, both tables included."""
    report = proxy.put(WEB, web(A, B))

    assert report.resynced
    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-2"
    assert proxy.slots("10.96.0.1") == {0: f"{A} . 8080", 1: f"{B} . 8080"}
    assert all(proxy.kernel.table_row(family, schema.TABLE) for family in FAMILIES)


def test_replacing_an_endpoint_costs_two_operations(proxy: MemoryProxy):
    """One delete and one add of a map element; no chain, no verdict, nothing of other Services."""
    proxy.put(WEB, web(A, B), service("other", cluster_ips=("10.96.0.2",)))
    before = proxy.kernel.transactions
    report = proxy.put(web(A, C))

    assert report.operations == 2
    assert report.chains_made == 0
    assert proxy.kernel.transactions == before + 1
    assert proxy.slots("10.96.0.1") == {0: f"{A} . 8080", 1: f"{C} . 8080"}


def test_syncing_what_is_in_force_commits_nothing(proxy: MemoryProxy):
    """An object that comes again as it was costs no transaction."""
    proxy.put(WEB, web(A, B))
    before = proxy.kernel.transactions
    report = proxy.put(WEB, web(A, B))

    assert (report.operations, report.chains_made) == (0, 0)
    assert proxy.kernel.transactions == before


def test_a_slot_outlives_the_shrinking_of_its_frontend(proxy: MemoryProxy):
    """A packet that read the old verdict may still draw the last slot; later it goes."""
    proxy.put(WEB, web(A, B, C))
    proxy.put(web(B, C))

    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-2"
    assert proxy.slots("10.96.0.1")[2] == f"{C} . 8080"
    assert proxy.reconciler.next_due() == proxy.now + LINGER_S
    assert proxy.linger() == 1
    assert sorted(proxy.slots("10.96.0.1").values()) == [f"{B} . 8080", f"{C} . 8080"]


def test_slots_outlive_their_service(proxy: MemoryProxy):
    """A deleted Service's verdict goes at once and its slots later."""
    proxy.put(WEB, web(A, B))
    proxy.remove(WEB, web())

    assert proxy.verdict("10.96.0.1") == ""
    assert len(proxy.slots("10.96.0.1")) == 2
    proxy.linger()
    assert not proxy.slots("10.96.0.1")


def test_what_lingers_counts_from_the_end_of_the_commit(proxy: MemoryProxy):
    """A transaction may take longer than the whole delay; until its end the old verdict is read."""

    def slow() -> None:
        proxy.now += 10.0

    proxy.put(WEB, web(A, B, C))
    proxy.kernel.watch = slow
    proxy.put(web(A))

    assert proxy.reconciler.tidy() == 0
    assert len(proxy.slots("10.96.0.1")) == 3


def test_tidying_does_not_run_ahead_of_the_verdict(proxy: MemoryProxy):
    """A change that is planned but not in force yet does not take slots away."""
    proxy.put(WEB, web(A, B, C))
    proxy.put(web(A, B))
    touched = proxy.planner.apply(changes(web(A)))
    proxy.linger()

    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-2"
    assert set(proxy.slots("10.96.0.1")) == {0, 1}
    proxy.reconciler.sync(touched)
    proxy.linger()
    assert proxy.slots("10.96.0.1") == {0: f"{A} . 8080"}


def test_run_and_render_make_the_same_elements_from_nothing(proxy: MemoryProxy):
    """Slots included: the script that `render` prints equals what a first sync commits."""
    proxy.put(WEB, web(C, A, B), service("lb", load_balancer_ips=("192.0.2.1",), node_port=30080))
    other = FlakyKernel()
    other.load(script(proxy.planner.desired, CONFIG.program, FAMILIES))

    assert dump(proxy.kernel) == dump(other)


def test_only_the_families_asked_for_are_programmed():
    """On a host without IPv6 there is no table for it, and no attempt at one."""
    proxy = MemoryProxy(FlakyKernel())
    proxy.reconciler = type(proxy.reconciler)(
        proxy.kernel, proxy.planner.desired, CONFIG, [Family.IPV4], lambda: proxy.now
    )
    proxy.put(service("web", cluster_ips=("10.96.0.1", "fd00:96::1")), web(A))

    assert not proxy.kernel.table_row(Family.IPV6, schema.TABLE)
    assert proxy.verdict("10.96.0.1") == "goto cluster-tcp-1"


def test_source_ranges_are_in_force_before_the_guarded_verdict(proxy: MemoryProxy):
    """No packet meets a guard whose list is still empty, nor one whose list has just gone."""
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
    assert balanced[0][0].startswith("jump guard-")
    assert all(count == 2 for verdict, count in seen if verdict.startswith("jump guard-"))
    assert ("goto external-tcp-1", 2) in seen
    assert seen[-1] == ("goto external-tcp-1", 0)


def test_a_change_of_the_node_that_changes_no_rule_does_nothing(proxy: MemoryProxy):
    """A zone concerns hints: no Service is planned, no table read, no element written."""
    proxy.put(WEB, web(A))
    reads, transactions = proxy.kernel.reads, proxy.kernel.transactions
    report = proxy.reconfigure(NodeConfig(node_name="node-1", zone="zone-b"))

    assert report == Report()
    assert (reads, transactions) == (proxy.kernel.reads, proxy.kernel.transactions)


def test_another_program_is_loaded_without_reading_the_elements(proxy: MemoryProxy):
    """The rules of chains that exist already follow the node's configuration, too."""
    proxy.put(WEB, web(A, B))
    proxy.put(web(A))  # the chain for two endpoints stays for a while
    reads = proxy.kernel.reads
    config = NodeConfig(node_name="node-1", masquerade_mark=0x2, masquerade_all=True)
    report = proxy.reconfigure(config)

    assert (report.reason, report.operations) == (None, 0)
    assert reads == proxy.kernel.reads
    rules = proxy.kernel.tables[Family.IPV4].rules
    assert "0x00000002" in rules["cluster-tcp-1"][0]
    assert "0x00000002" in rules["cluster-tcp-2"][0]
    assert "0x00000002" in rules["nat-postrouting"][1]


def test_a_program_that_cannot_be_loaded_is_loaded_after_a_reading(proxy: MemoryProxy):
    """
    After the failure nothing is certain, so that the next try begins with the kernel's tables.
    """
    proxy.put(WEB, web(A))
    proxy.kernel.faults = ["before"]
    config = NodeConfig(node_name="node-1", masquerade_mark=0x2)
    with pytest.raises(TransactionError):
        proxy.reconfigure(config)
    report = proxy.resync()

    assert report.reason is ResyncReason.FAILURE
    assert "0x00000002" in proxy.kernel.tables[Family.IPV4].rules["nat-postrouting"][1]


def test_a_report_gives_the_reason_for_a_reading(proxy: MemoryProxy):
    """Start, what the caller asks for, failure; a start that fails is still a start."""
    proxy.kernel.faults = ["before"]
    with pytest.raises(DataplaneError):
        proxy.put(WEB, web(A))
    assert proxy.resync().reason is ResyncReason.START
    assert proxy.resync().reason is None
    for reason in (ResyncReason.AUDIT, ResyncReason.FOREIGN):
        proxy.reconciler.distrust(reason)
        assert proxy.resync().reason is reason
    proxy.reconciler.distrust(ResyncReason.AUDIT)
    proxy.kernel.faults = ["before"]
    with pytest.raises(DataplaneError):
        proxy.resync()
    assert proxy.resync().reason is ResyncReason.FAILURE


def test_a_report_counts_the_elements_that_were_read(proxy: MemoryProxy):
    """One frontend, one slot, one cluster IP."""
    proxy.put(WEB, web(A))
    proxy.reconciler.distrust(ResyncReason.AUDIT)
    held = sum(len(e) for t in proxy.kernel.tables.values() for e in t.elements.values())

    assert proxy.resync().elements_read == held > 2
    assert proxy.resync().elements_read == 0


def test_service_cidrs_and_node_port_addresses_follow_the_configuration(proxy: MemoryProxy):
    """Set elements that belong to no Service change with the node."""
    prefixes = (parse_prefix("10.0.0.0/8"),)
    proxy.put(WEB)
    config = NodeConfig(node_name="node-1", node_port_prefixes={Family.IPV4: prefixes})
    proxy.reconfigure(config)
    held = [key for key, _ in proxy.kernel.elements(Family.IPV4, schema.NODE_PORT_ADDRESSES)]

    assert held == [schema.prefix_key(prefixes[0])]


def test_a_restart_over_large_maps_loads_few_chains_at_a_time(monkeypatch: pytest.MonkeyPatch):
    """For each new rule the kernel checks all elements of the map that it looks into."""
    addresses = [f"10.244.1.{number}" for number in range(1, 13)]
    objects = []
    for count in range(1, 13):
        name = f"s{count}"
        objects.append(service(name, cluster_ips=[f"10.96.0.{count}"]))
        objects.append(endpoint_slice(name, *addresses[:count]))
    first = MemoryProxy(FlakyKernel())
    first.put(*objects)
    loaded: list[int] = []
    load = first.kernel.load
    monkeypatch.setattr(
        first.kernel, "load", lambda text: (loaded.append(text.count("add chain ip ")), load(text))
    )
    monkeypatch.setattr(chainloading, "_ELEMENT_S", TRANSACTION_S / 400)

    again = MemoryProxy(first.kernel)
    before = dump(first.kernel)
    again.put(*objects)
    largest = again.reconciler._loading.elements[Family.IPV4, schema.ENDPOINTS[Protocol.TCP]]
    most = 400 // largest

    assert largest == sum(range(1, 13))
    assert 1 <= most < 6
    assert len(loaded) > 12 / most
    assert max(loaded[1:]) <= most
    assert dump(first.kernel) == before


def test_chains_over_small_maps_are_loaded_at_once(monkeypatch: pytest.MonkeyPatch):
    """A Service with many ports that are sticky: their chains look into maps of their own."""
    numbers = range(1, 21)
    addresses = [f"10.244.1.{number}" for number in range(1, 61)]
    ports = [ServicePort(f"p{number}", Protocol.TCP, number, 0) for number in numbers]
    slice_ports = [SlicePort(f"p{number}", Protocol.TCP, 8080) for number in numbers]
    proxy = MemoryProxy(FlakyKernel())
    proxy.put(service("large", cluster_ips=["10.96.0.9"]), endpoint_slice("large", *addresses))
    loaded: list[str] = []
    load = proxy.kernel.load
    monkeypatch.setattr(proxy.kernel, "load", lambda text: (loaded.append(text), load(text)))
    monkeypatch.setattr(chainloading, "_ELEMENT_S", TRANSACTION_S / 100)

    sticky = service("sticky", cluster_ips=["10.96.0.8"], ports=ports, affinity_timeout_s=60)
    proxy.put(sticky, endpoint_slice("sticky", "10.244.2.1", ports=slice_ports))

    assert sum(text.count("add chain ip ") for text in loaded) >= 2 * len(numbers)
    assert len(loaded) <= 5
