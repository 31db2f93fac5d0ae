"""What to trace for a question, and names for what packets will carry."""

from __future__ import annotations

from nfproxy.errors import InputError
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.question import AddressQuestion, Question
from nfproxy.model.addresses import FAMILIES
from nfproxy.tools.trace.table import TraceTarget
from nfproxy.tools.trace.wording import Names

#: Each target is four rules, which every packet of the node is compared with.
_MOST_TARGETS = 64


def targets_of(question: Question, explanation: Explanation) -> tuple[TraceTarget, ...]:
    """
    Return what packets ask for: the frontends of a Service, or the address that is named.

    Raises InputError where there is nothing, or too much.
    """
    if isinstance(question, AddressQuestion):
        families = FAMILIES if question.family is None else (question.family,)
        return tuple(
            TraceTarget(family, question.address, question.protocol, question.port)
            for family in families
        )
    keys = {
        row.key
        for port in explanation.ports
        for row in port.frontends
        if not row.winner  # another Service has it
    }
    targets = sorted(TraceTarget(key.family, key.address, key.protocol, key.port) for key in keys)
    if not targets:
        raise InputError(
            f"{question} has no address or node port on this node",
            f"`nfproxy explain {question}` says why",
        )
    if len(targets) > _MOST_TARGETS:
        raise InputError(
            f"{question} has {len(targets)} addresses and ports, of which {_MOST_TARGETS} may be "
            "traced at once",
            f"name a port ({question.name}:PORT), or one address and port",
        )
    return tuple(targets)


def names_of(explanation: Explanation) -> Names:
    """Return the names that an explanation has."""
    services, pods = {}, {}
    for port in explanation.ports:
        for frontend in port.frontends:
            if not frontend.winner:
                name = f"{port.service}:{port.name}" if port.name else port.service
                services[frontend.key] = name
        for endpoint in port.endpoints:
            if endpoint.port is not None and endpoint.pod:
                pods[endpoint.destination] = endpoint.pod
    return Names(services, pods)
