"""A cluster that never rests, as an API server reports it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from support.processes.apidaemon import Site
from support.processes.commands import endpoint_slice, service

SERVICES = 40


class Churn:
    """
    Makes random changes of Services called churn-N, and of the EndpointSlice of ``moving``.

    ``moving`` has at least one ready endpoint at any time, of `serving`; no endpoint answers at
    those of the others. The same `seed` makes the same changes.
    """

    def __init__(self, site: Site, serving: Sequence[str], seed: int) -> None:
        self._api = site.api
        self._serving = serving
        self._random = random.Random(seed)
        self.changes = 0

    def change(self) -> None:
        """Make one change."""
        self.changes += 1
        number = self._random.randrange(SERVICES + 4)
        if number >= SERVICES:
            self._move()
        else:
            self._change_one(f"churn-{number}", number)

    def _move(self) -> None:
        chosen = self._random.sample(self._serving, self._random.randint(1, len(self._serving)))
        self._api.apply(endpoint_slice("moving", *chosen))

    def _change_one(self, name: str, number: int) -> None:
        what = self._random.random()
        if what < 0.06:
            self._delete("services", name)
        elif what < 0.1:
            self._delete("endpointslices", f"{name}-{self._random.choice('ab')}")
        elif what < 0.4:
            self._api.apply(self._service(name, number))
        else:
            self._api.apply(self._slice(name))

    def _delete(self, resource: str, name: str) -> None:
        if any(item["metadata"]["name"] == name for item in self._api.objects(resource)):
            self._api.delete(resource, "default", name)

    def _service(self, name: str, number: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if self._random.random() < 0.3:
            fields = {"type": "NodePort", "externalTrafficPolicy": "Local"}
            fields["ports"] = [{"port": 80, "nodePort": 31000 + self._random.randrange(20)}]
        elif self._random.random() < 0.3:
            fields["sessionAffinity"] = "ClientIP"
        elif self._random.random() < 0.2:
            fields["ports"] = [{"port": 53, "protocol": "UDP"}]
        metadata: dict[str, Any] = {}
        if self._random.random() < 0.1:
            metadata["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
        return service(name, f"10.96.1.{number + 1}", metadata=metadata, **fields)

    def _slice(self, name: str) -> dict[str, Any]:
        addresses = [f"10.244.9.{self._random.randrange(1, 250)}" for _ in range(6)]
        kept = dict.fromkeys(addresses[: self._random.randrange(7)])
        conditions = self._random.choice(
            [{}, {}, {}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}]
        )
        node = self._random.choice(["node-1", "node-2"])
        protocol = self._random.choice(["TCP", "TCP", "UDP"])
        return endpoint_slice(
            name,
            *kept,
            name=f"{name}-{self._random.choice('ab')}",
            node=node,
            conditions=conditions,
            ports=[{"port": 8080, "protocol": protocol}],
        )


def at_rate(rate: float, now: Callable[[], float]) -> Callable[[], bool]:
    """Return a function that returns whether the next of `rate` things a second is due."""
    began, done = now(), 0

    def due() -> bool:
        nonlocal done
        if done >= (now() - began) * rate:
            return False
        done += 1
        return True

    return due
