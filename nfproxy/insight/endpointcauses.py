"""
Why a Service port has no endpoint, or not those that its clients would expect.

Three mistakes leave the same empty list: no slice at all, slices without the port, and slices with
the port under another name. Each has a code of its own here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from nfproxy.insight.diagnosis import Code, Diagnosis, ObjectField, Severity
from nfproxy.insight.policycauses import endpoints_there, policy_causes, service_field
from nfproxy.insight.sight import PortSight
from nfproxy.kube.details import SliceDetails, SlicePortDetails
from nfproxy.kube.identity import Kind
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import ObjectName
from nfproxy.plan.endpoints import usable
from nfproxy.text import quoted, shown_name

_LABEL = "kubernetes.io/service-name"
_MOST_NAMES = 3


def endpoint_causes(port: PortSight) -> Iterator[Diagnosis]:
    """Yield what is wrong with a service port's endpoints in its family, the cause first."""
    for one in _causes(port):
        yield msgspec.structs.replace(
            one, service=str(port.service.name), port=port.port.name, family=port.family.label
        )


def _causes(port: PortSight) -> Iterator[Diagnosis]:
    if not port.found:
        yield _nothing_found(port)
        return
    if not port.chosen.exists:
        yield _none_ready(port)
        return
    if without := _without_port(port):
        yield without
    if not usable(port.found)[1]:
        yield Diagnosis(
            Severity.WARN,
            Code.TERMINATING_ONLY,
            "only endpoints that terminate still serve; new connections go to them until they are "
            "gone",
            because=(_counts(port),),
            look=(_pods(port),),
            brief="only terminating endpoints",
        )
    yield from policy_causes(port)


# --- no endpoint has the port ------------------------------------------------------------------


def _nothing_found(port: PortSight) -> Diagnosis:
    """Return why no endpoint has the port."""
    if not port.slices:
        return _no_slices(port)
    pieces = port.own_slices
    if not pieces:
        others = port.slices[0].family.label
        count = sum(len(piece.endpoints) for piece in port.slices)
        there = f"{endpoints_there(count)}, all of {others}," if count else "no endpoint is there,"
        return Diagnosis(
            Severity.FAIL,
            Code.FAMILY_NOT_SERVED,
            f"{there} and this cluster IP is of {port.family.label}",
            because=(
                *_invalid(port, port.slices),
                f"no EndpointSlice of addressType {port.family.label} belongs to it",
            ),
            look=(_slices(port), _pods(port)),
            about=service_field(port, "spec.ipFamilies"),
            brief=f"no {port.family.label} endpoint",
        )
    if not any(piece.endpoints for piece in pieces):
        invalid = _invalid(port, pieces)
        return Diagnosis(
            Severity.FAIL,
            Code.NO_ENDPOINTS,
            f"{_named(pieces)} belongs to it and has no endpoint"
            + ("" if invalid else ": its selector selects no pod that has an address"),
            because=(*invalid, *_selector(port)),
            look=(_pods(port),),
            about=_slice_field(pieces[0], "endpoints"),
            brief="no endpoint in its slices",
        )
    return _no_such_port(port, pieces)


def _invalid(port: PortSight, pieces: Sequence[EndpointSlice]) -> list[str]:
    """Return what is wrong with fields of slices."""
    return [
        f"{problem.field}: {problem.what}"
        for piece in pieces
        for problem in port.sight.problems_of(Kind.ENDPOINT_SLICE, piece.name)
    ]


def _no_slices(port: PortSight) -> Diagnosis:
    name = port.service.name
    because = list(_selector(port))
    if near := _near_slices(port):
        because.append(near)
    return Diagnosis(
        Severity.FAIL,
        Code.NO_SLICES,
        f"no EndpointSlice belongs to it (label {_LABEL}={name.name})",
        because=tuple(because),
        look=(f"kubectl -n {name.namespace} get endpointslices --show-labels", _pods(port)),
        about=service_field(port, "spec.selector"),
        brief="no EndpointSlice",
    )


