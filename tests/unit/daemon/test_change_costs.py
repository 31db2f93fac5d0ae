"""
A change costs the same in a small cluster and in a large one, from the object to what follows it.

Counted are the lines of nfproxy that run. The kernel is one in memory, whose lines do not count.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import pytest
from support.kernel.fake import FakeKernel
from support.objects.numbered import NumberedServices

import nfproxy
from nfproxy.daemon.hooks import NodeHooks
from nfproxy.daemon.proxier import Outcome, Proxier
from nfproxy.health import Health
from nfproxy.kube.cache import ObjectCache
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.reconcile.tracker import LINGER_S

SMALL, LARGE = 40, 400
NODE = "node-0"
PACKAGE = str(Path(nfproxy.__file__).parent)


class NoFlows:
    """A stale flow cleaning that does nothing."""

    def committed(self, *_: object) -> None:
        """Do nothing."""


class Lines:
    """Counts the lines of nfproxy that run."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count meanwhile."""
        coverage = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(coverage)

    def _call(self, frame: FrameType, event: str, _: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        self.count += event == "line"
        return self._line


class Clock:
    """A clock of the test: by the machine's, old elements would go during a slow change."""

    now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class Cluster(NumberedServices):
    """A node of a cluster with so many Services, each fifth of which takes local endpoints only."""

    def __init__(self, services: int, clock: Clock) -> None:
        self.services, self._clock = services, clock
        super().__init__(ObjectCache(NODE))
        self.hooks = NodeHooks(Metrics(FAMILIES, "0", {}), Health(30.0), FAMILIES, NoFlows())  # type: ignore[arg-type]
        config = NodeConfig(node_name=NODE)
        self.proxier = Proxier(FakeKernel(), FAMILIES, config, self.hooks, lambda _: "", 0.0)
        for number in range(services):
            self.service(number, **(local(number) if number % 5 == 0 else {}))
            self.slice(number, 4)
        self.sync()

    def sync(self) -> None:
        """Program what changed, and remove what that left."""
        changes = self.cache.take()
        self.hooks.on_received(changes)
        outcome: Outcome | None = self.proxier.sync(changes)
        while outcome is not None and outcome.report is not None and outcome.report.left:
            outcome = self.proxier.go_on()
        assert outcome is not None
        assert outcome.error is None
        self._clock.now_s += LINGER_S
        self.proxier.tidy()


def local(number: int) -> dict[str, Any]:
    """Return what makes a Service one with a health check node port."""
    return {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32_000 + number,
        "status": {"loadBalancer": {"ingress": [{"ip": f"198.18.{number // 250}.{number % 250}"}]}},
    }


def guarded(number: int) -> dict[str, Any]:
    """Return what gives a Service source ranges."""
    return local(number) | {"loadBalancerSourceRanges": ["10.0.0.0/8"]}


KINDS: dict[str, Callable[[Cluster], None]] = {
    "an endpoint is replaced": lambda it: it.slice(1, 4, first=100),
    "an endpoint is added": lambda it: it.slice(1, 5),
    "a health check's endpoints change": lambda it: it.slice(5, 3),
    "a Service without endpoints comes": lambda it: it.service(it.services),
    "a Service takes a health check node port": lambda it: it.service(1, **local(1)),
    "a Service becomes sticky": lambda it: it.service(1, sessionAffinity="ClientIP"),
    "a Service gets source ranges": lambda it: it.service(5, **guarded(5)),
    "a Service shares a list": lambda it: it.service(
        1, externalIPs=[f"192.0.2.{number}" for number in range(1, 40)]
    ),
    "a Service goes": lambda it: it.service(1, exists=False),
    "a slice goes": lambda it: it.slice(1, 4, exists=False),
}


@pytest.fixture(scope="module")
def lines() -> dict[str, list[int]]:
    """Return how many lines each kind of change takes in a small and in a large cluster."""
    clock = Clock()
    with mock.patch("nfproxy.daemon.proxier.monotonic_s", clock):
        return asyncio.run(_lines(clock))


async def _lines(clock: Clock) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {name: [] for name in KINDS}
    for services in (SMALL, LARGE):
        cluster = Cluster(services, clock)
        for name, change in KINDS.items():
            counter = Lines()
            change(cluster)
            with counter.counted():
                cluster.sync()
            await asyncio.sleep(0)  # what was handed over to the event loop
            found[name].append(counter.count)
            cluster.slice(1, 4)
            cluster.service(1)
            cluster.slice(5, 4)
            cluster.service(5, **local(5))
            cluster.service(services, exists=False)
            cluster.sync()
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_change_costs_the_same_whatever_else_there_is(
    name: str, lines: dict[str, list[int]]
) -> None:
    """Ten times as many Services: as many lines, but for a few."""
    small, large = lines[name]
    assert small > 100
    assert large <= small * 1.02 + 20
