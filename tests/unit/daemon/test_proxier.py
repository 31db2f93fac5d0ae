"""Planning and committing, as the daemon does it in its worker thread, over a kernel in memory."""

import logging
import re
from collections.abc import Callable

import msgspec
import pytest
from support.kernel.fake import FakeKernel, FlakyKernel
from support.objects.model import changes, endpoint_slice, gone, service

from nfproxy.daemon import proxier as module
from nfproxy.daemon.proxier import Commit, Hooks, Proxier
from nfproxy.errors import DataplaneError, MissingFeatureError, TransactionError
from nfproxy.model.addresses import FAMILIES, Family, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import KeptAddresses, NodeConfig
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.syncreport import ResyncReason

CONFIG = NodeConfig(node_name="node-1")
A, B, C = "10.244.1.1", "10.244.1.2", "10.244.1.3"
HTTP, HTTPS = ServicePort("http", Protocol.TCP, 80), ServicePort("https", Protocol.TCP, 443)


class Commits(Hooks):
    """Hooks that keep the commits."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    def on_committed(self, planner: Planner, commit: Commit) -> None:
        self.commits.append(commit)


def made(kernel: FakeKernel, hooks: Hooks | None = None) -> Proxier:
    """Return the proxier of a node; nothing is planned yet."""
    return Proxier(kernel, FAMILIES, CONFIG, hooks or Hooks(), lambda _: "", 0.0)


def two_ports(name: str = "web", cluster_ip: str = "10.96.0.1") -> Service:
    """Return a Service with the ports http and https."""
    return service(name, cluster_ips=(cluster_ip,), ports=(HTTP, HTTPS))


def slice_of(port_name: str, *addresses: str, of: str = "web") -> Changes:
    """Return the endpoints of one port of a Service, in a slice of its own."""
    made_ = endpoint_slice(of, *addresses, port_name=port_name)
    name = made_.name._replace(name=f"{of}-{port_name}")
    return changes(msgspec.structs.replace(made_, name=name))


# --- the log ------------------------------------------------------------------------------


def said(caplog: pytest.LogCaptureFixture, work: Callable[[], object]) -> list[str]:
    """Return the lines that something logs, without durations."""
    caplog.set_level(logging.INFO)
    caplog.clear()
    work()
    return [re.sub(r" in [\d.]+ m?s", " in T", record.getMessage()) for record in caplog.records]


def test_the_first_sync_counts_services_and_then_the_daemon_is_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A start over tables that match says how many elements were read."""
    kernel = FakeKernel()
    objects = changes(service("web"), endpoint_slice("web", A, B))

    def start(kernel: FakeKernel, objects: Changes) -> None:
        daemon = made(kernel)
        daemon.sync(objects)
        daemon.log_ready()

    first, ready = said(caplog, lambda: start(kernel, objects))
    again, _ = said(caplog, lambda: start(kernel, objects))

    assert re.fullmatch(r"synced 1 Service: \d+ changes in T, after reading the tables", first)
    assert re.fullmatch(r"ready after [\d.]+ s: 1 Service, 1 frontend, 2 slots", ready)
    _, idle = said(caplog, lambda: start(FakeKernel(), changes(service("web"))))
    assert idle.endswith("1 Service, 1 frontend, 0 slots; 1 Service has no endpoint here")
    assert re.fullmatch(r"kernel tables already match \(read \d+ elements in T\)", again)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (slice_of("http", A, B, C), "synced default/web:http: 3 changes in T"),
        (
            slice_of("http", A, B, C, "10.244.1.4", "10.244.1.5"),
            "synced default/web:http: 5 changes and 1 new chain in T",
        ),
        (slice_of("http", A, C), "synced default/web:http: 2 changes in T"),
        (changes(service("other", cluster_ips=("10.96.0.9",))), "synced default/other: 2 changes"),
        (gone(two_ports("old")), "synced default/old: "),
    ],
    ids=["growing", "growing by many", "replacing", "a port without a name", "a deleted Service"],
)
def test_a_commit_about_one_service_names_it(
    caplog: pytest.LogCaptureFixture, change: Changes, line: str
) -> None:
    """With the port, if it has a name and the others did not change."""
    proxier = made(FakeKernel())
    proxier.sync(slice_of("http", A, B), commit=False)
    proxier.sync(slice_of("https", A), commit=False)
    proxier.sync(changes(two_ports(), two_ports("old", "10.96.0.2")))

    assert said(caplog, lambda: proxier.sync(change))[0].startswith(line)


