"""Which flows are examined after a commit, and what happens if that fails."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from support.objects.model import changes, endpoint_slice, gone, service

from nfproxy.daemon import staleflows as module
from nfproxy.daemon.proxier import Commit
from nfproxy.daemon.staleflows import StaleFlowCleaning
from nfproxy.dataplane.conntrack_cleaner import CleaningReport
from nfproxy.errors import DataplaneError
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.netlink.conntrack import Flow
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.desired import Touched
from nfproxy.plan.flows import CleaningScope, Flows
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.syncreport import Report

DNS = service("dns", cluster_ips=("10.96.0.10",), port=53, protocol=Protocol.UDP)
ENDPOINTS = endpoint_slice("dns", "10.244.1.5", port=53, protocol=Protocol.UDP)
WEB = service("web")


class Cleaner:
    """Records what it is asked for; raises what is in `errors` first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked: list[Flows] = []
        self.asked_in: list[CleaningScope] = []
        self.flows: dict[tuple[Family, Flow], int] = {}

    def clean(self, flows: Flows, scope: CleaningScope) -> CleaningReport:
        self.asked.append(flows)
        self.asked_in.append(scope)
        if self.errors:
            raise self.errors.pop(0)
        counts, seconds = dict.fromkeys(FAMILIES, 0), dict.fromkeys(FAMILIES, 0.0)
        return CleaningReport(counts, 0, seconds, self.flows)


def cleaned(
    cleaner: Cleaner, work: Callable[[StaleFlowCleaning, Planner], None], times: int
) -> None:
    """Run a cleaning while something changes, until the cleaner was called `times` times."""

    async def run() -> None:
        cleaning = StaleFlowCleaning(cleaner, dict, FAMILIES, Metrics(FAMILIES, "0", {}))  # type: ignore[arg-type]
        task = asyncio.create_task(cleaning.run())
        work(cleaning, Planner(NodeConfig(node_name="node-1")))
        async with asyncio.timeout(20):
            while len(cleaner.asked) < times:  # noqa: ASYNC110 - the cleaner is in a thread
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert len(cleaner.asked) == times


def commit(touched: Touched, **report: Any) -> Commit:
    """Return a commit of what a change touched."""
    return Commit(Report(**report), touched, {}, 0.001)


def shown(flows: Flows) -> dict[str, list[str]]:
    """Return flows as text."""
    return {str(key): sorted(kept.hex() for kept in values) for key, values in flows.items()}


FIVE = (parse_address("10.244.1.5") + port_bytes(53)).hex()


def test_udp_services_whose_objects_changed() -> None:
    """Even if no element changed. TCP Services are left out."""
    cleaner = Cleaner()

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        planner.apply(changes(DNS, ENDPOINTS, WEB))
        cleaning.committed(planner, commit(planner.apply(changes(ENDPOINTS, WEB))))

    cleaned(cleaner, work, 1)
    assert [shown(f) for f in cleaner.asked] == [{"10.96.0.10:53/udp": [FIVE]}]


def test_what_was_cut_is_logged_by_service_and_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    """At the level of changes; a frontend that is gone has its address."""
    caplog.set_level(logging.INFO, "nfproxy.commits")
    cleaner = Cleaner()
    dns, other, left = (
        parse_address(address) + port_bytes(port)
        for address, port in (("10.96.0.10", 53), ("10.96.0.11", 5353), ("10.244.2.11", 53))
    )
    cleaner.flows = {
        (Family.IPV4, Flow(Protocol.UDP, dns, left)): 1,
        (Family.IPV4, Flow(Protocol.UDP, other, left)): 2,
        (Family.IPV4, Flow(Protocol.UDP, dns, dns)): 3,
    }

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        cleaning.committed(planner, commit(planner.apply(changes(DNS, ENDPOINTS))))

    cleaned(cleaner, work, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "cut 1 UDP flow of default/dns that led to 10.244.2.11:53, no endpoint of it any more",
        "cut 2 UDP flows of 10.96.0.11:5353 that led to 10.244.2.11:53, no endpoint of it any more",
        "cut 3 UDP flows of default/dns that no rule had translated",
    ]