def _near_slices(port: PortSight) -> str:
    """Return which slice looks like this Service's and belongs to none, "" where none does."""
    name = port.service.name
    services = port.sight.planner.services
    for key, piece in sorted(port.sight.details.slices.items()):
        if piece.unused and ObjectName(key.namespace, piece.service) == name:
            return f"EndpointSlice {key} is there, and no proxy uses it: {piece.unused}"
        if piece.service and ObjectName(key.namespace, piece.service) in services:
            continue
        if key.namespace == name.namespace and key.name.startswith(f"{name.name}-"):
            label = f"says {quoted(piece.service)}" if piece.service else "is missing"
            return f"EndpointSlice {key} is there; its label {_LABEL} {label}"
        if piece.service == name.name:
            return f"EndpointSlice {key} names a Service {name.name}; it is in another namespace"
    return ""


def _no_such_port(port: PortSight, pieces: Sequence[EndpointSlice]) -> Diagnosis:
    """Return how slices with endpoints and without the port differ from the Service."""
    count = sum(len(piece.endpoints) for piece in pieces)
    own = port.port.name
    listed = _listed_ports(port, pieces)
    about = _slice_field(pieces[0], "ports")
    if words := [one for one in listed if one.name == own and one.protocol != _protocol(port)]:
        return Diagnosis(
            Severity.FAIL,
            Code.PORT_PROTOCOL_DIFFERS,
            f"{endpoints_there(count)}; their {'port ' + quoted(own) if own else 'port'} is "
            f"{shown_name(words[0].protocol)}, the Service's {_protocol(port)}",
            look=(_slices(port),),
            about=msgspec.structs.replace(about, field="ports[].protocol"),
            brief=f"slice's port is {shown_name(words[0].protocol)}, not {_protocol(port)}",
        )
    known = {one.name for one in port.service.ports}
    strange = sorted({one.name for one in listed if one.port and one.name not in known})
    if strange:
        called = " and ".join(map(quoted, strange[:_MOST_NAMES]))
        return Diagnosis(
            Severity.FAIL,
            Code.PORT_NAME_DIFFERS,
            f"{endpoints_there(count)}; their port is named {called}, the Service's "
            f"{quoted(own) if own else 'has no name'}",
            look=(_slices(port),),
            about=msgspec.structs.replace(about, field="ports[].name"),
            brief=f"slice's port is {called}, not {quoted(own) if own else 'unnamed'}",
        )
    return _port_not_in(port, pieces, count, Severity.FAIL, f"none has {_port_word(own)}")


def _without_port(port: PortSight) -> Diagnosis | None:
    """Return that some endpoints have the port and others do not."""
    have = {destination[: port.family.size] for destination in port.found}
    lacking = [
        piece
        for piece in port.own_slices
        if any(endpoint.ready and endpoint.address not in have for endpoint in piece.endpoints)
    ]
    count = sum(e.address not in have for piece in lacking for e in piece.endpoints if e.ready)
    if not count:
        return None
    verb = "has" if count == 1 else "have"
    return _port_not_in(
        port,
        lacking,
        len(have),
        Severity.WARN,
        f"{count} more {verb} no {_port_word(port.port.name).removeprefix('a ')}",
    )


def _port_not_in(
    port: PortSight, pieces: Sequence[EndpointSlice], count: int, level: Severity, what: str
) -> Diagnosis:
    name = port.service.name
    target = port.sight.details_of(name).target_ports.get(port.port.name, "")
    is_named = bool(target) and not target.isdigit()
    why = f": no container port of theirs is named {quoted(target)}" if is_named else ""
    index = port.service.ports.index(port.port)
    because = [f"Service: spec.ports[{index}].targetPort is {quoted(target)}"] if target else []
    ports = sorted({one.name for one in _listed_ports(port, pieces) if one.port})
    has = "ports " + ", ".join(map(quoted, ports[:_MOST_NAMES])) if ports else "no ports"
    because.append(f"{_named(pieces)} has {has}")
    return Diagnosis(
        level,
        Code.PORT_NOT_IN_SLICES,
        f"{endpoints_there(count)}, {what}{why}",
        because=tuple(because),
        look=(
            f"kubectl -n {name.namespace} get pods -o custom-columns="
            "NAME:.metadata.name,PORTS:.spec.containers[*].ports[*].name",
        ),
        about=_slice_field(pieces[0], "ports"),
        brief=f"no container port named {quoted(target)}" if is_named else "slices lack the port",
    )


