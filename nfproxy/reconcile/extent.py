"""How much of the tables foreign changes may have changed: what a repair has to look at."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nfproxy.model.addresses import Family
from nfproxy.nft.schema import SCHEMAS

#: So many elements are looked at one by one; with more, sets and maps are read as a whole.
MOST_KEYS = 4000


class Extent(msgspec.Struct):
    """
    What foreign changes touched since the tables were in step.

    `elements` has the keys of elements by set or map; those of an interval set do not matter, as it
    is read as a whole. So are `sets`: very many of their elements were touched, or all. With
    `rules`, rules changed; with `chains`, chains did, so that verdicts may lead elsewhere although
    no element changed: a chain may have another name. With `everything`, only reading the tables
    shows what differs.
    """

    elements: dict[tuple[Family, str], set[bytes]] = msgspec.field(default_factory=dict)
    sets: set[tuple[Family, str]] = msgspec.field(default_factory=set)
    rules: bool = False
    chains: bool = False
    everything: bool = False

    def add_elements(self, family: Family, name: str, keys: Iterable[bytes]) -> None:
        """Take elements of a set or map that were added or deleted; of very many, the set."""
        if self.has_all_of(family, name):
            return
        self.elements.setdefault((family, name), set()).update(keys)
        if sum(map(len, self.elements.values())) > MOST_KEYS:
            largest = max(self.elements, key=lambda at: len(self.elements[at]))
            self.add_set(*largest)

    def add_set(self, family: Family, name: str) -> None:
        """Take all elements of a set or map."""
        self.sets.add((family, name))
        self.elements.pop((family, name), None)

    def add_table(self, family: Family) -> None:
        """Take all of a table: it was deleted."""
        self.rules = self.chains = True
        for name in SCHEMAS:
            self.add_set(family, name)

    def has_all_of(self, family: Family, name: str) -> bool:
        """Return whether all elements of a set or map count as touched."""
        return self.everything or (family, name) in self.sets

    def include(self, other: Extent) -> None:
        """Take what another extent has, too."""
        self.everything |= other.everything
        self.rules |= other.rules
        self.chains |= other.chains
        for at in other.sets:
            self.add_set(*at)
        for (family, name), keys in other.elements.items():
            self.add_elements(family, name, keys)
