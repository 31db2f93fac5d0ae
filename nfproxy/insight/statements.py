"""What a rule does, statement by statement, and what that makes of a packet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from nfproxy.insight.expressions import (
    Expression,
    Mapped,
    Moment,
    Scalar,
    State,
    UndecidedError,
)
from nfproxy.insight.packet import Effect
from nfproxy.model.addresses import format_address
from nfproxy.nft.schema import Verdict


class Done(NamedTuple):
    """
    What a statement made of a packet.

    `effect` is "" where the statement only matched. `ending` is how the rule ends: "" not yet,
    "next" at the next rule, a verdict's word otherwise, with `chain` for a jump.
    """

    state: State
    effect: Effect | None = None
    detail: str = ""
    ending: str = ""
    chain: str = ""


class Statement(msgspec.Struct, frozen=True):
    """One statement of a rule."""

    def run(self, at: Moment) -> Iterator[Done]:
        """Yield all that it may make of the packet, each once. Raises UndecidedError."""
        raise NotImplementedError


class Rule(NamedTuple):
    """A rule, and its text."""

    text: str
    statements: tuple[Statement, ...]


class Range(NamedTuple):
    """Values from `first` to `last`; a name may end in a wildcard."""

    first: Scalar
    last: Scalar

    def __contains__(self, value: object) -> bool:
        """Return whether a value is one of them."""
        if isinstance(value, str):
            pattern = str(self.first)
            if pattern.endswith("*"):
                return value.startswith(pattern[:-1])
            return value == pattern
        if isinstance(value, int) and isinstance(self.first, int) and isinstance(self.last, int):
            return self.first <= value <= self.last
        return False


def _matched(at: Moment, results: set[bool]) -> Iterator[Done]:
    """Yield what a match does with each of its possible results."""
    for result in sorted(results):
        yield Done(at.state, ending="" if result else "next")


class Match(Statement, frozen=True):
    """A value is in one of some ranges, or in none of them."""

    left: Expression
    ranges: tuple[Range, ...]
    is_negated: bool

    def run(self, at: Moment) -> Iterator[Done]:
        """Go on, or end the rule."""
        values = self.left.values(at)
        yield from _matched(
            at,
            {
                value is not None and any(value in r for r in self.ranges) != self.is_negated
                for value in values
            },
        )


class OneOf(Statement, frozen=True):
    """A key is in a set, or is not."""

    key: Expression
    name: str
    is_negated: bool

    def run(self, at: Moment) -> Iterator[Done]:
        """Go on, or end the rule."""
        keys = self.key.keys(at)
        yield from _matched(
            at,
            {
                key is not None and (at.find(self.name, key) is not None) != self.is_negated
                for key in keys
            },
        )


class VerdictMap(Statement, frozen=True):
    """The verdict of the element with a key; without one the next rule follows."""

    key: Expression
    name: str

    def run(self, at: Moment) -> Iterator[Done]:
        """End the rule."""
        seen = set()
        for key in self.key.keys(at):
            held = None if key is None else at.find(self.name, key)
            value = held.value if held is not None else None
            if value in seen:
                continue
            seen.add(value)
            if value is None:
                yield Done(at.state, ending="next")
            elif isinstance(value, Verdict):
                word, _, chain = str(value).partition(" ")
                yield Done(at.state, Effect.FOUND, f"{self.name}: {value}", word, chain)
            else:
                raise UndecidedError(f"map {self.name} has no verdicts")


class Ends(Statement, frozen=True):
    """A verdict, a rejection or source NAT: the rule ends."""

    word: str
    chain: str = ""
    answer: str = ""

    def run(self, at: Moment) -> Iterator[Done]:
        """End the rule."""
        if self.word == "masquerade":
            changed = at.state._replace(is_masqueraded=True)
            yield Done(changed, Effect.MASQUERADE, "", "accept")
        elif self.word == "continue" or (self.answer == "tcp reset" and at.packet.protocol != _TCP):
            yield Done(at.state, ending="next")
        else:
            yield Done(
                at.state, _EVENTS[self.word], self.answer or self.chain, self.word, self.chain
            )


_TCP = 6

_EVENTS = {
    "accept": Effect.ACCEPT,
    "drop": Effect.DROP,
    "return": Effect.RETURN,
    "jump": Effect.JUMP,
    "goto": Effect.JUMP,
    "reject": Effect.REJECT,
}


class Translate(Statement, frozen=True):
    """``dnat to``: an element's address and port, or those that the rule names."""

    to: Mapped | tuple[bytes, int | None]

    def run(self, at: Moment) -> Iterator[Done]:
        """Translate; where the map has no element, the next rule follows."""
        if not isinstance(self.to, Mapped):
            address, port = self.to
            yield self._to(at, address, at.state.port if port is None else port)
            return
        size = at.packet.family.size
        for row in self.to.rows(at):
            if row is None:
                yield Done(at.state, ending="next")
            elif len(row) == 2:
                yield self._to(at, row[0].to_bytes(size, "big"), row[1])
            else:
                raise UndecidedError(f"map {self.to.name} has no addresses and ports")

    def _to(self, at: Moment, address: bytes, port: int) -> Done:
        changed = at.state._replace(destination=address, port=port, is_translated=True)
        detail = f"{format_address(address)} . {port}"
        return Done(changed, Effect.TRANSLATE, detail, "accept")


class SetField(Statement, frozen=True):
    """``meta mark set``, ``meta priority set``."""

    words: str
    value: Expression

    def run(self, at: Moment) -> Iterator[Done]:
        """Set it; without a value, the next rule follows."""
        for value in self.value.values(at):
            if not isinstance(value, int):
                yield Done(at.state, ending="next")
            elif self.words == "meta mark":
                yield Done(at.state._replace(mark=value), Effect.MARK, f"0x{value:x}")
            else:
                yield Done(at.state._replace(priority=value), Effect.PRIORITY, f"0x{value:x}")


class Note(Statement, frozen=True):
    """Nothing that changes the packet's way: it is counted, logged, remembered."""

    text: str

    def run(self, at: Moment) -> Iterator[Done]:
        """Go on."""
        yield Done(at.state, Effect.NOTE if self.text else None, self.text)


class Sometimes(Statement, frozen=True):
    """A limit: it depends on other packets whether this one passes."""

    def run(self, at: Moment) -> Iterator[Done]:
        """Go on, and also end the rule."""
        yield from _matched(at, {True, False})


class Misread(Statement, frozen=True):
    """The rest of a rule, which the parser does not understand."""

    text: str

    def run(self, at: Moment) -> Iterator[Done]:
        """Raise: it is not known what the rule does."""
        raise UndecidedError(self.text)
        yield
