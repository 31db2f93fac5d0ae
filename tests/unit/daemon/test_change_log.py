"""The ring of changes: what is in it, and its bounds."""

from __future__ import annotations

import logging
import tracemalloc

import msgspec
import pytest
from support.objects.model import changes, endpoint_slice, gone, service

from nfproxy.config.kept import with_host
from nfproxy.daemon import changelog
from nfproxy.daemon.changelog import ChangeLog
from nfproxy.dataplane.notifications import Damage, ForeignChange
from nfproxy.insight.changerecord import ChangeRecord, ChangeRecords, concerning
from nfproxy.insight.question import parse_question
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.changes import Changes
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import KeptAddresses, NodeConfig
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.extent import Extent

CONFIG = NodeConfig(node_name="node-1")
HTTP = (ServicePort("http", Protocol.TCP, 80, 30080),)


class Recorded:
    """A planner and its change log, without a kernel."""

    def __init__(self, *first: Changes) -> None:
        self.log = ChangeLog()
        self.planner = Planner(CONFIG)
        for batch in first or (Changes(),):
            self.take(batch)

    def take(self, batch: Changes, config: NodeConfig | None = None, left: int = 0) -> None:
        """Plan a batch, and commit it."""
        before = self.planner.config
        if config is not None:
            again = self.planner.reconfigure(config)
            batch = msgspec.structs.replace(batch, services=again.services)
        self.log.planning(self.planner, batch, before)
        touched = self.planner.apply(batch)
        self.log.committed(self.planner, touched.services, left)

    @property
    def page(self) -> ChangeRecords:
        return self.log.page()

    @property
    def lines(self) -> list[str]:
        """What each record but the first says, without its time."""
        return [f"{r.subject} | {r.change} | {r.why}" for r in self.page.records[1:]]


def served(*addresses: str) -> Changes:
    """Return the Service with one named port, and its endpoints."""
    web = endpoint_slice("web", *addresses, port_name="http", name="web-abcde")
    return changes(service(ports=HTTP, external_ips=("203.0.113.9",)), web)


def endpoints(*addresses: str) -> Changes:
    return Changes(slices=served(*addresses).slices)


def test_a_start_is_one_record() -> None:
    """However much it programs, and in however many portions."""
    recorded = Recorded()
    (start,) = recorded.page.records
    assert start.change == "nfproxy started: 0 Services, 0 frontends"
    assert start.after_ms is not None  # since the process began


def test_endpoints_are_named_with_their_service_port_and_slice() -> None:
    """Frontends that differ alike share a record: cluster IP first, node port last."""
    recorded = Recorded(served("10.244.1.5"))
    recorded.take(endpoints("10.244.1.6"))
    record = recorded.page.records[1]

    assert recorded.lines == [
        "default/web:http | 10.96.0.1:80/tcp, 203.0.113.9:80/tcp, node port 30080/tcp (IPv4): "
        "+ 10.244.1.6:8080, - 10.244.1.5:8080 | EndpointSlice web-abcde"
    ]
    assert record.after_ms is not None
    assert (record.number, record.at[-1]) == (2, "Z")


def test_services_that_come_and_go_and_what_they_answer_without_endpoints() -> None:
    """A change of what is not packets, such as a label, is no record."""
    recorded = Recorded()
    recorded.take(changes(service(ports=HTTP)))
    recorded.take(endpoints("10.244.1.5"))
    recorded.take(endpoints("10.244.1.5"))
    recorded.take(endpoints())
    recorded.take(gone(service(), *served().slices.values()))

    where = "10.96.0.1:80/tcp, node port 30080/tcp (IPv4)"
    assert recorded.lines == [
        f"default/web:http | {where}: new, refused | Service",
        f"default/web:http | {where}: now served, + 10.244.1.5:8080 | EndpointSlice web-abcde",
        f"default/web:http | {where}: now refused, - 10.244.1.5:8080 | EndpointSlice web-abcde",
        f"default/web:http | {where}: gone | Service, EndpointSlice web-abcde",
    ]


def test_changes_that_wait_are_one_record_with_all_reasons() -> None:
    """From the first change that waits to the commit."""
    recorded = Recorded(served("10.244.1.5"))
    for address in ("10.244.1.6", "10.244.1.7"):
        batch = endpoints(address)
        recorded.log.planning(recorded.planner, batch, CONFIG)
        recorded.planner.apply(batch)
    recorded.take(Changes(services=served().services))

    (line,) = recorded.lines
    assert line.endswith(
        ": + 10.244.1.7:8080, - 10.244.1.5:8080 | EndpointSlice web-abcde, Service"
    )


def test_a_change_of_the_node_names_what_differs() -> None:
    """Not each Service that it concerns."""
    recorded = Recorded(served("10.244.1.5"))
    recorded.take(Changes(node=Node("node-1", zone="b")), msgspec.structs.replace(CONFIG, zone="b"))
    recorded.take(Changes(), msgspec.structs.replace(CONFIG, zone="b"))

    assert recorded.lines == [" | this node: zone | Node node-1"]


def test_addresses_that_come_with_a_pod_are_no_record() -> None:
    """Each pod has an interface; one whose address a Service wants is recorded."""
    recorded = Recorded(served("10.244.1.5"))

    def take_address(text: str) -> None:
        kept = with_host(KeptAddresses(), frozenset({parse_address(text)}))
        recorded.take(Changes(), msgspec.structs.replace(CONFIG, kept=kept))

    take_address("fe80::42")
    assert recorded.lines == []
    take_address("203.0.113.9")
    assert recorded.lines[0] == (
        " | this node: addresses that Services may not take | addresses of this host or API servers"
    )


