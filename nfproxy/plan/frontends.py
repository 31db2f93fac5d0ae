"""What Services ask for, as values: frontends, their endpoints, and the elements they need."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from nfproxy.model.addresses import Family, format_address
from nfproxy.model.service import Claim, ObjectName, Protocol
from nfproxy.nft import schema
from nfproxy.nft.chains import Chain, is_guard
from nfproxy.nft.schema import Value, Verdict
from nfproxy.plan.endpoints import Destination


class FrontendKind(enum.StrEnum):
    """Which of a Service's addresses a frontend is."""

    CLUSTER_IP = "clusterIP"
    LOAD_BALANCER_IP = "loadBalancerIP"
    EXTERNAL_IP = "externalIP"
    NODE_PORT = "nodePort"

    @property
    def field(self) -> str:
        """The Service's field that asks for it."""
        return _FIELDS[self]


_FIELDS = {
    FrontendKind.CLUSTER_IP: "spec.clusterIPs",
    FrontendKind.LOAD_BALANCER_IP: "status.loadBalancer.ingress",
    FrontendKind.EXTERNAL_IP: "spec.externalIPs",
    FrontendKind.NODE_PORT: "spec.ports[].nodePort",
}


class FrontendKey(NamedTuple):
    """Where clients connect to. `address` is packed, b"" for a node port."""

    family: Family
    address: bytes
    protocol: Protocol
    port: int

    @classmethod
    def of_element(cls, family: Family, name: str, element_key: bytes) -> FrontendKey | None:
        """Return the frontend of an element of map `name`; None for a key nfproxy does not make."""
        size = family.size if name == schema.FRONTENDS else 0
        tail = _protocol_and_port(element_key[size:])
        return cls(family, element_key[:size], *tail) if tail else None

    @property
    def element_key(self) -> bytes:
        """The key of its element in map ``frontends`` or ``node-ports``."""
        protocol = schema.protocol_bytes(self.protocol)
        return self.address + protocol + schema.port_bytes(self.port)

    def __str__(self) -> str:
        """Return ``10.96.0.1:80/tcp``, or ``node port 30080/tcp (IPv4)``."""
        return self.place if self.address else f"{self.place} ({self.family.label})"

    @property
    def place(self) -> str:
        """The same without the family, for a place that names it."""
        tail = f"{self.port}/{self.protocol.word}"
        if not self.address:
            return f"node port {tail}"
        text = format_address(self.address)
        return f"[{text}]:{tail}" if self.family is Family.IPV6 else f"{text}:{tail}"


@functools.lru_cache(4096)
def _protocol_and_port(packed: bytes) -> tuple[Protocol, int] | None:
    """Return what the end of an element's key says; None where nfproxy makes no such key."""
    if len(packed) != 8:
        return None
    try:
        protocol, port = Protocol(packed[0]), schema.port_of(packed, 4)
    except ValueError:
        return None
    is_ours = packed == schema.protocol_bytes(protocol) + schema.port_bytes(port)
    return (protocol, port) if is_ours else None


class Element(NamedTuple):
    """One element of a set or map; `value` is None in a set."""

    set: str
    key: bytes
    value: Value = None


#: Slots from 0, and slots from CLUSTER_BASE (see rulesets/shape.nft.j2).
SlotRanges = tuple[Sequence[Destination], Sequence[Destination]]

NO_SLOTS: SlotRanges = ((), ())


class ListKey(NamedTuple):
    """Names the list of endpoints that frontends of one service port share in one family."""

    family: Family
    protocol: Protocol
    number: bytes

    @property
    def map(self) -> str:
        """The map that has its endpoints."""
        return schema.map_of(schema.LIST_ENDPOINTS[self.protocol], self.number)

    def __str__(self) -> str:
        """Return ``list 0123456789abcdef/tcp (IPv4)``."""
        high, low = (schema.number_of(self.number, at) for at in (0, 4))
        return f"list {high:08x}{low:08x}/{self.protocol.word} ({self.family.label})"


NO_LISTS: Mapping[ListKey, SlotRanges] = {}


