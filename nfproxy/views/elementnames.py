"""What elements of our tables are to an operator: which part of which Service, for the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.plan.desired import Desired
from nfproxy.plan.frontends import FrontendKey
from nfproxy.text import plural
from nfproxy.views.compare import service_port

#: An element: its family, set or map, and key.
Place = tuple[Family, str, bytes]

_SLOT_PROTOCOLS = {
    name: protocol
    for maps in (schema.ENDPOINTS, schema.NODE_PORT_ENDPOINTS)
    for protocol, name in maps.items()
}
_MOST_NAMED = 3


class NamedElements(NamedTuple):
    """
    Some elements in words: ``slot 1 of shop/web:http``, ``5 elements of shop/web:http``.

    `services` are all service ports that they belong to, and `frontends` theirs; both are () where
    one of the elements belongs to no known Service.
    """

    text: str = ""
    services: tuple[str, ...] = ()
    frontends: tuple[str, ...] = ()


def name_elements(desired: Desired | None, elements: Sequence[Place]) -> NamedElements:
    """Name elements. Those of no known Service are named by their set."""
    slots, services, others = [], dict[str, int](), dict[str, int]()
    frontends = dict[str, None]()
    for family, name, key in elements:
        frontend, slot = _frontend_of(family, name, key)
        found = desired.frontends.get(frontend) if desired and frontend else None
        if found is None:
            others[name] = others.get(name, 0) + 1
            continue
        port = service_port(found.claim)
        services[port] = services.get(port, 0) + 1
        frontends[str(frontend)] = None
        slots.append(f"slot {slot}" if slot is not None else str(frontend))
    known = ((), ()) if others else (tuple(services), tuple(frontends))
    if len(elements) == 1 and services:
        return NamedElements(f"{slots[0]} of {next(iter(services))}", *known)
    parts = [f"{plural(count, 'element')} of {port}" for port, count in services.items()]
    parts += [f"{plural(count, 'element')} of {name}" for name, count in others.items()]
    return NamedElements(_listed(parts), *known)


def _listed(parts: Sequence[str]) -> str:
    shown, more = parts[:_MOST_NAMED], len(parts) - _MOST_NAMED
    return ", ".join(shown) + (f" and of {more} more" if more > 0 else "")


def _frontend_of(family: Family, name: str, key: bytes) -> tuple[FrontendKey | None, int | None]:
    """Return the frontend that an element belongs to, and its slot; None for no frontend."""
    protocol = _SLOT_PROTOCOLS.get(name)
    if protocol is None:
        is_verdict = name in schema.SCHEMAS and schema.SCHEMAS[name].verdicts
        where = schema.NODE_PORTS if len(key) == 8 else schema.FRONTENDS
        return (FrontendKey.of_element(family, where, key) if is_verdict else None), None
    size = family.size if name == schema.ENDPOINTS[protocol] else 0
    if len(key) != size + 8:
        return None, None
    port, slot = schema.port_of(key, size), schema.number_of(key, size + 4)
    return FrontendKey(family, key[:size], protocol, port), slot