def test_many_changes_at_once_are_summed_up() -> None:
    """The first few are named."""
    many = [service(f"s{n}", cluster_ips=(f"10.96.{n // 250}.{n % 250}",)) for n in range(500)]
    recorded = Recorded()
    recorded.take(changes(*many))

    assert len(recorded.lines) == 21
    assert recorded.lines[-1] == " | changes of 480 more Services | "


def test_one_large_service_makes_small_records() -> None:
    """Frontends and endpoints are counted from the ninth on."""
    addresses = [f"10.244.{n // 250}.{n % 250}" for n in range(1000)]
    recorded = Recorded(served())
    recorded.take(endpoints(*addresses))

    assert recorded.lines[0].count(":8080") == 8
    assert "and 992 more" in recorded.lines[0]
    assert len(recorded.lines[0]) < 500


def test_the_ring_forgets_the_oldest() -> None:
    """A bounded number in bounded memory; numbers go on."""
    recorded = Recorded(served())
    for n in range(1500):
        recorded.take(endpoints(f"10.{n // 250}.{n % 250}.1"))
    page = recorded.page
    assert (len(page.records), page.forgotten) == (1000, 501)

    tracemalloc.start()
    for n in range(1500, 3000):
        recorded.take(endpoints(*(f"10.{n // 250}.{n % 250}.{k}" for k in range(10))))
    mine = tracemalloc.Filter(inclusive=True, filename_pattern=changelog.__file__)
    held = tracemalloc.take_snapshot().filter_traces([mine]).statistics("filename")
    tracemalloc.stop()
    page = recorded.page

    assert 500 < len(page.records) == 3001 - page.forgotten < 1000
    assert [r.number for r in page.records] == list(range(page.forgotten + 1, 3002))
    assert sum(one.size for one in held) < 200_000
    later = recorded.log.page(after=2999).records
    assert [r.number for r in later] == [3000, 3001]


def test_foreign_changes_are_recorded_with_their_repair() -> None:
    """Until then they are shown last, as not repaired."""
    recorded = Recorded()
    change = ForeignChange(
        Damage.TABLE, frozenset(FAMILIES), "deleted table ip nfproxy", "nft (pid 31433)"
    )
    recorded.log.foreign_change(change)
    (pending,) = recorded.page.records[1:]
    recorded.log.repaired()
    (repaired,) = recorded.page.records[1:]

    assert (pending.in_force, pending.number) == ("not repaired yet", 0)
    assert recorded.lines == [" | deleted table ip nfproxy | nft (pid 31433), not us"]
    assert repaired.in_force.startswith("repaired, ")


def test_foreign_changes_concern_the_services_whose_elements_they_were() -> None:
    """And their frontends; of the table as a whole, all Services."""
    recorded = Recorded()
    families = frozenset({Family.IPV4})
    web = (("default/web:http",), ("10.96.0.1:80/tcp",))
    one = ForeignChange(Damage.ELEMENTS, families, "deleted one", "nft", "nft", Extent(), *web)
    other = one._replace(what="deleted two", services=("a/b:c",), frontends=("10.96.0.2:80/tcp",))
    whole = ForeignChange(Damage.TABLE, families, "deleted table ip nfproxy", "nft")
    for several in ([one], [other], [one, other], [one, whole]):
        for change in several:
            recorded.log.foreign_change(change)
        recorded.log.repaired()
    records = recorded.page.records[1:]

    def about(text: str) -> list[int]:
        question = parse_question(text)
        return [number for number, one in enumerate(records) if one.concerns(question)]

    assert [one.subject for one in records[:2]] == ["default/web:http", "a/b:c"]
    assert records[2].subject == "default/web:http, a/b:c"
    assert about("default/web") == about("default/web:http") == about("10.96.0.1:80") == [0, 2, 3]
    assert about("a/b") == about("10.96.0.2") == [1, 2, 3]
    assert about("default/web:other") == about("10.96.0.1:81") == about("x/y") == [3]


def test_the_log_names_each_change(caplog: pytest.LogCaptureFixture) -> None:
    """At the verbosity that commits have."""
    recorded = Recorded(served("10.244.1.5"))
    with caplog.at_level(logging.INFO, "nfproxy.commits"):
        recorded.take(endpoints("10.244.1.5", "10.244.1.6"))
    (line,) = caplog.messages

    assert line.startswith("default/web:http 10.96.0.1:80/tcp, 203.0.113.9:80/tcp, node port ")
    assert ": + 10.244.1.6:8080 (EndpointSlice web-abcde), in force after " in line


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ("default/web", 1),
        ("default/web:http", 1),
        ("default/web:https", 0),
        ("other/web", 0),
        ("10.96.0.1", 1),
        ("10.96.0.1:80/tcp", 1),
        ("10.96.0.1:80/udp", 0),
        ("10.96.0.1:81", 0),
        (":30080", 1),
        (":30081", 0),
        ("10.244.1.6", 1),
        ("10.244.1.6:8080", 1),
        ("10.244.1.5", 0),
        ("fd00::1", 0),
    ],
)
def test_what_chooses_records(asked: str, count: int) -> None:
    """A Service, a port, a frontend, a node port, an endpoint."""
    recorded = Recorded(served("10.244.1.5"))
    recorded.take(endpoints("10.244.1.5", "10.244.1.6"))

    assert len(concerning(recorded.page.records, parse_question(asked), "")) == count


def test_a_time_chooses_records() -> None:
    """Times are compared as texts."""
    some = [ChangeRecord(at=f"2026-11-30T05:4{n}:00.000Z") for n in range(3)]
    assert len(concerning(some, None, "2026-11-30T05:41:00.000Z")) == 2
