"""
From what the API server tells, object by object, to batches of changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Raw

from nfproxy.apiserver.observer import Observer
from nfproxy.kube.decode import Decoded, decode
from nfproxy.kube.decoded import Kind
from nfproxy.kube.identity import identify
from nfproxy.kube.source import Report
from nfproxy.kube.store import Outcome, Store
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import ObjectName

_MOST_TRIGGERS = 1000  # kept for one Service until the next batch


class Intake:
    """
    Holds the latest usable version of every object, and what of it has not been passed on.

    `wake` is called when there may be something to :meth:`take`. `started_s` is when this
    process began, in Unix seconds: changes that the control plane began before that are none
    of ours to have been slow with.
    """

    def __init__(
        self,
        node_name: str,
        started_s: float,
        report: Report,
        observer: Observer,
        wake: Callable[[], None],
    ) -> None:
        self._node_name = node_name
        self._started_s = started_s
        self._report = report
        self._observer = observer
        self._wake = wake
        self._stores: dict[Kind, Store[Any]] = {kind: Store() for kind in Kind}
        self._triggers: dict[ObjectName, list[tuple[Family, float]]] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with objects now."""
        return tuple(p for store in self._stores.values() for p in store.problems)

    def begin_list(self, kind: Kind) -> None:
        """From here on all objects of a kind are told, see :class:`~nfproxy.kube.store.Store`."""
        self._stores[kind].begin_list()

    def put(self, kind: Kind, data: Raw) -> None:
        """Take an object as it is now. Never raises for bad input."""
        decoded = decode(kind, data)
        if kind is Kind.NODE and decoded.name and decoded.name.name != self._node_name:
            return
        outcome = self._stores[kind].put(decoded)
        self._observe(kind, outcome, decoded)
        if not decoded.usable and outcome.problems:
            self._observer.undecodable(kind, decoded.name, outcome.problems)
        for problem in outcome.problems:
            self._report(problem)

    def remove(self, kind: Kind, data: Raw) -> None:
        """Take it that an object is gone; `data` is how it was last. Never raises for bad input."""
        name = identify(data).object_name(kind)
        if name is not None:
            self._observe(kind, self._stores[kind].remove(name))

    def end_list(self, kind: Kind) -> None:
        """All objects of a kind have been told: the others are gone."""
        for outcome in self._stores[kind].end_list():
            self._observe(kind, outcome)

    def take(self) -> Changes:
        """Return what differs from all that was taken before, possibly nothing."""
        node = next(iter(self._stores[Kind.NODE].take().values()), _UNCHANGED)
        triggers, self._triggers = self._triggers, {}
        return Changes(
            services=self._stores[Kind.SERVICE].take(),
            slices=self._stores[Kind.ENDPOINT_SLICE].take(),
            service_cidrs={
                name.name: value for name, value in self._stores[Kind.SERVICE_CIDR].take().items()
            },
            node=None if node is _UNCHANGED else node,
            node_gone=node is None,
            triggers=_by_family(triggers.values()),
        )

    def _observe(
        self, kind: Kind, outcome: Outcome[Any], decoded: Decoded[Any] | None = None
    ) -> None:
        if kind is Kind.SERVICE:
            self._observer.service_event()
        elif kind is Kind.ENDPOINT_SLICE:
            self._observer.slice_event(outcome.changed)
            if outcome.changed:
                self._note_trigger(outcome, decoded.triggered_s if decoded else None)
        if outcome.changed:
            self._wake()

    def _note_trigger(self, outcome: Outcome[EndpointSlice], triggered_s: float | None) -> None:
        """
        Note when a change of endpoints began.

        A slice that goes takes its Service's times along, as in kube-proxy: they
        may be of endpoints that nothing is programmed for any more.
        """
        slice_ = outcome.now or outcome.before
        if slice_ is None:
            return
        if outcome.now is None:
            self._triggers.pop(slice_.service, None)
        elif triggered_s is not None and triggered_s > self._started_s:
            times = self._triggers.setdefault(slice_.service, [])
            if len(times) < _MOST_TRIGGERS:
                times.append((slice_.family, triggered_s))


def _by_family(services: Iterable[list[tuple[Family, float]]]) -> dict[Family, tuple[float, ...]]:
    found: dict[Family, list[float]] = {}
    for times in services:
        for family, triggered_s in times:
            found.setdefault(family, []).append(triggered_s)
    return {family: tuple(times) for family, times in found.items()}


_UNCHANGED: Any = object()
