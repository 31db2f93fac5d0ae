"""
From changed objects to the changed parts of the desired state.

The planner holds the objects as it last received them. A change plans only the Services that it
concerns.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from operator import attrgetter

from nfproxy.model.addresses import Prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Service
from nfproxy.plan.concerned import concerned
from nfproxy.plan.desired import Desired, Touched
from nfproxy.plan.limits import bounded
from nfproxy.plan.service import plan_node, plan_service
from nfproxy.plan.serviceranges import service_range_problems

_name = attrgetter("name")

# Slices of a Service that change at a time, each by a copy of the tuple with the others.
_FEW = 10


class Planner:
    """
    Objects in, desired state out. One thread at a time may call it.

    `apply` keeps `desired` up to date and returns what it touched. Everything here computes: no
    clock, no kernel. `service_range_problems` is what the ServiceCIDRs hold
    besides cluster IPs, in words.
    """

    def __init__(self, config: NodeConfig) -> None:
        """Start with no objects."""
        self.config = config
        self.desired = Desired()
        self.services: dict[ObjectName, Service] = {}
        self._service_of: dict[ObjectName, ObjectName] = {}  # by the slice's name
        self._slices: dict[ObjectName, tuple[EndpointSlice, ...]] = {}  # by Service
        self._bounded: dict[ObjectName, Sequence[EndpointSlice]] = {}  # where they are too many
        self._service_cidrs: dict[str, ServiceCIDR] = {}
        self.service_range_problems: tuple[str, ...] = ()
        self._touched = Touched()  # by `reconfigure`, and not returned yet
        self._plan_node(Touched())

    def apply(self, changes: Changes) -> Touched:
        """Take over changed objects and plan what they concern; does not read `changes.node`."""
        for name, service in changes.services.items():
            if service is None:
                self.services.pop(name, None)
            else:
                self.services[name] = service
        affected = dict.fromkeys(changes.services)
        slices: dict[ObjectName, dict[ObjectName, EndpointSlice | None]] = {}  # by Service
        for name, piece in changes.slices.items():
            # A slice may change its Service: both are planned.
            owner = self._service_of.get(name)
            if owner is not None:
                slices.setdefault(owner, {})[name] = None
            if piece is None:
                self._service_of.pop(name, None)
            else:  # in its old place: a dictionary grows where keys go and come back
                self._service_of[name] = piece.service
                slices.setdefault(piece.service, {})[name] = piece
        for service_name, pieces in slices.items():
            affected[service_name] = None
            self._put_slices(service_name, pieces)
        touched, self._touched = self._touched, Touched()
        for name in affected:
            service = self.services.get(name)
            plan = None
            if service is not None:
                plan = plan_service(service, self.planned_slices_of(name), self.config)
            self.desired.replace(name, plan, touched)
        self.desired.settle()
        if changes.service_cidrs:
            for cidr_name, cidr in changes.service_cidrs.items():
                if cidr is None:
                    self._service_cidrs.pop(cidr_name, None)
                else:
                    self._service_cidrs[cidr_name] = cidr
            self._plan_node(touched)
        return touched

    def reconfigure(self, config: NodeConfig) -> Changes:
        """
        Use another node configuration (a zone, an address); return what is to be planned again.

        These are the Services that it concerns, as they are. Until `apply` has taken them, their
        plans stay those of the configuration before; it takes any part of them at a time.
        """
        before, self.config = self.config, config
        if config == before:
            return Changes()
        self._plan_node(self._touched)
        asks, slices_of = concerned(before, config), self.slices_of
        return Changes(
            services={
                name: service
                for name, service in self.services.items()
                if asks(service, slices_of(name))
            }
        )

    @property
    def slice_count(self) -> int:
        """How many EndpointSlices of Services there are. May be read in any thread."""
        return sum(map(len, list(self._slices.values())))

    def slices_of(self, service: ObjectName) -> tuple[EndpointSlice, ...]:
        """Return a Service's slices in the order of their names."""
        return self._slices.get(service, ())

    def planned_slices_of(self, service: ObjectName) -> Sequence[EndpointSlice]:
        """Return a Service's slices, as far as they are planned: `bounded`."""
        return self._bounded.get(service) or self.slices_of(service)

    def owner_of(self, slice_name: ObjectName) -> ObjectName | None:
        """Return the Service of a slice; None for an unknown slice."""
        return self._service_of.get(slice_name)

    @property
    def service_cidrs(self) -> list[Prefix]:
        """The ranges of cluster IPs."""
        return [prefix for cidr in self._service_cidrs.values() for prefix in cidr.cidrs]

    def _put_slices(
        self, service: ObjectName, changed: Mapping[ObjectName, EndpointSlice | None]
    ) -> None:
        """Let a Service have other slices, or no longer have some (None)."""
        slices = self._slices.get(service, ())
        if len(changed) < _FEW:
            for name, piece in changed.items():
                slices = _with(slices, name, piece)
        else:  # there may be 100,000: not a copy for each
            by_name = {**{one.name: one for one in slices}, **changed}
            slices = tuple(sorted(filter(None, by_name.values()), key=_name))
        planned = bounded(slices, self.config.limits, self.config.node_name)
        self._bounded.pop(service, None)
        if planned is not slices:
            self._bounded[service] = planned
        if slices:
            self._slices[service] = slices
        else:
            self._slices.pop(service, None)

    def _plan_node(self, touched: Touched) -> None:
        cidrs = self.service_cidrs
        self.desired.replace_node(self.config, plan_node(self.config, cidrs), touched)
        kept = self.config.kept
        self.service_range_problems = service_range_problems(
            cidrs, kept.node_addresses, kept.pod_prefixes
        )


def _with(
    slices: tuple[EndpointSlice, ...], name: ObjectName, piece: EndpointSlice | None
) -> tuple[EndpointSlice, ...]:
    """Return slices in the order of their names, with another one of this name, or without it."""
    at = bisect_left(slices, name, key=_name)
    before, after = slices[:at], slices[at:]
    if after and after[0].name == name:
        after = after[1:]
    return (*before, *after) if piece is None else (*before, piece, *after)
