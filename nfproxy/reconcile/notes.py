"""
Session affinity's notes, which the kernel writes: deleting those that nobody may use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.plan.desired import Desired, ScopeKey
from nfproxy.reconcile.interface import Dataplane
from nfproxy.reconcile.transition import Operation

NOBODY: frozenset[bytes] = frozenset()


def stale_notes(
    dataplane: Dataplane, desired: Desired, scopes: Iterable[ScopeKey]
) -> list[Operation]:
    """Return the deletion of notes, on some lists, that point to endpoints not on them."""
    numbers: dict[Family, set[bytes]] = {}
    for scope in scopes:
        numbers.setdefault(scope.family, set()).add(scope.number)
    return [
        operation
        for family, wanted in numbers.items()
        for key, address in dataplane.noted_clients(family, wanted)
        if key[-8:] in wanted
        for operation in _deletion(desired, family, key, address)
    ]


def all_stale_notes(
    dataplane: Dataplane, desired: Desired, families: Iterable[Family]
) -> list[Operation]:
    """Return the deletion of every note that nobody may use, whoever left it."""
    return [
        operation
        for family in families
        for key, address in dataplane.noted_clients(family, [b""])
        for operation in _deletion(desired, family, key, address)
    ]


def _deletion(desired: Desired, family: Family, key: bytes, address: bytes) -> Iterator[Operation]:
    if address not in desired.scopes.get(ScopeKey(family, key[-8:]), NOBODY):
        # It may expire at any moment, and deleting what is not there fails: add it first.
        yield Operation(True, family, schema.AFFINITY, key, address)
        yield Operation(False, family, schema.AFFINITY, key)
