"""What to trace for a question, and names for what packets will carry."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nfproxy.errors import InputError
from nfproxy.insight.explanation import EndpointRow, ExplainedPort, Explanation
from nfproxy.insight.question import AddressQuestion, Question
from nfproxy.model.addresses import FAMILIES, family_of, format_address, parse_address
from nfproxy.model.service import Protocol
from nfproxy.plan.frontends import FrontendKey
from nfproxy.tools.trace.table import TraceTarget
from nfproxy.tools.trace.wording import Names

#: Each target is four rules, which every packet of the node is compared with.
_MOST_TARGETS = 64


def targets_of(
    question: Question, explanation: Explanation, clients: Iterable[bytes] = ()
) -> tuple[TraceTarget, ...]:
    """
    Return what packets ask for: the frontends of a Service, or the address that is named.

    Other nodes have translated what comes from there. So endpoints of a Service on this node count,
    too, but for connections of this node's own processes, such as probes.
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
    here = {
        TraceTarget(*_frontend(port, endpoint), arriving=True)
        for port in explanation.ports
        for endpoint in port.endpoints
        if endpoint.local and endpoint.port is not None
    }
    return (*targets, *sorted(here)[: _MOST_TARGETS - len(targets)])


def names_of(explanation: Explanation) -> Names:
    """Return the names that an explanation has."""
    services, pods = {}, {}
    for port in explanation.ports:
        for frontend in port.frontends:
            if not frontend.winner:
                services[frontend.key] = _name(port)
        for endpoint in port.endpoints:
            if endpoint.port is None:
                continue
            services.setdefault(_frontend(port, endpoint), _name(port))
            if endpoint.pod:
                pods[endpoint.destination] = endpoint.pod
    return Names(services, pods)


def _name(port: ExplainedPort) -> str:
    return f"{port.service}:{port.name}" if port.name else port.service


def _frontend(port: ExplainedPort, endpoint: EndpointRow) -> FrontendKey:
    """Return address, protocol and port of an endpoint as packets ask for them."""
    address, protocol = parse_address(endpoint.address), Protocol[port.protocol]
    return FrontendKey(family_of(address), address, protocol, endpoint.port or 0)
