"""What the engine may look at, and a service port in one family as it sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import msgspec

from nfproxy.kube.details import ObjectDetails, ServiceDetails
from nfproxy.kube.identity import Kind, subject
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.changes import Problem
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Service, ServicePort
from nfproxy.plan.claims import BegunFinding
from nfproxy.plan.planner import Planner
from nfproxy.plan.service import is_external, select_for


class Sight(msgspec.Struct, frozen=True, dict=True):
    """
    Objects, planned for one node, and what is known beside them.

    `problems` are those of reading the objects. `has_all_services` is false where only the Service
    asked about was read, so that others' claims are unknown. `has_node` says whether the Node
    object of this node is there, `has_config` whether the node's configuration is known.
    """

    planner: Planner
    details: ObjectDetails = msgspec.field(default_factory=ObjectDetails)
    problems: tuple[Problem, ...] = ()
    has_all_services: bool = True
    has_node: bool = True
    has_config: bool = True

    @property
    def config(self) -> NodeConfig:
        """The node's configuration."""
        return self.planner.config

    @cached_property
    def claims(self) -> Mapping[ObjectName, tuple[BegunFinding, ...]]:
        """What is wrong with claims to frontends, by Service."""
        found: dict[ObjectName, tuple[BegunFinding, ...]] = {}
        for one in self.planner.desired.findings.current():
            service = one.finding.service
            found[service] = (*found.get(service, ()), one)
        return found

    @cached_property
    def losers(self) -> Mapping[ObjectName, tuple[str, ...]]:
        """By Service, what others ask for and it has: ``10.96.0.1:80/tcp of shop/mail``."""
        found: dict[ObjectName, tuple[str, ...]] = {}
        for conflict in sorted(self.planner.desired.conflicts()):
            text = f"{conflict.key} of {conflict.loser}"
            found[conflict.winner] = (*found.get(conflict.winner, ()), text)
        return found

    @cached_property
    def problems_by_subject(self) -> Mapping[str, tuple[Problem, ...]]:
        """The problems of objects by what messages call the object."""
        found: dict[str, tuple[Problem, ...]] = {}
        for problem in self.problems:
            if problem.subject:
                found[problem.subject] = (*found.get(problem.subject, ()), problem)
        return found

    def details_of(self, name: ObjectName) -> ServiceDetails:
        """Return the details of a Service, those that any has where they are unknown."""
        return self.details.services.get(name) or ServiceDetails(name, type="")

    def problems_of(self, kind: Kind, name: ObjectName) -> tuple[Problem, ...]:
        """Return what was wrong with an object when it was read."""
        if not self.problems:
            return ()
        return self.problems_by_subject.get(subject(kind, name.namespace, name.name), ())

    def ports_of(self, name: ObjectName) -> Iterator[PortSight]:
        """Yield each port of a Service in each of its families; none where it is not proxied."""
        service = self.planner.services.get(name)
        if service is None:
            return
        for port in service.ports:
            for family in FAMILIES:
                if family in service.families:
                    yield PortSight(self, service, port, family)


class PortSight:
    """A service port in one family: its candidates, and which of them are chosen."""

    def __init__(self, sight: Sight, service: Service, port: ServicePort, family: Family) -> None:
        """Select its endpoints, as planning does."""
        self.sight = sight
        self.service = service
        self.port = port
        self.family = family
        self.slices = sight.planner.planned_slices_of(service.name)
        self.found, self.chosen = select_for(service, port, family, self.slices, sight.config)

    @property
    def own_slices(self) -> list[EndpointSlice]:
        """The Service's slices of this family."""
        return [piece for piece in self.slices if piece.family is self.family]

    @cached_property
    def is_external(self) -> bool:
        """Whether clients outside the cluster may ask for it at another address or a node port."""
        return is_external(self.service, self.port, self.family)

    @property
    def uses_cluster(self) -> bool:
        """Whether traffic of policy Cluster exists; pods use external addresses so, too."""
        return not self.service.internal_local or self.is_external

    @property
    def uses_local(self) -> bool:
        """Whether traffic of policy Local exists."""
        service = self.service
        return service.internal_local or (service.external_local and self.is_external)
