"""How much of the tables foreign changes may have changed: what a repair has to look at."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nfproxy.model.addresses import Family

#: So many elements are looked at one by one; reading the tables is as fast for more.
MOST_KEYS = 4000


class Extent(msgspec.Struct):
    """
    What foreign changes touched since the tables were in step.

    `elements` has the keys of elements by set or map; those of an interval set do not matter, as it
    is read as a whole. With `rules`, rules changed; with `chains`, chains did, so that verdicts may
    lead elsewhere although no element changed: a chain may have another name. With `everything`,
    only reading the tables shows what differs.
    """

    elements: dict[tuple[Family, str], set[bytes]] = msgspec.field(default_factory=dict)
    rules: bool = False
    chains: bool = False
    everything: bool = False

    def add_elements(self, family: Family, name: str, keys: Iterable[bytes]) -> None:
        """Take elements of a set or map that were added or deleted; without end, everything."""
        if self.everything:
            return
        self.elements.setdefault((family, name), set()).update(keys)
        if sum(map(len, self.elements.values())) > MOST_KEYS:
            self.elements.clear()
            self.everything = True

    def include(self, other: Extent) -> None:
        """Take what another extent has, too."""
        self.everything |= other.everything
        self.rules |= other.rules
        self.chains |= other.chains
        for (family, name), keys in other.elements.items():
            self.add_elements(family, name, keys)
