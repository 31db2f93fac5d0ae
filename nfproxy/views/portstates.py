"""
How service ports answer on this node, as numbers for metrics.

A change costs the Services that it touches. `explain` and `services` name the ports, and say why.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.nft.chains import NO_LOCAL, REJECT
from nfproxy.plan.frontends import FrontendKind, ServicePlan
from nfproxy.plan.planner import Planner


class PortState(enum.StrEnum):
    """How the cluster IPs of a service port answer; of two families the later one here counts."""

    WORKS = "works"
    TERMINATING_ONLY = "terminating_only"
    NO_LOCAL = "no_local"
    NO_ENDPOINTS = "no_endpoints"
    PORT_MISMATCH = "port_mismatch"


_STATES = tuple(PortState)
_RANK = {state: rank for rank, state in enumerate(_STATES)}
_WORKS = (PortState.WORKS,)


class PortStates:
    """Counts service ports by their state."""

    def __init__(self) -> None:
        """Start with no Services."""
        self._services: dict[ObjectName, tuple[PortState, ...]] = {}
        self._counts = dict.fromkeys(PortState, 0)
        self._mismatched: dict[ObjectName, tuple[str, ...]] = {}  # names of ports

    @property
    def counts(self) -> Mapping[PortState, int]:
        """How many service ports have each state."""
        return self._counts

    def update(
        self, planner: Planner, services: Iterable[ObjectName]
    ) -> list[tuple[ObjectName, str]]:
        """Count again the Services that were planned; return the ports that no endpoint has now."""
        counts, begun = self._counts, list[tuple[ObjectName, str]]()
        for name in services:
            for state in self._services.pop(name, ()):
                counts[state] -= 1
            plan = planner.desired.plan_of(name)
            if plan is not None:
                found = _states(planner, plan)
                states = tuple(found.values())
                # Nearly all Services have one port that works: they share one value.
                self._services[name] = _WORKS if states == _WORKS else states
                for state in states:
                    counts[state] += 1
                if name in self._mismatched or (
                    states != _WORKS and PortState.PORT_MISMATCH in states
                ):
                    before = self._mismatched.pop(name, ())
                    ports = tuple(p for (p, _), s in found.items() if s is PortState.PORT_MISMATCH)
                    if ports:
                        self._mismatched[name] = ports
                    begun += [(name, port) for port in ports if port not in before]
            else:
                self._mismatched.pop(name, None)
        return begun


def _states(planner: Planner, plan: ServicePlan) -> dict[tuple[str, Protocol], PortState]:
    """Return the state of each port of a Service that has a cluster IP, by name and protocol."""
    found: dict[tuple[str, Protocol], int] = {}
    has_ready: dict[Family, bool] = {}
    for frontend in plan.frontends:
        if frontend.kind is not FrontendKind.CLUSTER_IP:
            continue
        key, verdict = frontend.key, frontend.verdict
        if key.family not in has_ready:
            has_ready[key.family] = _has_ready(planner, plan.service, key.family)
        is_ready = has_ready[key.family]
        if verdict == REJECT:
            state = PortState.PORT_MISMATCH if is_ready else PortState.NO_ENDPOINTS
        elif verdict == NO_LOCAL:
            state = PortState.NO_LOCAL
        else:
            state = PortState.WORKS if is_ready else PortState.TERMINATING_ONLY
        port = frontend.claim.port_name, key.protocol
        found[port] = max(found.get(port, 0), _RANK[state])
    return {port: _STATES[rank] for port, rank in found.items()}


def _has_ready(planner: Planner, service: ObjectName, family: Family) -> bool:
    """Return whether any endpoint of a Service is ready, whatever its ports: mostly the first."""
    for piece in planner.planned_slices_of(service):
        if piece.family is family:
            for kind in piece.kinds:
                if kind.ready:
                    return True
    return False
