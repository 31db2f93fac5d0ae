"""From the elements in the kernel to frontends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.nft.chains import Policy, shape_of
from nfproxy.nft.schema import CLUSTER_BASE, Field, Value, Verdict
from nfproxy.plan.endpoints import Destination, pack
from nfproxy.plan.frontends import (
    AffinityListKey,
    Element,
    FrontendKey,
    ListKey,
    Part,
    SharedElement,
    SlotRanges,
    balancing_verdict,
)
from nfproxy.reconcile.lists import ListState
from nfproxy.reconcile.transition import ABSENT, ElementKey, FrontendState, Operation

#: Sets whose elements several frontends may share.
SHARED_SETS = (
    schema.EQUAL_HASHES,
    schema.CLUSTER_IPS,
    schema.SERVICE_CIDRS,
    schema.NODE_PORT_ADDRESSES,
    schema.LOOPBACK_REJECTS,
    schema.SOURCE_RANGES,
)

_SLOT_LENGTH = 4  # in the keys of endpoints: their last field

#: Returns the (key, value) pairs of a set or map of a family's table.
ReadElements = Callable[[Family, str], Iterable[tuple[bytes, Value]]]


class Observed(msgspec.Struct):
    """
    The elements in the kernel, by frontend and list.

    `strays` are the deletions of elements that belong to none: slots after a gap, unknown
    protocols. `elements` is the number of elements that were read, by set.
    """

    frontends: dict[FrontendKey, FrontendState] = msgspec.field(default_factory=dict)
    lists: dict[ListKey, ListState] = msgspec.field(default_factory=dict)
    shared_elements: set[SharedElement] = msgspec.field(default_factory=set)
    affinity_lists: dict[AffinityListKey, frozenset[Element]] = msgspec.field(default_factory=dict)
    strays: list[Operation] = msgspec.field(default_factory=list)
    elements: Counter[tuple[Family, str]] = msgspec.field(default_factory=Counter)


def observe(read: ReadElements, families: Iterable[Family]) -> Observed:
    """Read all managed elements of each family's table, once."""
    observed = Observed()
    for family in families:
        _TableReader(read, family, observed).read()
    return observed


class _TableReader:
    """Reads one family's table."""

    def __init__(self, read: ReadElements, family: Family, into: Observed) -> None:
        self._elements = read
        self._family = family
        self._into = into
        self._verdicts: dict[FrontendKey, Verdict] = {}
        # The kernel gives the slots of all parts in no order, and there may be 250,000. So they are
        # kept as bytes until the end: slot, destination, slot, …
        self._slots: dict[FrontendKey | ListKey, bytearray] = {}
        self._destination_length = schema.length((Field.ADDRESS, Field.PORT), family)
        self._own_elements: dict[FrontendKey, dict[ElementKey, Value]] = {}
        self._affinity_lists: dict[bytes, set[Element]] = {}

    def read(self) -> None:
        """Read all sets and maps, then put their elements together by frontend."""
        for name in schema.SCHEMAS:
            size = key_length(name, self._family)
            count = 0
            for key, value in self._elements(self._family, name):
                count += 1
                # A table of another layout may have keys of any length.
                if len(key) != size or not self._take(name, key, value):
                    self._stray(name, key)
            self._into.elements[self._family, name] = count
        while self._affinity_lists:
            number, elements = self._affinity_lists.popitem()
            self._into.affinity_lists[AffinityListKey(self._family, number)] = frozenset(elements)
        for where in self._verdicts.keys() | self._slots.keys() | self._own_elements.keys():
            slots = self._slots_of(where)
            if isinstance(where, ListKey):
                self._into.lists[where] = ListState(_dense(slots))
                for slot in slots:
                    self._stray(where.map, where.number + schema.number_bytes(slot))
                continue
            self._into.frontends[where] = FrontendState(
                self._verdicts.get(where),
                self._slot_ranges(where, slots),
                self._own_elements.get(where, ABSENT.own_elements),
            )

    def _stray(self, name: str, key: bytes) -> None:
        self._into.strays.append(Operation(False, self._family, name, key))

    def _take(self, name: str, key: bytes, value: Value) -> bool:
        """Take one element; return whether it belongs anywhere."""
        part = part_of(self._family, name, key)
        if isinstance(part, SharedElement):
            self._into.shared_elements.add(part)
        elif isinstance(part, AffinityListKey):
            self._affinity_lists.setdefault(part.number, set()).add(Element(name, key, value))
        elif part is None:
            return False
        elif name in schema.COUNTED:
            if not (isinstance(part, FrontendKey) and isinstance(value, Verdict)):
                return False
            self._verdicts[part] = value
        elif isinstance(part, ListKey) or name in SLOT_MAPS:
            if not isinstance(value, bytes) or len(value) != self._destination_length:
                return False
            self._slots.setdefault(part, bytearray()).extend(key[-_SLOT_LENGTH:] + value)
        else:
            self._own_elements.setdefault(part, {})[name, key] = value
        return True

    def _slots_of(self, part: FrontendKey | ListKey) -> dict[int, Destination]:
        """Return what is in the slots of a part, once."""
        data = bytes(self._slots.pop(part, b""))
        step = _SLOT_LENGTH + self._destination_length
        return {
            schema.number_of(data, at): data[at + _SLOT_LENGTH : at + step]
            for at in range(0, len(data), step)
        }

    def _slot_ranges(self, key: FrontendKey, slots: dict[int, Destination]) -> SlotRanges:
        slot_ranges = _dense(slots)
        # More than CLUSTER_BASE endpoints of another policy reach into the second range's slots.
        if len(slot_ranges[0]) == CLUSTER_BASE and slot_ranges[1]:
            answer = balancing_verdict(
                key, self._verdicts.get(key), self._own_elements.get(key, {})
            )
            shape = shape_of(answer)
            if shape is None or shape.policy is not Policy.LOCAL:
                slot_ranges = (pack([*slot_ranges[0], *slot_ranges[1]]), ())
        maps = schema.ENDPOINTS if key.address else schema.NODE_PORT_ENDPOINTS
        prefix = key.address + schema.port_bytes(key.port)
        for slot in slots:
            self._stray(maps[key.protocol], prefix + schema.number_bytes(slot))
        return slot_ranges