def test_frontends_that_are_gone() -> None:
    """All their flows are stale: no endpoint is left."""
    cleaner = Cleaner()

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        planner.apply(changes(DNS, ENDPOINTS))
        cleaning.committed(planner, commit(planner.apply(gone(DNS))))

    cleaned(cleaner, work, 1)
    assert [shown(f) for f in cleaner.asked] == [{"10.96.0.10:53/udp": []}]


def test_of_a_contested_frontend_the_owners_endpoints_count() -> None:
    """A change of the loser must not cut the winner's flows."""
    cleaner = Cleaner()
    loser = service("zzz", cluster_ips=("10.96.0.10",), port=53, protocol=Protocol.UDP)

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        planner.apply(changes(DNS, ENDPOINTS))
        cleaning.committed(planner, commit(planner.apply(changes(loser))))
        cleaning.committed(planner, commit(planner.apply(changes(DNS))))

    cleaned(cleaner, work, 1)
    assert [shown(f) for f in cleaner.asked] == [{"10.96.0.10:53/udp": [FIVE]}]


def test_a_frontend_that_passes_to_another_service() -> None:
    """Its new owner's endpoints count, though that Service did not change."""
    cleaner = Cleaner()
    heir = service("heir", cluster_ips=("10.96.0.10",), port=53, protocol=Protocol.UDP)
    heirs = endpoint_slice("heir", "10.244.1.6", port=53, protocol=Protocol.UDP)

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        planner.apply(changes(DNS, ENDPOINTS, heir, heirs))
        cleaning.committed(planner, commit(planner.apply(gone(DNS))))

    cleaned(cleaner, work, 1)
    six = (parse_address("10.244.1.6") + port_bytes(53)).hex()
    assert [shown(f) for f in cleaner.asked] == [{"10.96.0.10:53/udp": [six]}]


def test_after_a_reading_of_the_tables_all_frontends_are_examined() -> None:
    """Those whose Service did not change, those that only the kernel had, and service addresses."""
    cleaner = Cleaner()
    old = FrontendKey(Family.IPV4, parse_address("10.96.0.99"), Protocol.UDP, 53)
    tcp = FrontendKey(Family.IPV4, parse_address("10.96.0.99"), Protocol.TCP, 53)

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        planner.apply(changes(DNS, ENDPOINTS, WEB))
        report = {"resynced": True, "frontends": {old, tcp}}
        cleaning.committed(planner, commit(Touched(), **report))

    cleaned(cleaner, work, 1)
    assert [shown(f) for f in cleaner.asked] == [
        {"10.96.0.99:53/udp": [], "10.96.0.10:53/udp": [FIVE]}
    ]
    (scope,) = cleaner.asked_in
    assert scope.service_addresses is not None
    assert parse_address("10.96.0.10") in scope.service_addresses


def test_a_retry_after_a_reading_examines_as_much_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards a commit is examined by itself."""
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.01)
    cleaner = Cleaner(DataplaneError("no memory"))

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        planner.apply(changes(DNS, ENDPOINTS))
        cleaning.committed(planner, commit(Touched(), resynced=True))

    cleaned(cleaner, work, 2)
    assert cleaner.asked[0] == cleaner.asked[1]
    assert all(scope.service_addresses is not None for scope in cleaner.asked_in)


@pytest.mark.parametrize("error", [DataplaneError("no memory"), OSError("broken")])
def test_failed_flows_are_retried_with_those_committed_since(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """None is lost (kube-proxy loses them), and newer endpoints replace older ones."""
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.01)
    cleaner = Cleaner(error, error)
    other = service("other", cluster_ips=("10.96.0.11",), port=53, protocol=Protocol.UDP)

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        cleaning.committed(planner, commit(planner.apply(changes(DNS, ENDPOINTS))))
        cleaning.committed(planner, commit(planner.apply(changes(other))))

    cleaned(cleaner, work, 3)
    assert set(shown(cleaner.asked[-1])) == {"10.96.0.10:53/udp", "10.96.0.11:53/udp"}
