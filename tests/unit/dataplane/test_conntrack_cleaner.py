"""The cleaner deletes stale entries from a real conntrack table, and no others."""

import pytest
from support.kernel.entries import Entries, destination

from nfproxy.dataplane import conntrack_cleaner, conntrack_listing
from nfproxy.dataplane.conntrack_cleaner import ConntrackCleaner
from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.plan.flows import CleaningScope
from nfproxy.plan.frontends import FrontendKey

UDP = Protocol.UDP
V4, V6 = Family.IPV4, Family.IPV6
NO_ADDRESSES = CleaningScope()


@pytest.fixture
def namespace(lab):
    """A namespace for one test, with its own connections."""
    made = lab.namespace("conntrack")
    yield made
    lab.drop(made)


@pytest.fixture
def entries(namespace):
    return Entries(namespace)


@pytest.fixture
def cleaner(namespace):
    made = namespace.call(ConntrackCleaner)
    yield made
    made.close()


def frontend(text: str) -> FrontendKey:
    """Return the frontend at ``address:port``, or at ``:port`` of IPv4's node ports."""
    address, _, port = text.rpartition(":")
    packed = parse_address(address) if address else b""
    return FrontendKey(V6 if len(packed) == 16 else V4, packed, UDP, int(port))


def may(frontends: dict[str, list[str]]) -> dict[FrontendKey, frozenset[bytes]]:
    """Return which endpoints flows to frontends may go to."""
    return {
        frontend(asked): frozenset(destination(one) for one in ends)
        for asked, ends in frontends.items()
    }


def test_entries_to_endpoints_that_left_are_deleted(entries, cleaner):
    """Entries to the other endpoints stay, as do those of other addresses and ports."""
    for end in ("10.244.1.1:5353", "10.244.1.2:5353", "10.96.0.1:53"):
        entries.add("10.96.0.1:53", end)
    entries.add("10.96.0.1:54", "10.244.1.2:5353")
    entries.add("10.96.0.2:53", "10.244.1.2:5353")

    report = cleaner.clean(may({"10.96.0.1:53": ["10.244.1.1:5353"]}), NO_ADDRESSES)

    assert entries.listed() == {
        "10.96.0.1:53 > 10.244.1.1:5353",
        "10.96.0.1:54 > 10.244.1.2:5353",
        "10.96.0.2:53 > 10.244.1.2:5353",
    }
    assert report.deleted == {V4: 2, V6: 0}
    assert report.examined == 3  # the kernel listed no other
    assert sum(report.flows.values()) == 2
    assert {flow.source for _, flow in report.flows} == {
        destination("10.244.1.2:5353"),
        destination("10.96.0.1:53"),
    }


def test_both_families_are_cleaned(entries, cleaner):
    """Each with its own frontends."""
    entries.add("10.96.0.1:53", "10.244.1.1:5353")
    entries.add("fd00:96::1:53", "fd00:244::1:5353")
    entries.add("fd00:96::1:53", "fd00:244::2:5353")

    wanted = may({"10.96.0.1:53": [], "fd00:96::1:53": ["fd00:244::2:5353"]})
    report = cleaner.clean(wanted, NO_ADDRESSES)

    assert entries.listed() == {"fd00:96::1:53 > fd00:244::2:5353"}
    assert report.deleted == {V4: 1, V6: 1}


def test_ipv6_entries_to_other_addresses_stay(entries, cleaner):
    """Although the kernel may list them instead of those that the request names."""
    for asked in ("fd00:96::1:53", "fd00:96::2:53", "fd00:96::1:54"):
        entries.add(asked, "fd00:244::1:5353")

    cleaner.clean(may({"fd00:96::1:53": []}), NO_ADDRESSES)

    assert entries.listed() == {
        "fd00:96::2:53 > fd00:244::1:5353",
        "fd00:96::1:54 > fd00:244::1:5353",
    }


def test_tcp_and_sctp_entries_stay(entries, cleaner):
    """At the same address and port as the UDP entries that are deleted."""
    for protocol in Protocol:
        entries.add("10.96.0.1:53", "10.244.1.1:5353", protocol)

    before = entries.listed()
    cleaner.clean(may({"10.96.0.1:53": []}), NO_ADDRESSES)

    assert before - entries.listed() == {"10.96.0.1:53 > 10.244.1.1:5353"}
    assert len(entries.listed()) == 2


def test_node_ports_are_cleaned_at_the_nodes_addresses(entries, cleaner):
    """An entry of forwarded traffic to the same port of another host stays."""
    entries.add("192.168.1.1:30053", "10.244.1.1:5353")
    entries.add("192.168.9.9:30053", "192.168.9.9:30053")

    local = {V4: [parse_address("192.168.1.1")], V6: ()}
    cleaner.clean(may({":30053": ["10.244.1.2:5353"]}), CleaningScope(local))

    assert entries.listed() == {"192.168.9.9:30053 > 192.168.9.9:30053"}


