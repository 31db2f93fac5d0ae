"""Which chains the tables have, which of them frontends use, and since when others are idle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Generic, TypeVar

from nfproxy.model.addresses import Family
from nfproxy.nft.chains import Chain, Shape, neighbours
from nfproxy.plan.frontends import FrontendKey

#: How long an unused chain stays. Rollouts go through the same numbers of endpoints again and
#: again, and making a chain takes a child process.
IDLE_S = 300.0

#: The most idle chains that stay so long. Services that come and go leave chains that no other
#: Service can use; in a busy cluster they would be tens of thousands.
MOST_IDLE = 512

# Removing takes a child process, too. So what is due soon goes along, and where there are too many,
# half of them go at once: those that no lingering element leads to any more.
_SOON_S, _FREE_S = 60.0, 1.0

#: How long after a change of the shapes in use their neighbours are made.
AHEAD_S = 0.2

#: The most chains that are kept for a use that may come.
_MOST_AHEAD = 200

ChainKey = tuple[Family, str]
K = TypeVar("K")


class Deadlines(Generic[K]):
    """When keys are due. Each waits equally long, so those that began first are due first."""

    def __init__(self, delay_s: float) -> None:
        """Start without keys."""
        self._delay_s = delay_s
        self._due_at: dict[K, float] = {}

    def begin(self, key: K, now: float) -> None:
        """Let a key wait from now on, also one that waits already."""
        self._due_at.pop(key, None)  # so that the keys stay in order of time
        self._due_at[key] = now + self._delay_s

    def end(self, key: K) -> None:
        """Let a key wait no longer."""
        self._due_at.pop(key, None)

    def clear(self) -> None:
        """Let no key wait any longer."""
        self._due_at.clear()

    @property
    def next_at(self) -> float | None:
        """The time at which the first key is due; None without keys."""
        return next(iter(self._due_at.values()), None)

    def __len__(self) -> int:
        """Return how many keys wait."""
        return len(self._due_at)

    def due(self, now: float) -> list[K]:
        """Return the keys that are due; they wait until `end`."""
        return [key for key, _ in takewhile(lambda item: item[1] <= now, self._due_at.items())]


class ChainUses:
    """
    Which chains the tables have, which of them frontends use, and which are idle.

    `loaded` has what a chain's rules were made from, None for a chain with unknown rules.
    """

    def __init__(self) -> None:
        """Start without chains."""
        self.loaded: dict[ChainKey, Chain | None] = {}
        self._of: dict[FrontendKey, tuple[Chain, ...]] = {}
        self._uses: Counter[ChainKey] = Counter()
        self._idle: Deadlines[ChainKey] = Deadlines(IDLE_S)
        self._shapes: Counter[ChainKey] = Counter()  # of these uses, those that have neighbours
        self._ahead: Mapping[ChainKey, Chain] = {}
        self._crowded_from = 0.0  # until then, too many idle chains are no reason to remove some
        self.ahead_at: float | None = None  # when to look for neighbours of what is in use

    def reset(self, loaded: Mapping[ChainKey, Chain | None], now: float) -> None:
        """Begin again with these chains, all of them idle."""
        self.loaded = dict(loaded)
        self._of = {}
        self._uses = Counter()
        self._shapes = Counter()
        self._idle.clear()
        for chain in loaded:
            self._idle.begin(chain, now)
        # Elements may lead to any of these until all have been compared.
        self._crowded_from = now + IDLE_S
        self.ahead_at = now + AHEAD_S

    def use(self, key: FrontendKey, chains: tuple[Chain, ...], now: float) -> None:
        """Record the chains that a frontend's elements point to."""
        old = self._of.get(key, ())
        if chains == old:
            return
        if chains:
            self._of[key] = chains
        else:
            del self._of[key]
        # First the new ones, so that a chain that both use does not become idle.
        for chain in chains:
            where = (key.family, chain.name)
            self._idle.end(where)
            self._count(where, chain, 1, now)
        for chain in old:
            where = (key.family, chain.name)
            self._count(where, chain, -1, now)
            if where not in self._uses:
                self._idle.begin(where, now)

    def _count(self, where: ChainKey, chain: Chain, change: int, now: float) -> None:
        for uses in (self._uses, self._shapes) if has_neighbours(chain) else (self._uses,):
            uses[where] += change
            if not uses[where]:
                del uses[where]
        if has_neighbours(chain) and self._shapes[where] in (0, change):
            self.ahead_at = self.ahead_at or now + AHEAD_S  # the shapes in use are others now

    @property
    def next_at(self) -> float | None:
        """When the first idle chain is due to go; None without one."""
        first = self._idle.next_at
        if first is not None and len(self._idle) > MOST_IDLE:
            return min(first, max(first - IDLE_S + _FREE_S, self._crowded_from))
        return first

    def due(self, now: float) -> list[ChainKey]:
        """Return the chains that are to go: idle for long enough, or the oldest of too many."""
        if (next_at := self.next_at) is None or next_at > now:
            return []
        due = self._idle.due(now + _SOON_S)
        if len(self._idle) > MOST_IDLE and self._crowded_from <= now:
            free = self._idle.due(now + IDLE_S - _FREE_S)
            due = free[: max(len(due), len(self._idle) - MOST_IDLE // 2)]
        for chain in due:
            if chain in self._ahead:
                self._idle.begin(chain, now)
        return [chain for chain in due if chain not in self._ahead]

    def missing_ahead(self) -> dict[ChainKey, Chain]:
        """
        Return the chains that frontends may need next, and that the tables lack.

        Those of the shapes that most frontends use come first, and there is a limit.
        """
        self.ahead_at = None
        in_use = (where for where, _ in self._shapes.most_common())
        self._ahead = chains_ahead({where: self.loaded.get(where) for where in in_use})
        return {where: chain for where, chain in self._ahead.items() if where not in self.loaded}

    def made_ahead(self, chains: Mapping[ChainKey, Chain | None], now: float) -> None:
        """Take over chains that were loaded; those that no frontend uses yet are idle."""
        self.loaded.update(chains)
        for where in chains:
            if where not in self._uses:
                self._idle.begin(where, now)

    def removed(self, chains: Iterable[ChainKey]) -> None:
        """Forget chains that are gone."""
        for chain in chains:
            self._idle.end(chain)
            self.loaded.pop(chain, None)

    def removal_failed(self, chains: Iterable[ChainKey], now: float) -> None:
        """Try again later; chains that may be gone are loaded before they are used again."""
        self._crowded_from = now + IDLE_S
        for chain in chains:
            self._idle.begin(chain, now)
            self.loaded.pop(chain, None)


def has_neighbours(chain: Chain) -> bool:
    """Return whether a chain is a shape that others are like."""
    return isinstance(chain, Shape) and not chain.list


def chains_ahead(chains: Mapping[ChainKey, Chain | None]) -> dict[ChainKey, Chain]:
    """Return the neighbours of shapes, those of the first ones where there are many."""
    ahead: dict[ChainKey, Chain] = {}
    for (family, _), chain in chains.items():
        if len(ahead) < _MOST_AHEAD and isinstance(chain, Shape):
            ahead.update({(family, near.name): near for near in neighbours(chain)})
    return ahead
