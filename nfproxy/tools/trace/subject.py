"""What to trace for a question, and names for what packets will carry."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nfproxy.errors import InputError
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.question import AddressQuestion, Question
from nfproxy.model.addresses import FAMILIES, family_of, format_address
from nfproxy.tools.trace.table import TraceTarget
from nfproxy.tools.trace.wording import Names

#: Each target is four rules, which every packet of the node is compared with.
_MOST_TARGETS = 64


def targets_of(
    question: Question, explanation: Explanation, clients: Iterable[bytes] = ()
) -> tuple[TraceTarget, ...]:
    """
    Return what packets ask for: the frontends of a Service, or the address that is named.

    `clients` are the addresses of the only client, one a family. Raises InputError where there is
    nothing, or too much.
    """
    targets = _targets_of(question, explanation)
    by_family = {family_of(address): address for address in clients}
    if not by_family:
        return targets
    asked = [
        msgspec.structs.replace(target, client=by_family[target.family])
        for target in targets
        if target.family in by_family
    ]
    if not asked:
        names = " and ".join(map(format_address, by_family.values()))
        families = " or ".join(family.label for family in by_family)
        raise InputError(f"{names} cannot ask for {question}, which has no {families} address")
    return tuple(asked)


def _targets_of(question: Question, explanation: Explanation) -> tuple[TraceTarget, ...]:
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
