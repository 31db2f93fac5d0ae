"""
Changes that come back to where they began leave nothing in memory, however many they are.

Counted are the entries of all containers that cache, planner and reconciler hold: memory in bytes
depends on the allocator. `tests/bench/churn.py` measures that.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from support.kernel.fake import FakeKernel
from support.objects.numbered import NumberedServices

import nfproxy
from nfproxy.kube.cache import ObjectCache
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.netlink import elements
from nfproxy.netlink.elements import element_requests
from nfproxy.nft import schema
from nfproxy.nft.schema import goto
from nfproxy.plan.endpoints import Destinations
from nfproxy.plan.planner import Planner
from nfproxy.reconcile import chainuses
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.transition import Operation

SERVICES, MOST_IDLE = 8, 32
CHANGES = 400  # in each of three rounds
SECONDS = 0.3  # from one change to the next: lingering elements go in between


class Node(NumberedServices):
    """What the daemon holds, over a kernel in memory."""

    def __init__(self) -> None:
        """Program a few Services."""
        super().__init__(ObjectCache("node-0"))
        self.planner, self.now = Planner(NodeConfig(node_name="node-0")), 0.0
        self.reconciler = Reconciler(
            *(FakeKernel(), self.planner.desired, self.planner.config, FAMILIES, lambda: self.now),
            makes_chains_ahead=True,
        )
        for number in range(SERVICES):
            self.service(number)
            self.slice(number, 4)
        self.sync()

    def sync(self) -> None:
        """Commit what changed; remove what is due; make chains ahead."""
        self.now += SECONDS
        report = self.reconciler.sync(self.planner.apply(self.cache.take()))
        while report.left:
            report = self.reconciler.sync()
        self.planner.desired.findings.take_begun()
        if (due := self.reconciler.next_due()) is not None and due <= self.now:
            self.reconciler.tidy()
        self.reconciler.make_chains_ahead()

    def come_and_go(self, count: int, **spec: Any) -> None:
        """Make a new Service and its slice, and remove them, in four turns."""
        number, turn = SERVICES + count // 4, count % 4
        if turn in (0, 2):
            self.service(number, exists=turn == 0, **spec)
        else:
            self.slice(number, 1 + number % 4, exists=turn == 1)


def balancer(count: int) -> dict[str, Any]:
    """Return the spec of a guarded Service; each two claim one load-balancer IP."""
    return {
        "type": "LoadBalancer",
        "loadBalancerSourceRanges": [f"10.{count // 4 % 250}.0.0/{9 + count // 4 % 16}"],
        "status": {"loadBalancer": {"ingress": [{"ip": f"198.51.100.{count // 8 % 250}"}]}},
    }


def ports(count: int, number: int) -> list[dict[str, Any]]:
    """Return several ports that nothing else has."""
    return [
        {"name": f"p{n}", "port": 1 + count * number + n, "protocol": "TCP"} for n in range(number)
    ]


KINDS: dict[str, Callable[[Node, int], None]] = {
    "endpoints": lambda node, count: node.slice(count % SERVICES, 4, first=count),
    "counts": lambda node, count: node.slice(count % SERVICES, 1 + count * 7 % 50),
    "services": lambda node, count: node.come_and_go(count),
    "sticky services": lambda node, count: node.come_and_go(count, sessionAffinity="ClientIP"),
    "guarded services": lambda node, count: node.come_and_go(count, **balancer(count)),
    "shared lists": lambda node, count: node.come_and_go(
        count, externalIPs=[f"192.0.2.{n}" for n in range(1, 40)]
    ),
    "affinity": lambda node, count: node.service(
        count % SERVICES, sessionAffinity="ClientIP" if count // SERVICES % 2 else "None"
    ),
    "ports": lambda node, count: node.service(count % SERVICES, ports=ports(count, 3)),
    "broken services": lambda node, count: node.service(
        SERVICES + count // 2, exists=count % 2 == 0, ports=[{"name": "p", "port": 99_999}]
    ),
    "zones": lambda node, count: node.reconciler.touch(
        node.planner.apply(
            node.planner.reconfigure(NodeConfig(node_name="node-0", zone=f"zone-{count}"))
        )
    ),
}


def entries(*roots: object) -> int:
    """Return how many entries all containers have that objects of nfproxy lead to."""
    seen: set[int] = set()
    waiting, found = list(roots), 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            found += len(one)
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            found += len(one)
            waiting += one
        elif isinstance(one, Destinations):
            found += len(one)
        elif type(one).__module__.startswith("nfproxy.") and not isinstance(one, type):
            names = getattr(one, "__struct_fields__", None) or vars(one)
            waiting += [getattr(one, name) for name in names]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_stays_of_changes_that_came_and_went(kind: str) -> None:
    """After two thirds of the changes as much is held as after all of them."""
    node = Node()
    held = []
    with mock.patch.object(chainuses, "MOST_IDLE", MOST_IDLE):
        for count in range(3 * CHANGES):
            KINDS[kind](node, count)
            node.sync()
            if (count + 1) % CHANGES == 0:
                held.append(entries(node.cache, node.planner, node.reconciler))

    assert held[2] <= 1.1 * held[1], held


def test_verdicts_that_were_encoded_do_not_stay() -> None:
    """Services with session affinity or source ranges that come and go have chains of their own."""
    operations = [
        Operation(True, family, schema.FRONTENDS, bytes(family.size + 8), goto(f"guard-{number}"))
        for family in FAMILIES
        for number in range(6000)
    ]
    for _ in element_requests(operations):
        pass

    held = [vars(encoder).values() for encoder in elements._encoders.values()]
    assert sum(len(one) for values in held for one in values if isinstance(one, dict)) < 100


def caches() -> Iterator[Any]:
    """Yield each memory of a function's results in nfproxy."""
    for module in pkgutil.walk_packages(nfproxy.__path__, "nfproxy."):
        if not module.name.endswith(("__main__", "_child")):
            found = vars(importlib.import_module(module.name)).values()
            yield from (value for value in found if hasattr(value, "cache_parameters"))


def test_remembered_results_are_few() -> None:
    """Some remember what depends on names: so many entries take a megabyte at most."""
    sizes = {f"{c.__module__}.{c.__name__}": c.cache_parameters()["maxsize"] for c in caches()}

    assert len(sizes) > 5
    assert {name: size for name, size in sizes.items() if size is None or size > 4096} == {
        "nfproxy.nft.ruleset._environment": None,
        "nfproxy.servers.html._environment": None,
        "nfproxy.servers.html._headers": None,
    }
