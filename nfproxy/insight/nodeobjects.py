"""
What a daemon knows of what was asked about: for commands on its node, which plan it again.

So they need no API server, and cost the daemon a few look-ups. The daemon holds neither pods' names
nor Services that it does not proxy.
"""

from __future__ import annotations

import msgspec

from nfproxy.insight.question import Question, ServiceQuestion
from nfproxy.insight.sight import Sight
from nfproxy.insight.whose import owner_of
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import Prefix
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Service
from nfproxy.plan.planner import Planner

#: Pages of the daemon at a loopback address.
SERVICES_PATH, OBJECTS_PATH = "/insight/services", "/insight/objects"


class NodeObjects(msgspec.Struct, frozen=True):
    """
    The Services that a question is about, others that ask for their frontends, and their slices.

    `config` is the daemon's configuration of the dataplane. An empty `services` means that the
    daemon proxies no such Service.
    """

    config: NodeConfig
    services: tuple[Service, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()
    service_cidrs: tuple[Prefix, ...] = ()
    problems: tuple[Problem, ...] = ()
    has_node: bool = True


def objects_for(sight: Sight, question: Question) -> NodeObjects:
    """Return what a daemon's plan has for a question. May be called in any thread."""
    planner = sight.planner
    names = dict.fromkeys(_asked(sight, question))
    for name in list(names):
        names |= dict.fromkeys(_contenders(planner, name))
    services = [planner.services[name] for name in names if name in planner.services]
    slices = tuple(piece for one in services for piece in planner.slices_of(one.name))
    problems = [p for one in services for p in sight.problems_of(Kind.SERVICE, one.name)]
    problems += [p for piece in slices for p in sight.problems_of(Kind.ENDPOINT_SLICE, piece.name)]
    return NodeObjects(
        sight.config,
        tuple(services),
        slices,
        tuple(planner.service_cidrs),
        tuple(problems),
        sight.has_node,
    )


def sight_of(objects: NodeObjects) -> Sight:
    """Return the sight of such objects: they are planned as the daemon has planned them."""
    planner = Planner(objects.config)
    planner.apply(
        Changes(
            services={one.name: one for one in objects.services},
            slices={piece.name: piece for piece in objects.slices},
            service_cidrs={"": ServiceCIDR("", objects.service_cidrs)},
        )
    )
    return Sight(planner, problems=objects.problems, has_node=objects.has_node)


def _asked(sight: Sight, question: Question) -> list[ObjectName]:
    """Return the Services that a question is about."""
    if isinstance(question, ServiceQuestion):
        return [question.name]
    owner = owner_of(sight, question)
    found = [port.service.name for port in owner.pod_ports]
    frontends = (sight.planner.desired.frontends.get(key) for key in owner.frontends)
    found += [frontend.claim.service for frontend in frontends if frontend]
    return [*found, *([owner.service] if owner.service else [])]


def _contenders(planner: Planner, name: ObjectName) -> set[ObjectName]:
    """Return the Services that have, or ask for, a frontend of this one."""
    plan = planner.desired.plan_of(name)
    holders = {
        frontend.claim.service
        for mine in (plan.frontends if plan else ())
        if (frontend := planner.desired.frontends.get(mine.key))
    }
    losers = {c.loser for c in planner.desired.conflicts() if c.winner == name}
    return holders | losers
