"""The differences between the kernel and the desired state, by Service and endpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.model.service import Claim, ObjectName
from nfproxy.nft import schema
from nfproxy.nft.chains import NO_LOCAL, REJECT, FindChain, Policy, is_guard, shape_of
from nfproxy.nft.schema import Verdict
from nfproxy.plan.desired import Desired
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import (
    NO_SLOTS,
    AffinityListKey,
    Element,
    Frontend,
    FrontendKey,
    ListKey,
    SharedElement,
    SlotRanges,
    balancing_verdict,
)
from nfproxy.reconcile.lists import NO_LIST, ListState, clean_list, list_transition
from nfproxy.reconcile.observed import Observed
from nfproxy.reconcile.transition import (
    ABSENT,
    FrontendState,
    Operation,
    clean,
    transition,
)
from nfproxy.text import plural
from nfproxy.views.elementwords import format_destination, own_element, shared_element

#: How the kernel is: it lacks something, has too much, or has something else.
MISSING, SURPLUS, DIFFERS = "missing", "surplus", "differs"

#: What another process has put there and no packet comes to: nfproxy's own state is equal.
FOREIGN = "foreign"

_MISPLACED = "its slots are filled in a wrong way"


class Difference(msgspec.Struct, frozen=True, order=True):
    """
    One row of a comparison.

    `change` says how the kernel is: MISSING, SURPLUS (no object asks for it), DIFFERS or FOREIGN.
    `service` is "" where none is known. In `details`, "-" is what the kernel has and should not
    have, "+" what it lacks, and "A → B" says what it has and what it should have.
    """

    family: str
    service: str
    subject: str
    change: str
    details: tuple[str, ...] = ()


def compare(
    desired: Desired,
    observed: Observed,
    families: Sequence[Family],
    only: Collection[ObjectName] | None = None,
) -> tuple[list[Difference], list[Operation]]:
    """
    Return the differences, sorted, and the element operations that would end them.

    A frontend is equal if it has the same verdict and the same endpoints in any order of slots.
    With `only`, the answer is about these Services alone.
    """
    found = _Comparison(desired, observed, families, only)
    found.compare_frontends()
    found.compare_lists()
    found.compare_affinity()
    found.compare_shared()
    if only is None:
        found.add_strays()
    return sorted(found.rows), found.operations


class _Comparison:
    """Rows and operations while they are found."""

    def __init__(
        self,
        desired: Desired,
        observed: Observed,
        families: Sequence[Family],
        only: Collection[ObjectName] | None,
    ) -> None:
        self._desired, self._observed, self._families = desired, observed, families
        self._only = only
        self.rows: list[Difference] = []
        self.operations: list[Operation] = []

    def _is_asked(self, frontend: Frontend | None) -> bool:
        if self._only is None:
            return True
        return frontend is not None and frontend.claim.service in self._only

    def compare_frontends(self) -> None:
        desired, observed = self._desired.frontends, self._observed.frontends
        keys = {key for key in desired if key.family in self._families}
        for key in sorted(keys | observed.keys()):
            wanted = desired.get(key)
            if not self._is_asked(wanted):
                continue
            state = observed.get(key, ABSENT)
            step = transition(key, state, wanted)
            needed = [*step.operations]
            if step.lingers:
                needed += clean(key, step.state).operations
            if needed:
                self.rows.append(_frontend_row(key, state, wanted))
                self.operations += needed

    def compare_lists(self) -> None:
        desired, observed = self._desired.lists, self._observed.lists
        names = {name for name in desired if name.family in self._families} | observed.keys()
        for name in sorted(names):
            held, listed = observed.get(name, NO_LIST), desired.get(name)
            change = list_transition(name, held, listed)
            needed = change.operations + clean_list(name, change.state).operations
            if not needed:
                continue
            owner = next((f for f in self._desired.frontends.values() if f.list == name), None)
            if self._is_asked(owner):
                self.rows.append(_list_row(name, held, listed, owner))
                self.operations += needed

    def compare_affinity(self) -> None:
        desired, observed = self._desired.affinity_lists, self._observed.affinity_lists
        for name in sorted(desired.keys() | observed.keys()):
            have = observed.get(name, frozenset[Element]())
            want = desired.get(name, frozenset[Element]())
            if name.family not in self._families or have == want:
                continue
            owner = _owner_of_list(self._desired, name)
            if self._is_asked(owner):
                self.rows.append(_affinity_row(name, have, want, owner))
                self.operations += [
                    *(Operation(False, name.family, e.set, e.key) for e in sorted(have - want)),
                    *(Operation(True, name.family, *e) for e in sorted(want - have)),
                ]

    def compare_shared(self) -> None:
        wanted = {e for e in self._desired.shared_elements if e.family in self._families}
        held = self._observed.shared_elements
        owners = self._owners(wanted - held)
        # Deletions first: a range may overlap with one that takes its place.
        for element in [*sorted(held - wanted), *sorted(wanted - held)]:
            is_missing = element in wanted
            service = owners.get(element)
            if self._only is not None and service is None:
                continue
            name = str(service) if service else ""
            what, consequence = shared_element(element, is_missing=is_missing)
            self.rows.append(
                _row(element.family, name, what, MISSING if is_missing else SURPLUS, consequence)
            )
            self.operations.append(Operation(is_missing, *element))

    def _owners(self, missing: set[SharedElement]) -> dict[SharedElement, ObjectName]:
        """Return a Service that asks for each missing element, where one does."""
        if not missing:
            return {}
        services = {frontend.claim.service for frontend in self._desired.frontends.values()}
        if self._only is not None:
            services &= set(self._only)
        return {
            element: service
            for service in sorted(services, reverse=True)
            if (plan := self._desired.plan_of(service))
            for element in plan.shared_elements
            if element in missing
        }

    def add_strays(self) -> None:
        for one in self._observed.strays:
            described = schema.SCHEMAS[one.set]
            text = schema.format_element(described, one.key, one.value, one.family)
            what = f"{one.set}: {text}"
            self.rows.append(_row(one.family, "", what, SURPLUS, "it belongs to no frontend"))
        self.operations[:0] = self._observed.strays


def _row(family: Family, service: str, what: str, change: str, *details: str) -> Difference:
    return Difference(family.label, service, what, change, details)


def _owner_of_list(desired: Desired, name: AffinityListKey) -> Frontend | None:
    for frontend in desired.frontends.values():
        if frontend.key.family is name.family:
            for each in frontend.chains:
                if isinstance(each, FindChain) and any(
                    one.number == name.number for one in each.lists
                ):
                    return frontend
    return None


def _affinity_row(
    name: AffinityListKey,
    have: frozenset[Element],
    want: frozenset[Element],
    owner: Frontend | None,
) -> Difference:
    def endpoints(elements: Iterable[Element]) -> list[str]:
        found = {e.value for e in elements if isinstance(e.value, bytes)}
        return [format_destination(name.family, one) for one in sorted(found)]

    details = [f"- {text}" for text in endpoints(have - want)]
    details += [f"+ {text}" for text in endpoints(want - have)]
    return _row(
        name.family,
        service_port(owner.claim) if owner else "",
        "endpoints of remembered clients",
        DIFFERS if have and want else MISSING if want else SURPLUS,
        *(details or ["which of them are local"]),
    )


def _list_row(
    key: ListKey, state: ListState, wanted: SlotRanges | None, owner: Frontend | None
) -> Difference:
    held, want = _endpoints(state.slot_ranges), _endpoints(wanted or NO_SLOTS)
    details = [f"- {text}" for text in _destinations(key, held - want)]
    details += [f"+ {text}" for text in _destinations(key, want - held)]
    return _row(
        key.family,
        service_port(owner.claim) if owner and wanted else "",
        str(key).removesuffix(f" ({key.family.label})"),
        DIFFERS if wanted and held else MISSING if wanted else SURPLUS,
        *(details or [_MISPLACED]),
    )


def service_port(claim: Claim) -> str:
    """Return ``namespace/name:port``, without the port's name where it has none."""
    return f"{claim.service}:{claim.port_name}" if claim.port_name else str(claim.service)


