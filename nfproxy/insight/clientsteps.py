"""The way of a packet in plain words, from the steps of the evaluator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nfproxy.insight.explanation import ClientStep, Reaction
from nfproxy.insight.packet import Effect, Fate, PacketOutcome, PacketStep
from nfproxy.model.addresses import format_address
from nfproxy.nft import schema

_REACTIONS = {
    Fate.ENDPOINT: Reaction.ENDPOINTS,
    Fate.REJECTED: Reaction.REFUSED,
    Fate.DROPPED: Reaction.DROPPED,
    Fate.UNTOUCHED: Reaction.ROUTED,
    Fate.UNKNOWN: Reaction.UNKNOWN,
}


def reaction_of(outcomes: Sequence[PacketOutcome]) -> Reaction:
    """Return what a client gets; an endpoint counts, where a draw may also find none."""
    fates = [one.fate for one in outcomes]
    return next((r for fate, r in _REACTIONS.items() if fate in fates), Reaction.UNKNOWN)


def endpoints_of(outcomes: Sequence[PacketOutcome]) -> tuple[str, ...]:
    """Return the endpoints that a client may get."""
    return tuple(
        dict.fromkeys(
            with_port(one.address, one.port) for one in outcomes if one.fate is Fate.ENDPOINT
        )
    )


def with_port(address: bytes, port: int) -> str:
    """Return ``10.96.0.1:80`` or ``[fd00::1]:80``."""
    text = format_address(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def is_source_range(outcomes: Sequence[PacketOutcome]) -> bool:
    """Return whether loadBalancerSourceRanges keep a client out."""
    return any(_is_guard(one.steps[-1]) for one in outcomes if one.fate is Fate.DROPPED)


def _is_guard(step: PacketStep) -> bool:
    return step.chain.startswith("guard-") and step.effect is Effect.DROP


def client_steps(
    asked: str,
    outcomes: Sequence[PacketOutcome],
    others: Sequence[PacketOutcome] = (),
    *,
    knows_clients: bool,
) -> tuple[ClientStep, ...]:
    """
    Return the way of a client's packets. `asked` names the frontend.

    `others` are the outcomes of clients that get further. `knows_clients` says whether the clients
    that session affinity remembers were looked at.
    """
    reaction = reaction_of(outcomes)
    first = next(one for one in outcomes if _REACTIONS[one.fate] is reaction)
    steps = [*_before(asked, first, knows_clients=knows_clients), _end(first, outcomes)]
    if others and reaction_of(others) is Reaction.ENDPOINTS:
        further = _balanced(others)
        steps.append(ClientStep(at="", rule=further, result="other clients get this far"))
    return tuple(steps)


def _before(asked: str, outcome: PacketOutcome, *, knows_clients: bool) -> Iterator[ClientStep]:
    """Yield the steps before the one that decides."""
    for step in outcome.steps:
        if step.effect is Effect.FOUND and step.detail.startswith(_FIRST):
            guarded = ", guarded by source ranges" if ": jump guard-" in step.detail else ""
            yield ClientStep(at=step.hook, rule=f"{asked} found{guarded}")
        elif step.effect is Effect.RETURN and step.chain.startswith("guard-"):
            yield ClientStep(at=step.hook, rule="source in an allowed range")
        if step.effect is Effect.FOUND and ": jump affinity-" in step.detail:
            rule = "session affinity: clients keep their endpoint"
            if knows_clients:
                remembered = any(_is_remembered(one) for one in outcome.steps)
                known = "this client has one" if remembered else "this client has none yet"
                rule = f"session affinity: {known}"
            yield ClientStep(at=step.hook, rule=rule)


_FIRST = (f"{schema.FRONTENDS}: ", f"{schema.NODE_PORTS}: ")


def _is_remembered(step: PacketStep) -> bool:
    return step.effect is Effect.TRANSLATE and step.chain.startswith("affinity-")


def _end(outcome: PacketOutcome, outcomes: Sequence[PacketOutcome]) -> ClientStep:
    """Return the step that decides."""
    last = outcome.steps[-1] if outcome.steps else PacketStep("", "", "", Effect.NOTE)
    at, chain = last.hook, last.chain
    match outcome.fate:
        case Fate.ENDPOINT:
            return ClientStep(at=at, rule=_balanced(outcomes), result="endpoint", is_end=True)
        case Fate.UNTOUCHED:
            where = "the node itself" if outcome.is_local else "its routes"
            rule = f"no rule translates it; the node leaves it to {where}"
            return ClientStep(at=at, rule=rule, result="untouched", is_end=True)
        case Fate.UNKNOWN:
            rule = f"this rule cannot be followed: {last.rule}"
            return ClientStep(at=at, rule=rule, result="unknown", is_end=True)
    if chain.startswith("guard-"):
        rule = "source in no allowed range"
    elif chain == "unused-service-addresses":
        rule = "no Service has this address, which is in a range of cluster IPs"
    elif chain == "reject-loopback":
        rule = "a node port is not served on loopback addresses"
    elif chain == "reject-unknown-port":
        rule = "a cluster IP, and the Service has no such port"
    elif outcome.fate is Fate.REJECTED:
        rule = "no endpoint"
    else:
        rule = "no endpoint for this client"
    result = "REFUSED" if outcome.fate is Fate.REJECTED else "DROP"
    return ClientStep(at=at, rule=rule, result=result, is_end=True)


def _balanced(outcomes: Sequence[PacketOutcome]) -> str:
    """Return ``one of 2 endpoints; source becomes the node's``."""
    found = endpoints_of(outcomes)
    which = f"one of {len(found)} endpoints" if len(found) > 1 else f"endpoint {found[0]}"
    changed = {one.is_masqueraded for one in outcomes if one.fate is Fate.ENDPOINT}
    if changed == {True}:
        return f"{which}; source becomes the node's"
    if changed == {False}:
        return f"{which}; source is kept"
    return f"{which}; source becomes the node's where the client reaches itself"
