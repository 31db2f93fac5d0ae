"""
Reads what the kernel holds of some frontends, element by element: the cost is that of their slots.

`read_held` never lists a whole map of frontends or endpoints; `find_frontends` does, for a question
that no object answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from nfproxy.dataplane.ourtables import our_tables
from nfproxy.errors import DataplaneError
from nfproxy.insight.nodefacts import HeldState, Received
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.elements import Listed, listed_elements, raw_elements
from nfproxy.netlink.messages import generic
from nfproxy.netlink.nftables import GET_GENERATION, SUBSYSTEM, generation
from nfproxy.netlink.sockets import ABSENT, NftSocket
from nfproxy.nft import schema
from nfproxy.nft.chains import NO_LOCAL, REJECT, FindChain, shape_of
from nfproxy.nft.endpointnumbers import endpoint_number
from nfproxy.nft.schema import CLUSTER_BASE, Value, Verdict
from nfproxy.nft.stages import FamilyTables
from nfproxy.plan.desired import Desired
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import (
    NO_SLOTS,
    AffinityListKey,
    Frontend,
    FrontendKey,
    ListKey,
    SlotRanges,
    balancing_verdict,
)
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.transition import (
    ElementKey,
    drawn_counts,
    slot_map,
    slot_prefix,
    verdict_map,
)

#: The most slots of one range that are read.
_MOST_SLOTS = 65_536

_TRIES = 3


def read_held(netlink: NftSocket, desired: Desired, keys: Collection[FrontendKey]) -> HeldState:
    """
    Return what the kernel holds of some frontends, and of what they lead to.

    Reads again where the tables change meanwhile: a few times, then takes what is there. Raises
    DataplaneError.
    """
    reader = _HeldReader(netlink, desired)
    for _ in range(_TRIES):
        before = _generation(netlink)
        held = reader.read(keys)
        if _generation(netlink) == before:
            break
    return held


def find_frontends(
    netlink: NftSocket, *, address: bytes = b"", port: int = 0, comment: str = ""
) -> list[FrontendKey]:
    """
    Return the frontends in the kernel at an address and port, or with a comment.

    `port` 0 is any port; without an address only node ports match. `comment` is that of a Service,
    with or without the name of a port. Raises DataplaneError.
    """
    found = []
    for family, table in _serving(our_tables(netlink)).items():
        for name in schema.COUNTED:
            for listed in _list(netlink, family, table, name):
                key = FrontendKey.of_element(family, name, listed.key)
                if key is None:
                    continue
                if comment:
                    is_asked = comment in (listed.comment, listed.comment.partition(":")[0])
                else:
                    is_asked = key.address == address and port in (0, key.port)
                if is_asked:
                    found.append(key)
    return sorted(found)


def read_counters(netlink: NftSocket) -> dict[FrontendKey, Received]:
    """Return what each frontend has received. Raises DataplaneError."""
    found: dict[FrontendKey, Received] = {}
    for family, table in _serving(our_tables(netlink)).items():
        for name in schema.COUNTED:
            for listed in _list(netlink, family, table, name):
                key = FrontendKey.of_element(family, name, listed.key)
                if key is not None:
                    is_refused = listed.value in (REJECT, NO_LOCAL)
                    found[key] = Received(listed.packets, is_refused=is_refused)
    return found


def _serving(found: Mapping[Family, FamilyTables]) -> dict[Family, str]:
    """Return the table that packets come to, of families where it can be read."""
    return {
        family: one.serving for family, one in found.items() if one.serving not in one.other_layout
    }


def _generation(netlink: NftSocket) -> int:
    """Return the low bits of the ruleset's generation: every transaction adds one."""
    kind = SUBSYSTEM << 8 | GET_GENERATION
    (answer,) = netlink.ask_each(kind, [generic(0)], "the generation of the ruleset")
    return generation(answer) if isinstance(answer, bytes) else 0


def _list(netlink: NftSocket, family: Family, table: str, name: str) -> Iterator[Listed]:
    try:
        messages = netlink.elements(family, table, name)
    except DataplaneError as error:
        if error.code != ABSENT:
            raise
        return
    for data in messages:
        yield from listed_elements(data)