def _listed_ports(port: PortSight, pieces: Sequence[EndpointSlice]) -> tuple[SlicePortDetails, ...]:
    """Return the ports of slices, also those without a number where details are known."""
    listed: dict[SlicePortDetails, None] = {}
    for piece in pieces:
        details = port.sight.details.slices.get(piece.name, SliceDetails(piece.name))
        known = [SlicePortDetails(one.name, one.protocol.name, one.port) for one in piece.ports]
        listed |= dict.fromkeys((*known, *details.ports))
    return tuple(listed)


# --- endpoints have the port -------------------------------------------------------------------


def _none_ready(port: PortSight) -> Diagnosis:
    count = len(port.found)
    gone = sum(endpoint.terminating for endpoint in port.found.values())
    what = (
        f"{endpoints_there(count)}, none is ready"
        if count > gone
        else (f"{endpoints_there(count)}, all terminate and no longer serve")
    )
    return Diagnosis(
        Severity.FAIL,
        Code.NONE_READY,
        what,
        because=(_counts(port),) if gone and count > gone else (),
        look=(_pods(port), f"kubectl -n {port.service.name.namespace} describe pod POD"),
        about=_slice_field(port.own_slices[0], "endpoints[].conditions"),
        brief=f"{count} not ready" if count > gone else f"{count} terminating",
    )


def _counts(port: PortSight) -> str:
    """Return how many endpoints are in which state."""
    found = port.found.values()
    serving = sum(e.terminating and e.serving for e in found)
    ended = sum(e.terminating and not e.serving for e in found)
    waiting = sum(not e.ready and not e.terminating for e in found)
    parts = (
        (serving, "terminating and still serving"),
        (ended, "terminating and no longer serving"),
        (waiting, "not ready"),
    )
    return ", ".join(f"{count} {word}" for count, word in parts if count)


# --- words -------------------------------------------------------------------------------------


def _port_word(name: str) -> str:
    return f"port {quoted(name)}" if name else "a port without a name"


def _protocol(port: PortSight) -> str:
    return port.port.protocol.name


def _named(pieces: Sequence[EndpointSlice]) -> str:
    first = f"EndpointSlice {shown_name(pieces[0].name.name)}"
    return first if len(pieces) == 1 else f"{first}, as each of {len(pieces)},"


def _selector(port: PortSight) -> tuple[str, ...]:
    """Return what the Service selects, where that is known."""
    details = port.sight.details_of(port.service.name)
    if not details.type:
        return ()
    if not details.selector:
        return ("the Service has no selector: who made it has to write its EndpointSlices",)
    return (f"Service: spec.selector is {quoted(details.selector, 120)}",)


def _pods(port: PortSight) -> str:
    name = port.service.name
    selector = port.sight.details_of(name).selector
    plain = selector and all(c.isascii() and (c.isalnum() or c in "-._/=,") for c in selector)
    chosen = f" -l {selector}" if plain else ""
    return f"kubectl -n {name.namespace} get pods{chosen} -o wide"


def _slices(port: PortSight) -> str:
    name = port.service.name
    return f"kubectl -n {name.namespace} get endpointslices -l {_LABEL}={name.name} -o yaml"


def _slice_field(piece: EndpointSlice, field: str) -> ObjectField:
    return ObjectField("EndpointSlice", *piece.name, field)
