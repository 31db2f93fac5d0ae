"""Every Service port in a row: what it answers, over how many endpoints, and why not all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from nfproxy.insight.daemonstatus import API_VERSION
from nfproxy.insight.diagnosis import Code, Diagnosis, Severity, in_order, worst
from nfproxy.insight.endpointcauses import endpoint_causes
from nfproxy.insight.explanation import Conclusion, Seen, together, worst_conclusion
from nfproxy.insight.frontendrows import frontend_causes, frontend_rows
from nfproxy.insight.nodecauses import node_causes
from nfproxy.insight.serviceview import awaited_balancer, conclusion_of, invalid_fields
from nfproxy.insight.sight import PortSight, Sight
from nfproxy.model.addresses import Family, format_address
from nfproxy.model.endpoints import Endpoint, EndpointSlice
from nfproxy.model.nodeconfig import ServiceLimits
from nfproxy.model.service import ObjectName, Service, ServicePort
from nfproxy.nft.chains import Policy, Shape
from nfproxy.plan.frontends import Frontend
from nfproxy.plan.limits import may_exceed

_COUNTED = (Severity.FAIL, Severity.WARN)

# Members of enums, looked up once: a list asks for them 10,000 times.
_WORKS, _LOCAL = Conclusion.WORKS, Policy.LOCAL


class ServiceRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """
    One service port on one node, all its families together.

    `port` is the port's name, `number` its number. `addresses` are those of all its frontends.
    `used` and `all` count endpoints of the worst family. `because` is the worst finding in a few
    words, "" for none, and `codes` are those of all. `level` is the worst level, None for none.
    `in_force` says whether the kernel has its last version, `since` since when (RFC 3339), `error`
    why it has not; each is None or "" where that is unknown. `refused` are connections to those of
    its frontends that refuse or drop all; `busiest` is the endpoint with most open connections, and
    their number.
    """

    namespace: str
    name: str
    port: str
    protocol: str
    number: int
    node_port: int = 0
    addresses: tuple[str, ...] = ()
    conclusion: Conclusion = msgspec.field(name="verdict")
    used: int = 0
    all: int = 0
    because: str = ""
    codes: tuple[Code, ...] = ()
    level: Severity | None = None
    in_force: bool | None = None
    since: str = ""
    error: str = ""
    new_connections: int | None = None
    open: int | None = None
    unanswered: int | None = None
    refused: int | None = None
    busiest: str = ""

    @property
    def label(self) -> str:
        """The Service port as people write it: ``shop/web:http``."""
        return f"{self.namespace}/{self.name}" + (f":{self.port}" if self.port else "")

    @property
    def is_problem(self) -> bool:
        """Whether an operator should look; what is intended is no problem."""
        return self.level in _COUNTED

    @property
    def is_notable(self) -> bool:
        """Whether it belongs on a list of problems: also what answers some clients only."""
        return self.is_problem or self.conclusion is not Conclusion.WORKS


class LastVersion(NamedTuple):
    """Whether the kernel has a Service's last version, None for unknown; since when, or why not."""

    is_held: bool | None = None
    since: str = ""
    error: str = ""


def _unknown(_: ObjectName) -> LastVersion:
    return LastVersion()


