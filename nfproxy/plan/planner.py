"""
From changed objects to the changed parts of the desired state.

Holds the objects as last seen. A change re-plans just the Services it concerns; a change
of the node re-plans all.
"""

from __future__ import annotations

from collections.abc import Iterable

from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Service
from nfproxy.plan.desired import Desired, Touched
from nfproxy.plan.service import plan_node, plan_service


class Planner:
    """
    Objects in, desired state out.

    `desired` is kept up to date by `apply` and `reconfigure`; both return what they
    touched. Pure apart from its own state: no clock, no kernel.
    """

    def __init__(self, config: NodeConfig) -> None:
        """Start with no objects."""
        self.config = config
        self.desired = Desired()
        self.services: dict[ObjectName, Service] = {}
        self._slices: dict[ObjectName, EndpointSlice] = {}
        self._by_service: dict[ObjectName, dict[ObjectName, EndpointSlice]] = {}
        self._service_cidrs: dict[str, ServiceCIDR] = {}
        self.desired.replace_node(plan_node(config, ()))

    def apply(self, changes: Changes) -> Touched:
        """Take over changed objects and re-plan what they concern. `changes.node` is not read."""
        dirty: dict[ObjectName, None] = dict.fromkeys(changes.services)
        for name, service in changes.services.items():
            if service is None:
                self.services.pop(name, None)
            else:
                self.services[name] = service
        for name, piece in changes.slices.items():
            dirty.update(dict.fromkeys(self._replace_slice(name, piece)))
        touched = self._plan(dirty)
        if changes.service_cidrs:
            for cidr_name, cidr in changes.service_cidrs.items():
                if cidr is None:
                    self._service_cidrs.pop(cidr_name, None)
                else:
                    self._service_cidrs[cidr_name] = cidr
            touched.update(self._plan_node())
        return touched

    def reconfigure(self, config: NodeConfig) -> Touched:
        """Plan everything for another node configuration (a zone, an address, a flag)."""
        if config == self.config:
            return Touched()
        self.config = config
        touched = self._plan(self.services)
        touched.update(self._plan_node())
        return touched

    def slices_of(self, service: ObjectName) -> list[EndpointSlice]:
        """Return a Service's slices in a stable order."""
        slices = self._by_service.get(service)
        if not slices:
            return []
        if len(slices) == 1:
            return list(slices.values())
        return [slices[name] for name in sorted(slices)]

    def _replace_slice(self, name: ObjectName, new: EndpointSlice | None) -> Iterable[ObjectName]:
        """Put a slice in place and yield the Services it belonged and belongs to."""
        old = self._slices.pop(name, None)
        if old is not None:
            siblings = self._by_service[old.service]
            del siblings[name]
            if not siblings:
                del self._by_service[old.service]
            yield old.service
        if new is not None:
            self._slices[name] = new
            self._by_service.setdefault(new.service, {})[name] = new
            yield new.service

    def _plan(self, names: Iterable[ObjectName]) -> Touched:
        touched = Touched()
        for name in names:
            touched.services.add(name)
            service = self.services.get(name)
            plan = (
                plan_service(service, self.slices_of(name), self.config)
                if service is not None
                else None
            )
            touched.update(self.desired.replace(name, plan))
        return touched

    def _plan_node(self) -> Touched:
        cidrs = [p for cidr in self._service_cidrs.values() for p in cidr.cidrs]
        return self.desired.replace_node(plan_node(self.config, cidrs))
