"""
The desired state of the whole node: all Services' plans, with conflicts decided.

A change replaces one Service's plan, so that its cost depends on that Service alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName
from nfproxy.model.sharing import share_equal_fields
from nfproxy.nft import schema
from nfproxy.plan.claims import ClaimFinding, ClaimFindings, ClaimReason
from nfproxy.plan.contests import Contests
from nfproxy.plan.frontendnames import FrontendNames
from nfproxy.plan.frontends import (
    NO_SLOTS,
    AffinityListKey,
    Element,
    Frontend,
    FrontendKey,
    ListKey,
    ServicePlan,
    SharedElement,
    SlotRanges,
)
from nfproxy.plan.shadows import Shadows
from nfproxy.plan.sizes import Sizes

K = TypeVar("K")
V = TypeVar("V")

_NOTHING = ServicePlan(ObjectName("", ""))


class Conflict(NamedTuple):
    """
    Two Services ask for one frontend, and the loser does not get it.

    `field` is where the loser asks for it, such as ``spec.ports[].nodePort``.
    """

    key: FrontendKey
    winner: ObjectName
    loser: ObjectName
    field: str


#: Stands for the node, where parts of the desired state have a Service.
NODE = ObjectName("", "")


class Touched(msgspec.Struct, frozen=True):
    """
    The parts of the desired state that changed, and that the kernel may not have yet.

    Each has the Service whose plan touched it last, `NODE` for what follows from the node.
    `services` are all that were planned, whether or not that changed anything.
    """

    frontends: dict[FrontendKey, ObjectName] = msgspec.field(default_factory=dict)
    shared_elements: dict[SharedElement, ObjectName] = msgspec.field(default_factory=dict)
    affinity_lists: dict[AffinityListKey, ObjectName] = msgspec.field(default_factory=dict)
    lists: dict[ListKey, ObjectName] = msgspec.field(default_factory=dict)
    services: set[ObjectName] = msgspec.field(default_factory=set)

    def __bool__(self) -> bool:
        """Return whether anything changed."""
        return bool(self.frontends or self.shared_elements or self.affinity_lists or self.lists)


NOTHING = Touched()


class Desired:
    """
    What the kernel should hold. One thread at a time may use it.

    `frontends` has the winner of each frontend. `shared_elements` counts how many Services ask
    for each element. `affinity_lists` has each list's elements, `lists` the endpoints that several
    frontends share.
    `findings` has what is wrong with claims, `names` what frontends are called in the kernel,
    `sizes` how much there is of all this.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.frontends: dict[FrontendKey, Frontend] = {}
        self.shared_elements: dict[SharedElement, int] = {}
        self.affinity_lists: dict[AffinityListKey, frozenset[Element]] = {}
        self.lists: dict[ListKey, SlotRanges] = {}
        self.sizes = Sizes()
        self.names = FrontendNames(self.frontends)
        self._plans: dict[ObjectName, ServicePlan] = {}
        self.findings = ClaimFindings()
        self._contests = Contests(self.findings)
        self._shadows = Shadows(self.frontends, self.findings)
        self._node_elements: tuple[SharedElement, ...] = ()

    def replace(self, service: ObjectName, plan: ServicePlan | None, touched: Touched) -> None:
        """
        Put a Service's new plan in place of its old one, and add what changes to `touched`.

        Without a plan (None) the Service is gone. `settle` then brings the findings up to date.
        """
        touched.services.add(service)
        old = self._plans.get(service)
        before = {f.key: f for f in old.frontends} if old else {}
        after = {f.key: f for f in plan.frontends} if plan else {}
        if plan is not None:
            if old is not None:
                for key in before.keys() & after.keys():
                    share_equal_fields(after[key], before[key])
                share_equal_fields(plan, old)
            self._plans[service] = plan
        elif old is not None:
            del self._plans[service]
        for key in before.keys() | after.keys() if before else after:
            if self._claim(service, key, after.get(key)):
                touched.frontends[key] = service
                self._shadows.frontend_changed(key)
        if (old and (old.refused or old.limited)) or (plan and (plan.refused or plan.limited)):
            self._replace_refused(service, old, plan)
        self._shadows.cluster_ips_changed(service, _cluster_ips(old), _cluster_ips(plan))
        held, asked = (p.shared_elements if p else () for p in (old, plan))
        self._recount(service, held, asked, touched)
        was, now = old or _NOTHING, plan or _NOTHING
        affinity = was.affinity_lists, now.affinity_lists
        for number, gone, come in _replace(
            service, *affinity, self.affinity_lists, touched.affinity_lists
        ):
            self.sizes.elements(number.family, len(come or ()) - len(gone or ()))
        for listed, had, has in _replace(service, was.lists, now.lists, self.lists, touched.lists):
            self.sizes.slots(listed.family, had or NO_SLOTS, -1)
            self.sizes.slots(listed.family, has or NO_SLOTS, 1)

    def settle(self) -> None:
        """Bring the findings about claims up to date, after all plans of a batch."""
        self._contests.settle()

    def plan_of(self, service: ObjectName) -> ServicePlan | None:
        """Return what a Service asks for, also where another Service has the better claim."""
        return self._plans.get(service)

    def replace_node(
        self, config: NodeConfig, elements: tuple[SharedElement, ...], touched: Touched
    ) -> None:
        """Put new elements of the node in place of the old, and add what changes to `touched`."""
        self._shadows.reconfigure(config)
        self._recount(NODE, self._node_elements, elements, touched)
        self._node_elements = elements

    def of_services(self, services: Iterable[ObjectName]) -> Desired:
        """Return what these Services have of it, without what they lost to others."""
        part, touched = Desired(), Touched()
        for service in services:
            if plan := self._plans.get(service):
                held = tuple(f for f in plan.frontends if self.frontends.get(f.key) is f)
                part.replace(service, msgspec.structs.replace(plan, frontends=held), touched)
        part._recount(NODE, (), self._node_elements, touched)
        part._node_elements = self._node_elements
        return part

    def conflicts(self) -> Iterator[Conflict]:
        """Yield a conflict for every claim that lost. May be called in any thread."""
        for key, winner, losers in self._contests.losers():
            for claim in losers:
                yield Conflict(key, winner.claim.service, claim.claim.service, claim.kind.field)

    def everything(self) -> Touched:
        """Return all there is, as if all had changed; no Service counts as planned."""
        touched = Touched(shared_elements=dict.fromkeys(self._node_elements, NODE))
        for service, plan in self._plans.items():
            for frontend in plan.frontends:
                touched.frontends[frontend.key] = service
            for element in plan.shared_elements:
                touched.shared_elements[element] = service
            if plan.affinity_lists or plan.lists:
                touched.affinity_lists.update(dict.fromkeys(plan.affinity_lists, service))
                touched.lists.update(dict.fromkeys(plan.lists, service))
        return touched

    def _claim(self, service: ObjectName, key: FrontendKey, new: Frontend | None) -> bool:
        """
        Replace a Service's claim to a frontend (None: no claim); return whether its winner changed.

        The winner is the least claim, whichever Service came first, so that every node and every
        restart decides alike.
        """
        holder = self.frontends.get(key)
        # Nearly every frontend has one Service; no list of claims is kept for it.
        if holder is None or (holder.claim.service == service and key not in self._contests):
            if holder and (new is None or new.claim.port_name != holder.claim.port_name):
                self.names.changed.add(key)
            if new is None:
                self.frontends.pop(key, None)
            else:
                self.frontends[key] = new
            return self._is_other(holder, new)
        if new is None and key not in self._contests:
            return False
        winner = self.frontends[key] = self._contests.put(key, holder, service, new)
        if holder is not None and holder.claim[1:] != winner.claim[1:]:
            self.names.changed.add(key)
        return self._is_other(holder, winner)

    def _is_other(self, holder: Frontend | None, winner: Frontend | None) -> bool:
        """Return whether a frontend changed; count it again if so."""
        if winner == holder:
            return False
        if holder is not None:
            self.sizes.frontend(holder, -1)
        if winner is not None:
            self.sizes.frontend(winner, 1)
        return True

    def _replace_refused(
        self, service: ObjectName, old: ServicePlan | None, new: ServicePlan | None
    ) -> None:
        """Report the frontends that a Service must not have, and what it has only in part."""
        held, new_limits = (
            {(each.key, each.field): each for each in plan.limited} if plan else {}
            for plan in (old, new)
        )
        for part in held.keys() | new_limits.keys():
            self.findings.replace(
                part[0],
                *(
                    ClaimFinding(ClaimReason.LIMITED, service, each.field, each.what)
                    if each
                    else None
                    for each in (held.get(part), new_limits.get(part))
                ),
            )
        before = {r.key: r for r in old.refused} if old else {}
        after = {r.key: r for r in new.refused} if new else {}
        for key in before.keys() | after.keys():
            self.findings.replace(
                key,
                *(
                    ClaimFinding(ClaimReason.REFUSED, service, r.kind.field, r.why) if r else None
                    for r in (before.get(key), after.get(key))
                ),
            )

    def _recount(
        self,
        owner: ObjectName,
        old: tuple[SharedElement, ...],
        new: tuple[SharedElement, ...],
        touched: Touched,
    ) -> None:
        """Count who asks for each shared element; only the first and the last one change it."""
        if old == new:
            return
        gone, come = set(old).difference(new), set(new).difference(old)
        for element in gone:
            left = self.shared_elements[element] - 1
            if left:
                self.shared_elements[element] = left
            else:
                del self.shared_elements[element]
                self.sizes.elements(element.family, -1)
                touched.shared_elements[element] = owner
        for element in come:
            count = self.shared_elements.get(element, 0)
            self.shared_elements[element] = count + 1
            if not count:
                self.sizes.elements(element.family, 1)
                touched.shared_elements[element] = owner


def _replace(
    service: ObjectName,
    before: Mapping[K, V],
    after: Mapping[K, V],
    held: dict[K, V],
    touched: dict[K, ObjectName],
) -> Iterator[tuple[K, V | None, V | None]]:
    """Take over a Service's lists, touch those that changed, and yield each as it was and is."""
    if before is after:
        return  # nearly all Services have none
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        touched[key] = service
        if key in after:
            held[key] = after[key]
        else:
            held.pop(key, None)
        yield key, old, new


def _cluster_ips(plan: ServicePlan | None) -> list[bytes]:
    """Return the cluster IPs of a Service."""
    if plan is None:
        return []
    return [element.key for element in plan.shared_elements if element.set == schema.CLUSTER_IPS]