class Frontend(msgspec.Struct, frozen=True):
    """
    One frontend as it should be.

    `verdict` is its value in the map ``frontends`` or ``node-ports``. `slot_ranges` are its
    endpoints: those in slots from 0, and those in slots from CLUSTER_BASE, which only policy Local
    uses. `own_elements` are further elements of this frontend alone (affinity, behind a guard).
    `chains` are the chains its elements point to. `list` names the list that has the slots, where
    several frontends share one; None where the slots are the frontend's own.
    """

    key: FrontendKey
    kind: FrontendKind
    claim: Claim
    verdict: Verdict
    slot_ranges: SlotRanges = NO_SLOTS
    own_elements: tuple[Element, ...] = ()
    chains: tuple[Chain, ...] = ()
    list: ListKey | None = None

    @property
    def own_slots(self) -> SlotRanges:
        """The endpoints in slots of its own."""
        return NO_SLOTS if self.list else self.slot_ranges

    @property
    def answer(self) -> Verdict:
        """What it does with a connection that passes its guard, if it has one."""
        own_elements = {(e.set, e.key): e.value for e in self.own_elements}
        return balancing_verdict(self.key, self.verdict, own_elements) or self.verdict

    @property
    def precedence(self) -> tuple[bool, Claim]:
        """
        What decides between claims to one frontend: the least one gets it.

        A cluster IP comes first, whatever the ages: it is allocated, and users choose the others.
        """
        return self.kind is not FrontendKind.CLUSTER_IP, self.claim


class RefusedFrontend(NamedTuple):
    """A frontend that a Service asks for and must not have, and why."""

    key: FrontendKey
    kind: FrontendKind
    why: str


class Limited(NamedTuple):
    """
    Something that a Service has only in part, because of a limit.

    `key` is one of the frontends that are concerned, `field` the Service's field that asks for it,
    and `what` ends a sentence about the frontend.
    """

    key: FrontendKey
    field: str
    what: str


class SharedElement(NamedTuple):
    """An element that several frontends may ask for: a cluster IP, a Service's source range."""

    family: Family
    set: str
    key: bytes


def verdicts_behind(
    key: FrontendKey, first: Verdict | None, own_elements: Mapping[tuple[str, bytes], Value]
) -> dict[str, Verdict]:
    """
    Return the verdicts that packets come to after a frontend's first one, by map, in their order.

    A guard returns packets to the first map of BEHIND, a find chain to the others.
    """
    found: dict[str, Verdict] = {}
    verdict = first
    for name in schema.BEHIND:
        if verdict is None or not verdict.is_jump:
            break
        behind = own_elements.get((name, key.element_key))
        if isinstance(behind, Verdict) and is_guard(verdict) == (name == schema.GUARDED_FRONTENDS):
            verdict = found[name] = behind
    return found


def balancing_verdict(
    key: FrontendKey, first: Verdict | None, own_elements: Mapping[tuple[str, bytes], Value]
) -> Verdict | None:
    """Return a frontend's last verdict: the first may be a jump, and other maps lead on."""
    if first is None or not first.is_jump:
        return first
    return [first, *verdicts_behind(key, first, own_elements).values()][-1]


class AffinityListKey(NamedTuple):
    """Names an affinity list of one family, as the first two fields of its elements' keys."""

    family: Family
    number: bytes


#: A part of the desired state.
Part = FrontendKey | ListKey | SharedElement | AffinityListKey

NO_AFFINITY_LISTS: Mapping[AffinityListKey, frozenset[Element]] = {}


class ServicePlan(msgspec.Struct, frozen=True):
    """
    Everything one Service asks for in the kernel; another Service may have the better claim.

    `affinity_lists` maps each list to its elements: one or two for each endpoint. `lists` are the
    endpoints that several of its frontends share. `refused` are frontends that it also asks for,
    and that nfproxy does not make, `limited` is what it has only in part.
    """

    service: ObjectName
    frontends: tuple[Frontend, ...] = ()
    shared_elements: tuple[SharedElement, ...] = ()
    affinity_lists: Mapping[AffinityListKey, frozenset[Element]] = NO_AFFINITY_LISTS
    lists: Mapping[ListKey, SlotRanges] = NO_LISTS
    refused: tuple[RefusedFrontend, ...] = ()
    limited: tuple[Limited, ...] = ()