class _HeldReader:
    """Reads once."""

    def __init__(self, netlink: NftSocket, desired: Desired) -> None:
        self._netlink = netlink
        self._desired = desired

    def read(self, keys: Collection[FrontendKey]) -> HeldState:
        """Read frontends first, then the slots that their verdicts and the objects ask for."""
        self._found: dict[tuple[Family, str], dict[bytes, Value]] = {}
        self._counts: dict[FrontendKey, int] = {}
        self._comments: dict[FrontendKey, str] = {}
        ours = our_tables(self._netlink)
        self._tables = _serving(ours)
        asked = [key for key in keys if key.family in self._tables]
        own = self._read_frontends(asked)
        slots: dict[tuple[Family, str], list[bytes]] = {}
        lists: dict[ListKey, SlotRanges] = {}
        for key in asked:
            wanted = self._desired.frontends.get(key)
            verdict = balancing_verdict(key, self._verdict(key), own[key])
            shape = shape_of(verdict)
            if wanted is not None and wanted.list is not None:
                lists[wanted.list] = self._desired.lists.get(wanted.list, NO_SLOTS)
            if shape is not None and shape.list:
                number = schema.number64_bytes(shape.list)
                lists.setdefault(ListKey(key.family, shape.protocol, number), NO_SLOTS)
            own_slots = wanted.own_slots if wanted else NO_SLOTS
            drawn = drawn_counts(verdict)
            counts = max(drawn[0], len(own_slots[0])), max(drawn[1], len(own_slots[1]))
            prefix = slot_prefix(key)
            slots.setdefault((key.family, slot_map(key)), []).extend(_slot_keys(prefix, counts))
        for listed, wanted_slots in lists.items():
            # One more than wanted: a list that is longer than it should be differs.
            sizes = (len(wanted_slots[0]) + 1, len(wanted_slots[1]) + 1)
            slots.setdefault((listed.family, listed.map), []).extend(
                _slot_keys(listed.number, sizes)
            )
        for family, name, more in self._other_elements(asked):
            slots.setdefault((family, name), []).append(more)
        for (family, name), wanted_keys in slots.items():
            self._find(family, name, wanted_keys)
        observed = observe(
            lambda family, name: self._found.get((family, name), {}).items(), sorted(self._tables)
        )
        remembered = self._remembered(asked)
        return HeldState(
            frozenset(family for family, one in ours.items() if one.serving in one.there),
            observed,
            self._counts,
            self._comments,
            remembered,
            dormant=frozenset(f for f, one in ours.items() if one.serving in one.dormant),
            other_layout=frozenset(ours) - self._tables.keys(),
            second={f: one for f, one in ours.items() if schema.NEXT_TABLE in one.there},
        )

    def _find(self, family: Family, name: str, keys: Iterable[bytes]) -> list[Listed]:
        found = self._netlink.find_elements(
            family, name, list(dict.fromkeys(keys)), self._tables[family]
        )
        self._found.setdefault((family, name), {}).update((e.key, e.value) for e in found)
        return found

    def _verdict(self, key: FrontendKey) -> Verdict | None:
        found = self._found.get((key.family, verdict_map(key)), {}).get(key.element_key)
        return found if isinstance(found, Verdict) else None

    def _read_frontends(
        self, keys: Collection[FrontendKey]
    ) -> dict[FrontendKey, dict[ElementKey, Value]]:
        """Read the elements with a frontend's key; return those but its verdict."""
        own: dict[FrontendKey, dict[ElementKey, Value]] = {key: {} for key in keys}
        for family in FAMILIES:
            for is_address in (True, False):
                some = [k for k in keys if k.family is family and bool(k.address) == is_address]
                by_element = {key.element_key: key for key in some}
                for name in _FRONTEND_MAPS[is_address] if some else ():
                    for listed in self._find(family, name, by_element):
                        key = by_element[listed.key]
                        if name in schema.COUNTED:
                            self._counts[key] = listed.packets
                            self._comments[key] = listed.comment
                        else:
                            own[key][name, listed.key] = listed.value
        return own

    def _other_elements(self, keys: Iterable[FrontendKey]) -> Iterator[tuple[Family, str, bytes]]:
        """Yield the elements of affinity lists, and those that frontends may share."""
        for frontend in self._wanted(keys):
            family = frontend.key.family
            for chain in frontend.chains:
                if isinstance(chain, FindChain):
                    for each in chain.lists:
                        listed = AffinityListKey(family, each.number)
                        elements = self._desired.affinity_lists.get(listed, frozenset())
                        yield from ((family, e.set, e.key) for e in elements)
            plan = self._desired.plan_of(frontend.claim.service)
            for shared in plan.shared_elements if plan else ():
                if shared.family is family:
                    yield family, shared.set, shared.key

    def _wanted(self, keys: Iterable[FrontendKey]) -> Iterator[Frontend]:
        for key in keys:
            if (wanted := self._desired.frontends.get(key)) is not None:
                yield wanted

    def _remembered(self, keys: Iterable[FrontendKey]) -> dict[Destination, int]:
        counts: dict[Destination, int] = {}
        maps: dict[tuple[Family, str], set[Destination]] = {}
        for frontend in self._wanted(keys):
            for chain in frontend.chains:
                for each in chain.lists if isinstance(chain, FindChain) else ():
                    ends = maps.setdefault((frontend.key.family, each.name), set())
                    ends.update(*frontend.slot_ranges)
        for (family, name), ends in maps.items():
            numbers = {endpoint_number(destination): destination for destination in ends}
            try:
                messages = self._netlink.elements(family, self._tables[family], name)
            except DataplaneError as error:
                if error.code != ABSENT:
                    raise
                continue
            for data in messages:
                for _, value, _, _ in raw_elements(data):
                    if isinstance(value, bytes) and len(value) == 4:
                        end = numbers.get(schema.number_of(value, 0))
                        if end is not None:
                            counts[end] = counts.get(end, 0) + 1
        return counts


#: The maps with a frontend's key: those of addresses, and those of node ports.
_FRONTEND_MAPS = {
    True: (
        schema.FRONTENDS,
        schema.GUARDED_FRONTENDS,
        schema.STICKY_FRONTENDS,
        *schema.RECORD_FRONTENDS.values(),
    ),
    False: (schema.NODE_PORTS, schema.STICKY_NODE_PORTS, *schema.RECORD_NODE_PORTS.values()),
}


def _slot_keys(prefix: bytes, counts: tuple[int, int]) -> Iterator[bytes]:
    for base, count in zip((0, CLUSTER_BASE), counts, strict=True):
        for slot in range(base, base + min(count, _MOST_SLOTS)):
            yield prefix + schema.number_bytes(slot)
