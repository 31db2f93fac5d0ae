"""
From changed objects to the changed parts of the desired state.

The planner holds the objects as it last received them. A change plans only the Services that it
concerns.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter

from nfproxy.model.addresses import Prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Service
from nfproxy.plan.concerned import concerned
from nfproxy.plan.desired import Desired, Touched
from nfproxy.plan.service import plan_node, plan_service
from nfproxy.plan.serviceranges import service_range_problems

_name = attrgetter("name")


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
        for name, piece in changes.slices.items():
            # A slice may change its Service: both are planned.
            owner = self._service_of.get(name)
            if owner is not None:
                affected[owner] = None
                if piece is None or piece.service != owner:
                    del self._service_of[name]
                    self._put_slice(owner, name, None)
            if piece is not None:
                affected[piece.service] = None
                self._service_of[name] = piece.service
                self._put_slice(piece.service, name, piece)
        touched, self._touched = self._touched, Touched()
        for name in affected:
            service = self.services.get(name)
            plan = None
            if service is not None:
                plan = plan_service(service, self.slices_of(name), self.config)
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

    def owner_of(self, slice_name: ObjectName) -> ObjectName | None:
        """Return the Service of a slice; None for an unknown slice."""
        return self._service_of.get(slice_name)

    @property
    def service_cidrs(self) -> list[Prefix]:
        """The ranges of cluster IPs."""
        return [prefix for cidr in self._service_cidrs.values() for prefix in cidr.cidrs]

    def _put_slice(
        self, service: ObjectName, name: ObjectName, piece: EndpointSlice | None
    ) -> None:
        """Let a Service have a slice, or no longer (None)."""
        slices = self._slices.get(service, ())
        at = bisect_left(slices, name, key=_name)
        before, after = slices[:at], slices[at:]
        if after and after[0].name == name:
            after = after[1:]
        now = (*before, *after) if piece is None else (*before, piece, *after)
        if now:
            self._slices[service] = now
        else:
            del self._slices[service]

    def _plan_node(self, touched: Touched) -> None:
        cidrs = self.service_cidrs
        self.desired.replace_node(self.config, plan_node(self.config, cidrs), touched)
        kept = self.config.kept
        self.service_range_problems = service_range_problems(
            cidrs, kept.node_addresses, kept.pod_prefixes
        )