class Overview(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    The Service ports of a node. `findings` are about the node itself.

    `services` may be a part, `total` is how many there are, and `problems` how many have one.
    """

    api_version: str = API_VERSION
    kind: str = "ServiceOverview"
    seen: Seen = Seen()
    findings: tuple[Diagnosis, ...] = ()
    services: tuple[ServiceRow, ...] = ()
    total: int = 0
    problems: int = 0


def service_rows(
    sight: Sight,
    names: Iterable[ObjectName] | None = None,
    in_force: Callable[[ObjectName], LastVersion] = _unknown,
) -> Iterator[ServiceRow]:
    """Yield the rows of some Services, of all without `names`, in their order."""
    known = sight.planner.services
    lost = {name for name in sight.details.services if name not in known}
    for name in sorted({*known, *lost}) if names is None else names:
        service = known.get(name)
        if service is not None:
            yield from _rows(sight, service, in_force(name))
        elif causes := list(invalid_fields(sight, name)):
            yield _without_ports(name, causes, in_force(name))


def overview(sight: Sight, rows: Iterable[ServiceRow]) -> Overview:
    """Return some rows with what is wrong with the node, each finding once."""
    listed = tuple(rows)
    services = sight.planner.services
    return Overview(
        seen=Seen(node=sight.config.node_name),
        findings=in_order(
            msgspec.structs.replace(one, service="")
            for service in list(services.values())[:1]
            for one in node_causes(sight, service)
        ),
        services=listed,
        total=len(listed),
        problems=sum(row.is_problem for row in listed),
    )


def _without_ports(name: ObjectName, causes: list[Diagnosis], in_force: LastVersion) -> ServiceRow:
    """Return the row of a Service of which no port, or nothing at all, can be used."""
    return ServiceRow(
        namespace=name.namespace,
        name=name.name,
        port="",
        protocol="",
        number=0,
        conclusion=Conclusion.UNKNOWN,
        **_words(causes) | _progress(in_force),
    )


def _rows(sight: Sight, service: Service, in_force: LastVersion) -> Iterator[ServiceRow]:
    name = service.name
    whole = [*frontend_causes(sight, service)]
    if sight.problems:
        whole += invalid_fields(sight, name)
    whole += awaited_balancer(sight, name)
    if in_force.error:
        text = f"the kernel does not have its last version: {in_force.error}"
        whole.append(Diagnosis(Severity.FAIL, Code.NOT_PROGRAMMED, text, service=str(name)))
    families = service.families
    frontends = _by_port(sight, service, families)
    if not service.ports:
        yield _without_ports(name, whole, in_force)
    for port in service.ports:
        own = [frontends.get((f, port.protocol, port.name), ()) for f in families]
        state = _plain_state(sight, service, port, families, own)
        state = state or _state(sight, service, port, families, own)
        yield ServiceRow(
            namespace=name.namespace,
            name=name.name,
            port=port.name,
            protocol=port.protocol.name,
            number=port.port,
            node_port=port.node_port,
            addresses=tuple(
                [
                    format_address(frontend.key.address)
                    for some in own
                    for frontend in some
                    if frontend.key.address
                ]
            ),
            conclusion=state.conclusion,
            used=state.used,
            all=state.all,
            **(_words([*state.causes, *whole]) | _progress(in_force)),
        )


class _State(NamedTuple):
    """What a service port's endpoints come to, in all its families."""

    conclusion: Conclusion
    used: int
    all: int
    causes: Sequence[Diagnosis] = ()


def _plain_state(
    sight: Sight,
    service: Service,
    port: ServicePort,
    families: Sequence[Family],
    frontends: Sequence[Sequence[Frontend]],
) -> _State | None:
    """Return the state of a port that plainly works, None where it takes a closer look."""
    slices, limits = sight.planner.slices_of(service.name), sight.config.limits
    least: int | None = None
    for family, some in zip(families, frontends, strict=True):
        count = plain_count(service, port, family, slices, limits)
        if not (count and _all_work(sight, some)):
            return None
        least = count if least is None else min(least, count)
    return None if least is None else _State(_WORKS, least, least)


def _state(
    sight: Sight,
    service: Service,
    port: ServicePort,
    families: Sequence[Family],
    frontends: Sequence[Sequence[Frontend]],
) -> _State:
    own = [PortSight(sight, service, port, family) for family in families]
    verdicts = [
        Conclusion.WORKS if _all_work(sight, some) else conclusion_of(frontend_rows(one))
        for one, some in zip(own, frontends, strict=True)
    ]
    shown = own[verdicts.index(worst_conclusion(verdicts))]
    return _State(
        together(verdicts),
        len({*shown.chosen.cluster, *shown.chosen.local}),
        _all_endpoints(shown),
        [cause for one in own for cause in endpoint_causes(one)],
    )


def _by_port(
    sight: Sight, service: Service, families: Sequence[Family]
) -> Mapping[tuple[object, ...], Sequence[Frontend]]:
    plan = sight.planner.desired.plan_of(service.name)
    if plan is not None and len(service.ports) == len(families) == 1:
        return {(families[0], service.ports[0].protocol, service.ports[0].name): plan.frontends}
    found: dict[tuple[object, ...], list[Frontend]] = {}
    for frontend in plan.frontends if plan else ():
        key = (frontend.key.family, frontend.key.protocol, frontend.claim.port_name)
        found.setdefault(key, []).append(frontend)
    return found


def _all_work(sight: Sight, frontends: Sequence[Frontend]) -> bool:
    """Return whether frontends are there, and all answer all clients: seen without their rows."""
    held = sight.planner.desired.frontends
    for frontend in frontends:
        shape = frontend.chains[0] if frontend.chains else None
        if not isinstance(shape, Shape) or shape.policy is _LOCAL:
            return False
        if held.get(frontend.key) is not frontend:
            return False
    return bool(frontends)


def _all_endpoints(port: PortSight) -> int:
    return len(port.found) or sum(len(piece.endpoints) for piece in port.own_slices)


def _words(causes: list[Diagnosis]) -> dict[str, Any]:
    """Return the fields of a row that its findings decide."""
    if not causes:
        return {}
    ordered = in_order(causes)
    return {
        "because": ordered[0].brief,
        "codes": tuple(dict.fromkeys(one.code for one in ordered)),
        "level": worst(ordered),
    }


def _progress(state: LastVersion) -> dict[str, Any]:
    """Return the fields that the kernel decides; an error there comes before other reasons."""
    found = {"in_force": state.is_held, "since": state.since, "error": state.error}
    return found | {"because": f"not in force: {state.error}"} if state.error else found


# --- ports that plainly work: nearly all, and a list of 10,000 must not take long ---------------


def plain_count(
    service: Service,
    port: ServicePort,
    family: Family,
    slices: Sequence[EndpointSlice],
    limits: ServiceLimits,
) -> int | None:
    """
    Return how many endpoints a port has in a family, where all are used alike by all clients.

    None where that takes a closer look: policies, topology hints, several slices, endpoints that
    are not ready, limits.
    """
    if service.internal_local or service.external_local:
        return None
    own = [piece for piece in slices if piece.family is family]
    if len(own) != 1 or _ports_of(own[0], port) != 1 or not _are_plain(own[0].kinds):
        return None
    (piece,) = own
    size, addresses = family.size, piece.addresses
    count = len(addresses) // size
    different = {addresses[at : at + size] for at in range(0, count * size, size)}
    is_plain = len(different) == count and not may_exceed(service, count, limits)
    return count if is_plain else None


def _are_plain(kinds: tuple[Endpoint, ...]) -> bool:
    """Return whether endpoints are used alike. A loop: a list looks at 100,000 endpoints."""
    for kind in kinds:
        if not kind.ready or kind.terminating or kind.zone_hints or kind.node_hints:
            return False
    return True


def _ports_of(piece: EndpointSlice, port: ServicePort) -> int:
    return [(one.name, one.protocol) for one in piece.ports].count((port.name, port.protocol))