def test_a_commit_about_several_services_counts_them(caplog: pytest.LogCaptureFixture) -> None:
    """A commit that changed no element is not logged."""
    proxier = made(FakeKernel())
    proxier.sync(changes(service("web"), endpoint_slice("web", A)))
    more = changes(
        service("b", cluster_ips=("10.96.0.2",)), service("c", cluster_ips=("10.96.0.3",))
    )

    (line,) = said(caplog, lambda: proxier.sync(more))
    assert line.startswith("synced 2 Services: 4 changes in T")
    assert said(caplog, lambda: proxier.sync(more)) == []


# --- failures -----------------------------------------------------------------------------


def test_what_a_failed_sync_left_is_committed_by_the_next_one() -> None:
    """With the changes planned since then, and with all times at which changes began."""
    kernel, hooks = FlakyKernel(), Commits()
    proxier = made(kernel, hooks)
    proxier.sync(changes(service("web"), endpoint_slice("web", A)))
    kernel.faults = ["before"]
    early = changes(endpoint_slice("web", B))
    name, late = service("web").name, changes(endpoint_slice("web", C))
    first, second = ({name: ((Family.IPV4, unix_s),)} for unix_s in (1.0, 2.0))
    failed = proxier.sync(msgspec.structs.replace(early, triggers=first))
    proxier.sync(msgspec.structs.replace(late, triggers=second), commit=False)
    outcome = proxier.sync()

    assert isinstance(failed.error, TransactionError)
    assert outcome.error is None
    assert outcome.report.resynced
    assert len(hooks.commits) == 2
    assert hooks.commits[-1].report.reason is ResyncReason.FAILURE
    assert hooks.commits[-1].triggers == {Family.IPV4: (1.0, 2.0)}
    assert proxier.compare_and_sync(ResyncReason.AUDIT).error is None
    assert hooks.commits[-1].report.operations == 0


def test_a_missing_feature_ends_the_start_but_not_a_running_daemon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the first success there are rules to keep."""
    missing = MissingFeatureError("the kernel lacks numgen")
    monkeypatch.setattr(module, "first_missing_feature", lambda families: missing)
    objects = changes(service("web"), endpoint_slice("web", A))
    kernel = FlakyKernel()
    kernel.faults = [""] * 100
    proxier = made(kernel)
    proxier.sync(objects)
    kernel.faults = ["before"]
    assert isinstance(proxier.sync(gone(service("web"))).error, TransactionError)

    refusing = FlakyKernel()
    refusing.load = _refuse  # type: ignore[method-assign]
    with pytest.raises(MissingFeatureError, match="lacks numgen"):
        made(refusing).sync(objects)


def _refuse(text: str) -> None:
    raise TransactionError("refused")


def test_tidying_is_due_after_a_slot_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome of a sync says when; a failure to tidy is an outcome like that of a sync."""
    times = [100.0]
    monkeypatch.setattr(module, "monotonic_s", lambda: times[-1])
    kernel = FlakyKernel()
    proxier = made(kernel)
    proxier.sync(changes(service("web"), endpoint_slice("web", A, B)))
    outcome = proxier.sync(changes(endpoint_slice("web", A)))
    assert outcome.tidy_at is not None
    assert 0 < outcome.tidy_at - outcome.ended_s <= 1

    times.append(outcome.tidy_at)
    kernel.faults = ["before"]
    assert isinstance(proxier.tidy().error, DataplaneError)
    assert (proxier.sync().error, proxier.tidy().error) == (None, None)


def test_what_loads_have_not_used_for_long_is_ended_by_tidying() -> None:
    """The child process that runs scripts waits for more of them, and takes memory."""

    class Resting(FakeKernel):
        rest_at: float | None = 1.0

        def rest(self) -> None:
            self.rest_at = None

    kernel = Resting()
    proxier = made(kernel)
    outcome = proxier.sync(changes(service("web"), endpoint_slice("web", A)))
    proxier.tidy()

    assert (outcome.tidy_at, kernel.rest_at) == (1.0, None)


