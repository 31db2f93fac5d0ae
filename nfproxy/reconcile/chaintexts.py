"""nft texts that load chains, each of a size that fits the kernel's buffer for one transaction."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.nodeconfig import ProgramConfig
from nfproxy.nft import ruleset
from nfproxy.nft.chains import Chain
from nfproxy.nft.stages import IN_PLACE, Stage

_Chains = Mapping[tuple[Family, str], Chain]

#: Returns what share of a transaction's time the rules of a family's chain take, given its text.
Share = Callable[[Family, str], float]

# What a text takes in a transaction for each of its characters, at most. Chains take 2.0 to 4.4
# bytes, the fixed program 2.3.
_BYTES_PER_CHARACTER = 5


def chains_text(chains: _Chains, config: ProgramConfig, stage: Stage = IN_PLACE) -> str:
    """Return the text that makes chains of any family in existing tables."""
    own = {family: of_family(chains, family) for family in FAMILIES}
    return "".join(
        ruleset.chains_text(found, config, family, stage) for family, found in own.items() if found
    )


def of_family(chains: _Chains, family: Family) -> list[Chain]:
    """Return the chains of one family."""
    return [chain for (of, _), chain in chains.items() if of is family]


def load_texts(
    chains: _Chains,
    config: ProgramConfig,
    first: Callable[[Collection[Family], _Chains], str],
    families: Collection[Family],
    limit: int | None,
    stage: Stage = IN_PLACE,
    share: Share | None = None,
) -> Iterator[str]:
    """
    Yield the texts that load chains, each for a transaction of at most `limit` bytes.

    The first is that of `first` for all families. With a limit, or with `share`, there is one for
    each family, with as many chains as fit. The others are of `chains_text`. Each chain is in one
    of them as a whole.
    """
    if limit is None and share is None:
        yield first(families, chains)
        return
    bytes_ = sys.maxsize if limit is None else limit
    for family in families:
        own = {where: chain for where, chain in chains.items() if where[0] is family}
        shares = share or _nothing
        yield from _portions(
            own, config, functools.partial(first, (family,)), bytes_, shares, stage
        )


def _nothing(family: Family, text: str) -> float:
    return 0.0


def _portions(
    chains: _Chains,
    config: ProgramConfig,
    first: Callable[[_Chains], str],
    limit: int,
    share: Share,
    stage: Stage,
) -> Iterator[str]:
    text = first
    portion: dict[tuple[Family, str], Chain] = {}
    size, time = len(first({})), 0.0
    for where, chain in chains.items():
        alone = chains_text({where: chain}, config, stage)
        needed, needed_time = len(alone), share(where[0], alone)
        is_full = (size + needed) * _BYTES_PER_CHARACTER > limit
        if portion and (is_full or time + needed_time > 1.0):
            yield text(portion)
            text, portion = lambda some: chains_text(some, config, stage), {}
            size, time = 0, 0.0
        portion[where] = chain
        size += needed
        time += needed_time
    if portion or (text is first and size):
        yield text(portion)
