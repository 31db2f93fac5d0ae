"""The differences between the kernel and the desired state, by Service and endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from nfproxy.model.addresses import Family, format_address
from nfproxy.model.service import Claim
from nfproxy.nft import schema
from nfproxy.nft.chains import REJECT
from nfproxy.nft.schema import Verdict
from nfproxy.plan.desired import Desired
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import (
    NO_SLOTS,
    Frontend,
    FrontendKey,
    ListKey,
    SlotRanges,
    balancing_verdict,
)
from nfproxy.reconcile.lists import NO_LIST, ListState, clean_list, list_transition
from nfproxy.reconcile.observed import Observed
from nfproxy.reconcile.transition import (
    ABSENT,
    FrontendState,
    HeldRanges,
    Operation,
    clean,
    transition,
)


class Difference(msgspec.Struct, frozen=True, order=True):
    """
    One row of a comparison.

    `change` says what turns the kernel into the desired state: ``added`` (the kernel lacks it),
    ``removed`` (no object asks for it), ``changed``, or ``leftover`` (slots without a frontend).
    ``foreign`` is what another process has put there and no packet comes to: nfproxy's own state
    is equal all the same.
    `service` is "" where none is known.
    """

    family: str
    service: str
    subject: str
    change: str
    details: tuple[str, ...] = ()


def compare(
    desired: Desired, observed: Observed, families: Sequence[Family]
) -> tuple[list[Difference], list[Operation]]:
    """
    Return the differences, sorted, and the element operations that would end them.

    A frontend is equal if it has the same verdict and the same endpoints in any order of slots.
    """
    rows: list[Difference] = []
    operations: list[Operation] = list(observed.strays)
    rows += [_element_row(o, "removed") for o in observed.strays]
    keys = {key for key in desired.frontends if key.family in families}
    for key in sorted(keys | observed.frontends.keys()):
        wanted = desired.frontends.get(key)
        state = observed.frontends.get(key, ABSENT)
        step = transition(key, state, wanted)
        needed = [*step.operations]
        if step.lingers:
            needed += clean(key, step.state).operations
        if needed:
            rows.append(_frontend_row(key, state, wanted))
            operations += needed
    for name in sorted({n for n in desired.lists if n.family in families} | observed.lists.keys()):
        held, listed = observed.lists.get(name, NO_LIST), desired.lists.get(name)
        change = list_transition(name, held, listed)
        needed = change.operations + clean_list(name, change.state).operations
        if needed:
            rows.append(_list_row(name, held, listed, desired))
            operations += needed
    gone, come = [], []
    for each in sorted(desired.affinity_lists.keys() | observed.affinity_lists.keys()):
        if each.family in families:
            have = observed.affinity_lists.get(each, frozenset())
            want = desired.affinity_lists.get(each, frozenset())
            gone += [Operation(False, each.family, e.set, e.key) for e in sorted(have - want)]
            come += [Operation(True, each.family, *e) for e in sorted(want - have)]
    rows += [_element_row(o, "removed") for o in gone]
    rows += [_element_row(o, "added") for o in come]
    for element in sorted(observed.shared_elements - desired.shared_elements.keys()):
        gone.append(Operation(False, *element))
        rows.append(_element_row(gone[-1], "removed"))
    for element in sorted(m for m in desired.shared_elements if m.family in families):
        if element not in observed.shared_elements:
            come.append(Operation(True, *element))
            rows.append(_element_row(come[-1], "added"))
    return sorted(rows), operations + gone + come


def _element_row(operation: Operation, change: str) -> Difference:
    described = schema.SCHEMAS[operation.set]
    text = schema.format_element(described, operation.key, operation.value, operation.family)
    return Difference(operation.family.label, "", f"{operation.set}: {text}", change)


def _list_row(
    key: ListKey, state: ListState, wanted: SlotRanges | None, desired: Desired
) -> Difference:
    claims = (f.claim for f in desired.frontends.values() if f.list == key)
    claim = next(claims, None) if wanted else None
    held, want = _endpoints(state.slot_ranges), _endpoints(wanted or NO_SLOTS)
    details = [f"- {text}" for text in _destinations(key, held - want)]
    details += [f"+ {text}" for text in _destinations(key, want - held)]
    if not details:
        details = ["slots filled wrongly"]
    change = "changed" if wanted and held else "added" if wanted else "leftover"
    return Difference(
        key.family.label, service_port(claim) if claim else "", str(key), change, tuple(details)
    )


def service_port(claim: Claim) -> str:
    """Return ``namespace/name:port``, without the port's name where it has none."""
    return f"{claim.service}:{claim.port_name}" if claim.port_name else str(claim.service)