def test_a_large_list_is_planned_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that comes in meanwhile is planned and committed next; a first sync is whole."""
    monkeypatch.setattr(module, "_PLANNED_AT_ONCE", 2)
    hooks = Commits()
    proxier = made(FakeKernel(), hooks)
    many = [service(f"s{n}", cluster_ips=(f"10.96.1.{n}",)) for n in range(8)]
    assert proxier.sync(changes(*many)).report.left == 0
    outcome = proxier.sync(gone(*many))
    assert outcome.report.left == 6
    outcome = proxier.sync(changes(service("web"), endpoint_slice("web", A)))
    assert service("web").name in hooks.commits[-1].touched.services
    while outcome.report.left:
        outcome = proxier.go_on()
    assert [len(commit.touched.services) for commit in hooks.commits] == [8, 2, 2, 2, 2, 1]


def test_services_that_another_configuration_concerns_are_planned_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A change of objects does not wait for them, and what the node itself needs is there first."""
    monkeypatch.setattr(module, "_PLANNED_AT_ONCE", 2)
    hooks, kernel = Commits(), FakeKernel()
    proxier = made(kernel, hooks)
    many = [
        service(f"s{n}", cluster_ips=(f"10.96.1.{n}",), external_ips=(f"192.0.2.{n}",))
        for n in range(8)
    ]
    proxier.sync(changes(*many))
    prefixes = {Family.IPV4: (parse_prefix("10.0.0.1/32"),)}
    config = msgspec.structs.replace(CONFIG, external_ips=False, node_port_prefixes=prefixes)
    outcome = proxier.sync(config=config)
    assert outcome.report.left == 6
    assert len([*kernel.elements(Family.IPV4, "node-port-addresses")]) == 1
    assert not proxier.is_behind
    newer = service("s7", cluster_ips=("10.96.1.77",), external_ips=("192.0.2.7",))
    proxier.sync(changes(newer))
    assert newer.name in hooks.commits[-1].touched.services
    outcome = proxier.sync(gone(many[6]))
    while outcome.report.left:
        outcome = proxier.go_on()
    assert [len(commit.touched.services) for commit in hooks.commits] == [8, 2, 2, 2, 2]
    addresses = {key[:4] for key, _ in kernel.elements(Family.IPV4, "frontends")}
    assert addresses == {
        *(parse_address(f"10.96.1.{n}") for n in range(6)),
        parse_address("10.96.1.77"),
    }


def test_conflicts_are_logged_once_while_they_last(caplog: pytest.LogCaptureFixture) -> None:
    """And again when they come back."""
    proxier = made(FakeKernel())
    proxier.sync(
        changes(service("a", created="2026-01-01"), service("b", created="2026-01-02")),
        commit=False,
    )
    proxier.sync(changes(service("c", cluster_ips=("10.96.0.9",))), commit=False)
    assert caplog.text.count("belongs to the older Service default/a") == 1
    proxier.sync(gone(service("a")), commit=False)
    proxier.sync(changes(service("a", created="2026-01-01")), commit=False)
    assert caplog.text.count("belongs to the older Service default/a") == 2


def test_a_service_cidr_that_holds_the_node_is_logged_once(caplog: pytest.LogCaptureFixture):
    """At start and on change, with what to do; and when it is over."""
    kept = KeptAddresses(node_addresses=frozenset([parse_address("192.0.2.1")]))
    config = NodeConfig(node_name="node-1", kept=kept)
    cidr = ServiceCIDR("all", (parse_prefix("192.0.0.0/16"),))
    proxier = made(FakeKernel())
    wide, none = (Changes(service_cidrs={"all": one}) for one in (cidr, None))

    def about_ranges(batch: Changes | None, config: NodeConfig | None = None) -> list[str]:
        lines = said(caplog, lambda: proxier.sync(batch, config))
        return [line for line in lines if "ServiceCIDR" in line]

    (line,) = about_ranges(wide, config)
    assert "ServiceCIDR 192.0.0.0/16 holds this node's address 192.0.2.1" in line
    assert "give Services a range of their own" in line
    assert about_ranges(changes(service("web"))) == []
    assert about_ranges(none) == ["no ServiceCIDR holds a node or pods any more"]
    (line,) = about_ranges(wide)
    assert "192.0.2.1" in line