def _frontend_row(key: FrontendKey, state: FrontendState, wanted: Frontend | None) -> Difference:
    if wanted is None:
        answer = balancing_verdict(key, state.verdict, state.own_elements)
        details = [answer_text(answer)] if answer else ["slots of no frontend"]
        details += [f"- {text}" for text in _destinations(key, _endpoints(state.slot_ranges))]
        return _row(key.family, "", key.place, SURPLUS, *details)
    service = service_port(wanted.claim)
    if state.verdict is None:
        details = [answer_text(wanted.answer)]
        details += [f"+ {text}" for text in _destinations(key, _endpoints(wanted.own_slots))]
        return _row(key.family, service, key.place, MISSING, *details)
    return _row(key.family, service, key.place, DIFFERS, *_changes(key, state, wanted))


def _changes(key: FrontendKey, state: FrontendState, wanted: Frontend) -> Iterator[str]:
    answer = balancing_verdict(key, state.verdict, state.own_elements)
    if answer != wanted.answer:
        have, want = answer_text(answer), answer_text(wanted.answer)
        yield f"{have} → {want}" if have != want else f"{answer} → {wanted.answer}"
    elif state.verdict != wanted.verdict:
        yield _first_verdict(state.verdict, wanted.verdict)
    held, want_ = _endpoints(state.slot_ranges), _endpoints(wanted.own_slots)
    yield from (f"- {text}" for text in _destinations(key, held - want_))
    yield from (f"+ {text}" for text in _destinations(key, want_ - held))
    if held == want_ and any(
        set(slots[: len(slot_range)]) != set(slot_range) or len(slots) > len(slot_range)
        for slots, slot_range in zip(state.slot_ranges, wanted.own_slots, strict=True)
    ):
        yield _MISPLACED
    own_elements = {(e.set, e.key): e.value for e in wanted.own_elements}
    come = {name for name, _ in own_elements.keys() - state.own_elements.keys()}
    gone = {name for name, _ in state.own_elements.keys() - own_elements.keys()}
    yield from dict.fromkeys(own_element(name, is_missing=True) for name in sorted(come))
    yield from dict.fromkeys(own_element(name, is_missing=False) for name in sorted(gone))
    if any(k in state.own_elements and state.own_elements[k] != v for k, v in own_elements.items()):
        yield "session affinity, or what source ranges let in, goes through other chains"


