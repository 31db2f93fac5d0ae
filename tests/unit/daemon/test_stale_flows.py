"""
Which flows are examined after a commit, and what happens if that fails.
"""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from support.objects.model import changes, endpoint_slice, gone, service

from nfproxy.daemon import staleflows as module
from nfproxy.daemon.staleflows import StaleFlowCleaning
from nfproxy.dataplane.conntrack_cleaner import CleaningReport
from nfproxy.errors import DataplaneError
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES, parse_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.flows import Flows
from nfproxy.plan.planner import Planner

DNS = service("dns", cluster_ips=("10.96.0.10",), port=53, protocol=Protocol.UDP)
ENDPOINTS = endpoint_slice("dns", "10.244.1.5", port=53, protocol=Protocol.UDP)
WEB = service("web")


class Cleaner:
    """Records what it is asked for; raises what is in `errors` first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked: list[Flows] = []

    def clean(self, flows: Flows, local: Mapping[object, object]) -> CleaningReport:
        self.asked.append(flows)
        if self.errors:
            raise self.errors.pop(0)
        return CleaningReport(dict.fromkeys(FAMILIES, 0), 0, dict.fromkeys(FAMILIES, 0.0))


def cleaned(
    cleaner: Cleaner, work: Callable[[StaleFlowCleaning, Planner], None], times: int
) -> None:
    """Run a cleaning while something changes, until the cleaner was called `times` times."""

    async def run() -> None:
        cleaning = StaleFlowCleaning(cleaner, dict, Metrics(FAMILIES, "0", {}))  # type: ignore[arg-type]
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


def shown(flows: Flows) -> dict[str, list[str]]:
    """Return flows as text."""
    return {str(key): sorted(kept.hex() for kept in values) for key, values in flows.items()}


FIVE = (parse_address("10.244.1.5") + port_bytes(53)).hex()


def test_udp_services_whose_objects_changed() -> None:
    """
    Even if no element changed. TCP Services are left out.
    """
    cleaner = Cleaner()

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        planner.apply(changes(DNS, ENDPOINTS, WEB))
        cleaning.committed(planner, planner.apply(changes(ENDPOINTS, WEB)))

    cleaned(cleaner, work, 1)
    assert [shown(f) for f in cleaner.asked] == [{"10.96.0.10:53/udp": [FIVE]}]


def test_frontends_that_are_gone() -> None:
    """
    All their flows are stale: no endpoint is left.
    """
    cleaner = Cleaner()

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        planner.apply(changes(DNS, ENDPOINTS))
        cleaning.committed(planner, planner.apply(gone(DNS)))

    cleaned(cleaner, work, 1)
    assert [shown(f) for f in cleaner.asked] == [{"10.96.0.10:53/udp": []}]


def test_of_a_contested_frontend_the_owners_endpoints_count() -> None:
    """
    A change of the loser must not cut the winner's flows.
    """
    cleaner = Cleaner()
    loser = service("zzz", cluster_ips=("10.96.0.10",), port=53, protocol=Protocol.UDP)

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        planner.apply(changes(DNS, ENDPOINTS))
        cleaning.committed(planner, planner.apply(changes(loser)))
        cleaning.committed(planner, planner.apply(changes(DNS)))

    cleaned(cleaner, work, 1)
    assert [shown(f) for f in cleaner.asked] == [{"10.96.0.10:53/udp": [FIVE]}]


@pytest.mark.parametrize("error", [DataplaneError("no memory"), OSError("broken")])
def test_failed_flows_are_retried_with_those_committed_since(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """
    None is lost (kube-proxy loses them), and newer endpoints replace older ones.
    """
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.01)
    cleaner = Cleaner(error, error)
    other = service("other", cluster_ips=("10.96.0.11",), port=53, protocol=Protocol.UDP)

    def work(cleaning: StaleFlowCleaning, planner: Planner) -> None:
        cleaning.committed(planner, planner.apply(changes(DNS, ENDPOINTS)))
        cleaning.committed(planner, planner.apply(changes(other)))

    cleaned(cleaner, work, 3)
    assert set(shown(cleaner.asked[-1])) == {"10.96.0.10:53/udp", "10.96.0.11:53/udp"}