def test_many_frontends_are_cleaned_by_one_listing(entries, cleaner):
    """The kernel then lists every UDP entry, and those of no frontend stay."""
    many = [f"10.96.0.{number}:53" for number in range(1, conntrack_listing._FEW + 2)]
    for asked in (*many, "10.96.1.1:53"):
        entries.add(asked, "10.244.1.1:5353")
        entries.add(asked, "10.244.1.2:5353")
    entries.add("10.96.0.1:53", "10.244.1.2:5353", Protocol.TCP)

    report = cleaner.clean(may({asked: ["10.244.1.1:5353"] for asked in many}), NO_ADDRESSES)

    left = {f"{asked} > 10.244.1.1:5353" for asked in (*many, "10.96.1.1:53")}
    left |= {"10.96.1.1:53 > 10.244.1.2:5353", "10.96.0.1:53 > 10.244.1.2:5353 tcp"}
    assert entries.listed() == left
    assert report.examined == 2 * len(many) + 2


def test_entries_of_conntrack_zones_are_found(entries, cleaner):
    """The same tuple in two zones is two entries; each is deleted."""
    for zone in (None, 7, 8):
        entries.add("10.96.0.1:53", "10.244.1.1:5353", zone=zone, client_port=1024)

    report = cleaner.clean(may({"10.96.0.1:53": []}), NO_ADDRESSES)

    assert entries.listed() == set()
    assert report.deleted[V4] == 3


def test_more_than_fit_one_system_call_are_deleted(entries, cleaner, monkeypatch):
    """In batches, while the kernel is still listing."""
    monkeypatch.setattr(conntrack_cleaner, "_BATCH", 7)
    sizes, delete = [], cleaner._delete
    monkeypatch.setattr(
        cleaner, "_delete", lambda f, keys: sizes.append(len(keys)) or delete(f, keys)
    )
    for number in range(40):
        entries.add("10.96.0.1:53", "10.244.1.1:5353", client_port=2000 + number)

    report = cleaner.clean(may({"10.96.0.1:53": []}), NO_ADDRESSES)

    assert entries.listed() == set()
    assert report.deleted[V4] == 40
    assert sizes == [7, 7, 7, 7, 7, 5]


def test_an_entry_that_expires_meanwhile_is_no_error(entries, cleaner, monkeypatch):
    """It is not counted."""
    for _ in range(3):
        entries.add("10.96.0.1:53", "10.244.1.1:5353")
    delete = cleaner._delete

    def late(family, keys):
        assert delete(family, keys[:1]) == len(keys[:1])
        return delete(family, keys)

    monkeypatch.setattr(cleaner, "_delete", late)
    report = cleaner.clean(may({"10.96.0.1:53": []}), NO_ADDRESSES)

    assert report.deleted[V4] == 2
    assert entries.listed() == set()


def test_a_later_entry_of_the_same_client_is_not_deleted(entries, cleaner, monkeypatch):
    """The client's next packet came before the deletion, and went to a serving endpoint."""
    entries.add("10.96.0.1:53", "10.244.1.1:5353", client_port=1024)
    delete = cleaner._delete

    def late(family, keys):
        if keys:
            delete(family, keys)
            entries.add("10.96.0.1:53", "10.244.1.2:5353", client_port=1024)
        return delete(family, keys)

    monkeypatch.setattr(cleaner, "_delete", late)
    report = cleaner.clean(may({"10.96.0.1:53": ["10.244.1.2:5353"]}), NO_ADDRESSES)

    assert entries.listed() == {"10.96.0.1:53 > 10.244.1.2:5353"}
    assert report.deleted[V4] == 0


def test_after_a_failure_in_the_middle_of_a_listing_it_works_again(entries, cleaner, monkeypatch):
    """The cleaner reads the rest of the listing, else the kernel would refuse the next one."""
    for number in range(600):  # more than the kernel puts into one buffer
        entries.add("10.96.0.1:53", "10.244.1.1:5353", client_port=2000 + number)

    def broken(*_):
        raise DataplaneError("an entry of an unknown layout")

    with monkeypatch.context() as patch:
        patch.setattr(conntrack_cleaner.conntrack, "read_flow", broken)
        with pytest.raises(DataplaneError):
            cleaner.clean(may({"10.96.0.1:53": []}), NO_ADDRESSES)

    assert cleaner.clean(may({"10.96.0.1:53": []}), NO_ADDRESSES).deleted[V4] == 600


def test_nothing_is_listed_without_frontends(entries, cleaner):
    """A change of Services without UDP costs nothing."""
    entries.add("10.96.0.1:53", "10.244.1.1:5353")

    assert cleaner.clean({}, NO_ADDRESSES).examined == 0
    assert len(entries.listed()) == 1