def _frontend_row(key: FrontendKey, state: FrontendState, wanted: Frontend | None) -> Difference:
    if wanted is None:
        change = "removed" if state.verdict is not None else "leftover"
        answer = balancing_verdict(key, state.verdict, state.own_elements)
        details = [_answer(answer)] if answer else []
        details += [f"- {text}" for text in _destinations(key, _endpoints(state.slot_ranges))]
        return Difference(key.family.label, "", str(key), change, tuple(details))
    service = service_port(wanted.claim)
    if state.verdict is None:
        details = [_answer(wanted.answer)]
        details += [f"+ {text}" for text in _destinations(key, _endpoints(wanted.own_slots))]
        return Difference(key.family.label, service, str(key), "added", tuple(details))
    return Difference(
        key.family.label, service, str(key), "changed", tuple(_changes(key, state, wanted))
    )


def _changes(key: FrontendKey, state: FrontendState, wanted: Frontend) -> Iterator[str]:
    answer = balancing_verdict(key, state.verdict, state.own_elements)
    if answer != wanted.answer:
        yield f"answer: {_answer(answer)} -> {_answer(wanted.answer)}"
    elif state.verdict != wanted.verdict:
        yield "guard: another one, or none"
    held, want = _endpoints(state.slot_ranges), _endpoints(wanted.own_slots)
    yield from (f"- {text}" for text in _destinations(key, held - want))
    yield from (f"+ {text}" for text in _destinations(key, want - held))
    if held == want and any(
        set(slots[: len(slot_range)]) != set(slot_range) or len(slots) > len(slot_range)
        for slots, slot_range in zip(state.slot_ranges, wanted.own_slots, strict=True)
    ):
        yield "slots filled wrongly"
    own_elements = {(e.set, e.key): e.value for e in wanted.own_elements}
    for name in sorted({name for name, _ in own_elements.keys() ^ state.own_elements.keys()}):
        come = sum(1 for k in own_elements if k[0] == name and k not in state.own_elements)
        gone = sum(1 for k in state.own_elements if k[0] == name and k not in own_elements)
        yield f"{name}: {come} missing, {gone} too many"
    if any(k in state.own_elements and state.own_elements[k] != v for k, v in own_elements.items()):
        yield "session affinity goes through other chains"


def _endpoints(slot_ranges: HeldRanges) -> set[Destination]:
    return set(chain(*slot_ranges))


def _destinations(key: FrontendKey | ListKey, destinations: Iterable[Destination]) -> list[str]:
    return [format_destination(key.family, d) for d in sorted(destinations)]


def format_destination(family: Family, destination: Destination) -> str:
    """Return an endpoint as ``10.244.1.5:8080`` or ``[fd00::5]:8080``."""
    address = format_address(destination[: family.size])
    port = schema.port_of(destination, family.size)
    return f"[{address}]:{port}" if family is Family.IPV6 else f"{address}:{port}"


def _answer(verdict: Verdict | None) -> str:
    if verdict is None:
        return "nothing"
    if verdict == REJECT:
        return "reject"
    return verdict.chain or str(verdict)
