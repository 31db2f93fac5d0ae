"""
Deleting affinity entries, which the kernel writes, once no client may use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.plan.desired import Desired
from nfproxy.plan.frontends import AffinityListKey
from nfproxy.reconcile.interface import Dataplane
from nfproxy.reconcile.transition import Operation

NO_ADDRESSES: frozenset[bytes] = frozenset()


def stale_entries(
    dataplane: Dataplane, desired: Desired, keys: Iterable[AffinityListKey]
) -> list[Operation]:
    """Return the deletion of the entries of some lists whose endpoint is not on the list."""
    numbers: dict[Family, set[bytes]] = {}
    for key in keys:
        numbers.setdefault(key.family, set()).add(key.number)
    return [
        operation
        for family, wanted in numbers.items()
        for entry, address in dataplane.affinity_entries(family, wanted)
        if entry[-8:] in wanted
        for operation in _deletion(desired, family, entry, address)
    ]


def all_stale_entries(
    dataplane: Dataplane, desired: Desired, families: Iterable[Family]
) -> list[Operation]:
    """Return the deletion of every entry whose endpoint is not on its list."""
    return [
        operation
        for family in families
        for entry, address in dataplane.affinity_entries(family, [b""])
        for operation in _deletion(desired, family, entry, address)
    ]


def _deletion(desired: Desired, family: Family, key: bytes, address: bytes) -> Iterator[Operation]:
    if address not in desired.affinity_lists.get(AffinityListKey(family, key[-8:]), NO_ADDRESSES):
        # It may expire at any moment, and deleting what is not there fails: add it first.
        yield Operation(True, family, schema.AFFINITY, key, address)
        yield Operation(False, family, schema.AFFINITY, key)