def _first_verdict(held: Verdict | None, wanted: Verdict) -> str:
    """Return what it means that a packet meets another chain before the balancing one."""
    is_guarded = held is not None and is_guard(held)
    if is_guarded and is_guard(wanted):
        return "the check of source ranges is another one"
    if is_guard(wanted):
        return "source ranges are not checked"
    if is_guarded:
        return "source ranges are checked, and should not be"
    return f"{held} → {wanted}"


def _endpoints(slot_ranges: SlotRanges) -> set[Destination]:
    return set(chain(*slot_ranges))


def _destinations(key: FrontendKey | ListKey, destinations: Iterable[Destination]) -> list[str]:
    return [format_destination(key.family, d) for d in sorted(destinations)]


def answer_text(verdict: Verdict | None) -> str:
    """Return what a frontend does with connections, from its balancing verdict, in words."""
    if verdict is None:
        return "no answer"
    if verdict in (REJECT, NO_LOCAL):
        return "refused" if verdict == REJECT else "dropped"
    shape = shape_of(verdict)
    if shape is None:
        return str(verdict)
    if shape.list:
        return "endpoints of its list"
    if shape.policy is not Policy.LOCAL:
        return plural(shape.cluster, "endpoint")
    outside = plural(shape.local, "endpoint") if shape.local else "dropped"
    if shape.routed:
        outside = "left to the node's routes"
    return f"{plural(shape.cluster, 'endpoint')}, for outside clients {outside}"
