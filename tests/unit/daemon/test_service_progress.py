"""Whether the kernel has each Service, since when, and why not."""

import pytest
from support.objects.model import service

from nfproxy.daemon import serviceprogress
from nfproxy.daemon.serviceprogress import ServiceProgress
from nfproxy.insight.overview import LastVersion
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.changes import Changes
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.plan.desired import Touched
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.refusals import Refused
from nfproxy.reconcile.syncreport import Report

WEB, API = ObjectName("default", "web"), ObjectName("default", "api")
PART = FrontendKey(Family.IPV4, parse_address("10.96.0.1"), Protocol.TCP, 80)
START, LATER = "2026-11-30T05:00:00Z", "2026-11-30T05:00:10Z"


class Syncs:
    """A progress of two Services that were programmed at the start, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand at the start."""
        self.now = 1_796_014_800.5
        monkeypatch.setattr(serviceprogress, "unix_s", lambda: self.now)
        self.planner = Planner(NodeConfig(node_name="node-1"))
        both = {name: service(name.name) for name in (WEB, API)}
        self.planner.apply(Changes(services=both))
        self.progress = ServiceProgress()

    def commit(self, *services: ObjectName, **fields: object) -> None:
        """Report a sync that finished some Services."""
        report = Report(finished=Touched(services=set(services)), **fields)  # type: ignore[arg-type]
        self.progress.committed(self.planner, report)

    def of(self, name: ObjectName, *, waits: bool = False) -> LastVersion:
        return self.progress.of(name, waits=waits)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    return Syncs(monkeypatch)


def test_nothing_is_in_force_before_everything_was_programmed_once(syncs: Syncs) -> None:
    syncs.commit(WEB, left=1)
    assert syncs.of(WEB) == LastVersion(is_held=False)
    syncs.commit(API)
    assert syncs.of(WEB) == syncs.of(API) == LastVersion(is_held=True, since=START)


def test_a_service_is_in_force_since_its_last_change(syncs: Syncs) -> None:
    syncs.commit(WEB, API)
    syncs.now += 10
    assert syncs.of(WEB, waits=True) == LastVersion(is_held=False)
    syncs.commit(WEB)
    assert syncs.of(WEB) == LastVersion(is_held=True, since=LATER)
    assert syncs.of(API) == LastVersion(is_held=True, since=START)


def test_what_fails_is_the_error_of_what_waits(syncs: Syncs) -> None:
    """Until the next sync that succeeds; what does not wait is in force all the while."""
    syncs.commit(WEB, API)
    syncs.progress.failed(OSError("the kernel has no memory"))
    assert syncs.of(WEB, waits=True) == LastVersion(is_held=False, error="the kernel has no memory")
    assert syncs.of(API).is_held
    syncs.commit(WEB)
    assert syncs.of(WEB).is_held


def test_what_the_kernel_refuses_says_why_until_it_does_not(syncs: Syncs) -> None:
    syncs.commit(WEB, API)
    refused = Refused(WEB, PART, "the kernel refuses it (EINVAL)")
    syncs.commit(WEB, refused=(refused,), left_out=frozenset({(WEB, PART)}))
    for _ in range(2):  # the reason is that of the sync in which it was refused
        assert syncs.of(WEB).is_held is False
        assert "10.96.0.1:80/tcp: the kernel refuses it" in syncs.of(WEB).error
        syncs.commit(API, left_out=frozenset({(WEB, PART)}))
    syncs.commit(WEB)
    assert syncs.of(WEB) == LastVersion(is_held=True, since=START)


def test_a_service_that_is_gone_is_forgotten(syncs: Syncs) -> None:
    syncs.commit(WEB, API)
    syncs.now += 10
    syncs.commit(WEB)
    syncs.planner.apply(Changes(services={WEB: None}))
    syncs.commit(WEB)
    syncs.planner.apply(Changes(services={WEB: service("web")}))
    assert syncs.of(WEB).since == START