def key_length(name: str, family: Family) -> int:
    """Return how long keys of a set or map are."""
    described = schema.SCHEMAS[name]
    ends = 1 if described.interval is schema.Interval.NO else 2
    return ends * schema.length(described.key, family)


def part_of(family: Family, name: str, key: bytes) -> Part | None:
    """Return the part that an element belongs to; None for a key that nfproxy does not make."""
    if name in SHARED_SETS:
        return SharedElement(family, name, key)
    if (names := _MAPS_BY_DIGIT.get(name)) and schema.map_of(names, key) != name:
        return None
    if name in _AFFINITY_LISTS:
        return AffinityListKey(family, key[:8])
    if name in _LIST_MAPS:
        return ListKey(family, _LIST_MAPS[name], key[:8])
    if name not in SLOT_MAPS:
        return FrontendKey.of_element(family, _SAME_KEYS.get(name, name), key)
    protocol, by_address = SLOT_MAPS[name]
    at = family.size if by_address else 0
    port = schema.port_of(key, at)
    if key[at : at + 4] != schema.port_bytes(port):
        return None
    return FrontendKey(family, key[:at], protocol, port)


def slot_of(key: bytes) -> int:
    """Return the slot that the key of an endpoint names: its last field."""
    return schema.number_of(key, len(key) - _SLOT_LENGTH)


def _dense(slots: dict[int, Destination]) -> SlotRanges:
    """Take the slots of both slot ranges up to the first gap out of `slots`, and return them."""
    slot_ranges: tuple[list[Destination], list[Destination]] = ([], [])
    for slot_range, base in zip(slot_ranges, (0, CLUSTER_BASE), strict=True):
        while base + len(slot_range) in slots and not (
            base == 0 and len(slot_range) == CLUSTER_BASE
        ):
            slot_range.append(slots.pop(base + len(slot_range)))
    return pack(slot_ranges[0]), pack(slot_ranges[1])


_LIST_MAPS = {name: p for p, names in schema.LIST_ENDPOINTS.items() for name in names}

#: The maps with slots of frontends: their protocol, and whether they are by address.
SLOT_MAPS = {
    **{name: (protocol, True) for protocol, name in schema.ENDPOINTS.items()},
    **{name: (protocol, False) for protocol, name in schema.NODE_PORT_ENDPOINTS.items()},
}
_AFFINITY_LISTS = {schema.AFFINITY_LOCAL}.union(*schema.AFFINITY_ENDPOINTS.values())
_MAPS_BY_DIGIT = {
    name: names
    for kind in (schema.LIST_ENDPOINTS, schema.AFFINITY_ENDPOINTS)
    for names in kind.values()
    for name in names
}

#: Maps of frontends' own elements, and the map with the same keys.
_SAME_KEYS = {
    schema.GUARDED_FRONTENDS: schema.FRONTENDS,
    schema.STICKY_FRONTENDS: schema.FRONTENDS,
    schema.STICKY_NODE_PORTS: schema.NODE_PORTS,
    **dict.fromkeys(schema.RECORD_FRONTENDS.values(), schema.FRONTENDS),
    **dict.fromkeys(schema.RECORD_NODE_PORTS.values(), schema.NODE_PORTS),
}
