"""What tables hold, so that two can be compared: slots as sets, chains by their rules."""

from collections import Counter
from typing import Protocol as Interface

from support.kernel.fake import FakeKernel
from support.kernel.real import RealKernel

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.nft import schema
from nfproxy.nft.schema import CLUSTER_BASE, Value

SLOT_MAPS = {
    *schema.ENDPOINTS.values(),
    *schema.NODE_PORT_ENDPOINTS.values(),
    *(name for names in schema.LIST_ENDPOINTS.values() for name in names),
}

Dump = dict[str, dict[bytes, Value]]
Meaning = dict[str, object]


class Readable(Interface):
    """Anything with elements."""

    def elements(self, family: Family, name: str) -> list[tuple[bytes, Value]]:
        """Return a set's elements."""


def dump(source: Readable) -> Dump:
    """Return all managed elements, slots where they are, by ``ip frontends`` and so on."""
    return {
        f"{family.table} {name}": dict(source.elements(family, name))
        for family in FAMILIES
        for name in schema.SCHEMAS
    }


def meaning(source: Readable) -> Meaning:
    """
    Return what the elements say, whatever the order of a frontend's slots.

    Slots must be dense: a gap, or one that lingers, makes a difference.
    """
    return {
        name: _slot_ranges(elements) if name.split()[1] in SLOT_MAPS else elements
        for name, elements in dump(source).items()
    }


def _slot_ranges(elements: dict[bytes, Value]) -> dict[tuple[bytes, bool], object]:
    slot_ranges: dict[tuple[bytes, bool], dict[int, Value]] = {}
    for key, value in elements.items():
        slot = schema.number_of(key, len(key) - 4)
        slot_ranges.setdefault((key[:-4], slot >= CLUSTER_BASE), {})[slot % CLUSTER_BASE] = value
    return {
        where: Counter(slots.values())
        if sorted(slots) == list(range(len(slots)))
        else f"slots {sorted(slots)}"
        for where, slots in slot_ranges.items()
    }


def program(source: FakeKernel | RealKernel) -> dict[str, dict[str, list[str]]]:
    """Return the rules of every chain, by family."""
    if isinstance(source, RealKernel):
        return {family.table: source.rules(family) for family in FAMILIES}
    return {
        family.table: source.tables[family].rules if family in source.tables else {}
        for family in FAMILIES
    }


def differences(one: Meaning, other: Meaning) -> list[str]:
    """Return what two meanings differ in, for a person."""
    return [f"{name}: {one[name]} != {other[name]}" for name in one if one[name] != other[name]]
