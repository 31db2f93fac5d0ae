"""
From the text of a rule to its statements: the part of nft's language that nfproxy's rules use.

Both what the templates write and what ``nft list`` makes of it are read. What is not understood
becomes a statement of its own with the rest of the rule: the evaluator says so if a packet gets
there.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from nfproxy.errors import InputError
from nfproxy.insight.expressions import (
    DIRECTIONS,
    FIELDS,
    PROTOCOLS,
    STATES,
    STATUSES,
    AnyNumber,
    Bits,
    Constant,
    Expression,
    Hash,
    Joined,
    Mapped,
    PacketField,
    Scalar,
    ValueKind,
)
from nfproxy.insight.packet import AddressType
from nfproxy.insight.statements import (
    Ends,
    Match,
    Misread,
    Note,
    OneOf,
    Range,
    Rule,
    SetField,
    Sometimes,
    Statement,
    Translate,
    VerdictMap,
)
from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.text import quoted

_TOKEN = re.compile(r'"[^"]*"|[{},;]|[^\s{},;"]+')
_OPERATORS = ("==", "!=", "<", ">", "<=", ">=")
_SHORT = {"mark": "meta mark", "meta iifname": "iifname", "meta oifname": "oifname"}
_FAMILIES = {"ipv4": Family.IPV4, "ipv6": Family.IPV6}

#: Returns the kinds of a set's keys, and of a map's values.
Layout = Callable[[str], tuple[tuple[ValueKind, ...], tuple[ValueKind, ...]]]


def tokens(text: str) -> list[str]:
    """Return the words of a rule or element; a text in quotes is one."""
    return _TOKEN.findall(text)


def parse_rule(text: str, family: Family, layout: Layout) -> Rule:
    """Return a rule; what is not understood is its last statement."""
    return _RuleParser(tokens(text), family, layout).rule(text)


def parse_scalar(kind: ValueKind, text: str, family: Family) -> Scalar:
    """Return a value of a kind as nft writes it. Raises InputError."""
    words = _WORDS.get(kind, {})
    if text in words:
        return words[text]
    try:
        if kind is ValueKind.ADDRESS:
            packed = parse_address(text)
            if len(packed) == family.size:
                return int.from_bytes(packed, "big")
        elif kind is ValueKind.NAME:
            return text.strip('"')
        elif kind is ValueKind.PRIORITY and ":" in text:
            high, _, low = text.partition(":")
            return int(high or "0", 16) << 16 | int(low or "0", 16)
        else:
            return int(text, 0)
    except ValueError:
        pass
    raise InputError(f"{quoted(text)} is no {kind.value} of nft's notation")


_WORDS: dict[ValueKind, dict[str, int]] = {
    ValueKind.PROTOCOL: PROTOCOLS,
    ValueKind.PRIORITY: {"none": 0, "root": 0xFFFFFFFF},
    ValueKind.ADDRESS_TYPE: {one.name.lower(): one for one in AddressType},
    ValueKind.STATUS: STATUSES,
    ValueKind.STATE: STATES,
    ValueKind.DIRECTION: DIRECTIONS,
    ValueKind.FAMILY: dict(_FAMILIES),
}


class _RuleParser:
    """Reads the tokens of one rule. Its methods raise InputError for what they do not know."""

    def __init__(self, found: list[str], family: Family, layout: Layout) -> None:
        self._tokens = found
        self._at = 0
        self._family = family
        self._layout = layout

    def rule(self, text: str) -> Rule:
        statements: list[Statement] = []
        while self._at < len(self._tokens):
            begin = self._at
            try:
                statements.append(self._statement())
            except InputError:
                statements.append(Misread(" ".join(self._tokens[begin:])))
                break
        return Rule(text, tuple(statements))

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise InputError("the rule ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *words: str) -> bool:
        """Take the words if they come next; return whether they did."""
        if tuple(self._tokens[self._at : self._at + len(words)]) != words:
            return False
        self._at += len(words)
        return True

    def _want(self, word: str) -> None:
        if not self._take(word):
            raise InputError(f"{quoted(self._peek())} where {word} is expected")

    def _int(self) -> int:
        return int(parse_scalar(ValueKind.NUMBER, self._next(), self._family))

    # --- statements ----------------------------------------------------------------------

    def _statement(self) -> Statement:
        word = self._peek()
        make = _STATEMENTS.get(word)
        if make is not None:
            self._at += 1
            return make(self)
        left = self._expression()
        if self._take("vmap"):
            return VerdictMap(left, self._set_name())
        if self._take("set"):
            return self._set_field(left)
        return self._match(left)

    def _verdict(self) -> Statement:
        word = self._tokens[self._at - 1]
        return Ends(word, self._next() if word in ("jump", "goto") else "")

    def _reject(self) -> Statement:
        if not self._take("with"):
            return Ends("reject", answer="icmp port-unreachable")
        if self._take("tcp", "reset"):
            return Ends("reject", answer="tcp reset")
        kind = self._next()
        if kind not in ("icmp", "icmpv6", "icmpx"):
            raise InputError(f"reject with {quoted(kind)}")
        self._take("type")
        return Ends("reject", answer=f"icmp {self._next()}")

    def _counter(self) -> Statement:
        if self._take("name"):
            return Note(f"counted by {self._next().strip(chr(34))}")
        if self._take("packets"):
            self._int()
            self._want("bytes")
            self._int()
        return Note("")

    def _comment(self) -> Statement:
        return Note(self._next().strip('"'))

    def _log(self) -> Statement:
        while self._peek() in ("prefix", "level", "group", "flags", "snaplen"):
            self._at += 2
        return Note("logged")

    def _limit(self) -> Statement:
        """``limit rate [over] 5/second [burst 5 packets]``."""
        self._want("rate")
        self._take("over")
        self._next()
        if self._take("burst"):
            self._int()
            self._next()
        return Sometimes()

    def _change_set(self) -> Statement:
        """``update @NAME { KEY timeout 1h : VALUE }``: nothing for the packet."""
        verb, name = self._tokens[self._at - 1], self._set_name()
        self._want("{")
        while self._next() != "}":
            pass
        return Note(f"{verb} {name}")

    def _dnat(self) -> Statement:
        self._take(self._family.table)
        self._want("to")
        where = self._next()
        self._at -= 1
        if where[0].isdigit() or where[0] == "[":
            address = self._destination(self._next())
            self._nat_flags()
            return Translate(address)
        to = self._expression()
        if not isinstance(to, Mapped):
            raise InputError("dnat to what is in no map")
        self._nat_flags()
        return Translate(to)

    def _destination(self, text: str) -> tuple[bytes, int | None]:
        """Return where ``1.2.3.4:80``, ``[::1]:80`` or an address alone leads."""
        bracketed = re.fullmatch(r"\[([^]]+)\](?::(\d+))?", text)
        plain = re.fullmatch(r"(\d+\.\d+\.\d+\.\d+)(?::(\d+))?", text)
        found = bracketed or plain
        if found is None:
            return parse_address(text), None
        return parse_address(found[1]), int(found[2]) if found[2] else None

    def _masquerade(self) -> Statement:
        self._nat_flags()
        return Ends("masquerade")

    def _nat_flags(self) -> None:
        while self._take("fully-random") or self._take("random") or self._take("persistent"):
            self._take(",")

    def _set_field(self, left: Expression) -> Statement:
        if not isinstance(left, PacketField) or left.words not in ("meta mark", "meta priority"):
            raise InputError("sets what is not known")
        return SetField(left.words, self._value(left.kinds[0]))

    def _value(self, kind: ValueKind) -> Expression:
        try:
            value = parse_scalar(kind, self._peek(), self._family)
        except InputError:
            return self._expression()
        self._at += 1
        return Constant((kind,), value)

    # --- matches -------------------------------------------------------------------------

    def _match(self, left: Expression) -> Statement:
        operator = self._next() if self._peek() in _OPERATORS else ""
        kind = left.kinds[0]
        if self._peek().startswith("@"):
            return OneOf(left, self._set_name(), operator == "!=")
        if isinstance(left, Joined):
            raise InputError("a concatenation without a set")
        if self._take("{"):
            ranges = []
            while not self._take("}"):
                ranges.append(self._range(kind, self._next()))
                self._take(",")
            return Match(left, tuple(ranges), operator == "!=")
        text = self._next()
        if operator in ("", "!=") and kind in (ValueKind.STATUS, ValueKind.STATE):
            # Without `==`, nft asks for the bit.
            bit = int(parse_scalar(kind, text, self._family))
            zero = (Range(0, 0),)
            return Match(Bits(left.kinds, left, "&", bit), zero, operator == "")
        if operator in ("", "==", "!="):
            return Match(left, (self._range(kind, text),), operator == "!=")
        value = int(parse_scalar(kind, text, self._family))
        below = Range(0, value - (operator in ("<", ">=")))
        return Match(left, (below,), operator in (">", ">="))

    def _range(self, kind: ValueKind, text: str) -> Range:
        if kind is ValueKind.NAME:
            name = text.strip('"')
            return Range(name, name)
        if kind is ValueKind.ADDRESS and "/" in text:
            prefix = parse_prefix(text)
            first, last = prefix.network, prefix.last
            return Range(int.from_bytes(first, "big"), int.from_bytes(last, "big"))
        first_text, dash, last_text = text.partition("-")
        if (
            dash
            and first_text[:1].isalnum()
            and kind in (ValueKind.ADDRESS, ValueKind.PORT, ValueKind.NUMBER)
        ):
            ends = (parse_scalar(kind, one, self._family) for one in (first_text, last_text))
            return Range(*ends)
        value = parse_scalar(kind, text, self._family)
        return Range(value, value)

    def _set_name(self) -> str:
        name = self._next()
        if not name.startswith("@"):
            raise InputError(f"{quoted(name)} is no name of a set")
        return name[1:]

    # --- expressions ---------------------------------------------------------------------

    def _expression(self) -> Expression:
        key = self._joined()
        if not self._take("map"):
            return key
        name = self._set_name()
        kinds = self._layout(name)[1]
        if not kinds:
            raise InputError(f"map {name} has no values")
        return Mapped(kinds, key, name)

    def _joined(self) -> Expression:
        parts = [self._part()]
        while self._take("."):
            parts.append(self._part())
        if len(parts) == 1:
            return parts[0]
        return Joined(tuple(part.kinds[0] for part in parts), tuple(parts))

    def _part(self) -> Expression:
        part = self._primary()
        while self._peek() in ("&", "|", "^"):
            operator = self._next()
            other = parse_scalar(part.kinds[0], self._next(), self._family)
            part = Bits(part.kinds, part, operator, int(other))
        return part

    def _primary(self) -> Expression:
        if self._take("numgen"):
            is_random = self._next() == "random"
            self._want("mod")
            size, first = self._int(), self._offset()
            kinds = (ValueKind.NUMBER,)
            if size == 1 and not is_random:
                return Constant(kinds, first)  # how nft has a constant in a concatenation
            return AnyNumber(kinds, size, first)
        if self._take("jhash"):
            of = self._joined()
            self._want("mod")
            size = self._int()
            seed = self._int() if self._take("seed") else None
            return Hash((ValueKind.NUMBER,), of, size, seed, self._offset())
        for count in (4, 3, 2, 1):
            words = " ".join(self._tokens[self._at : self._at + count])
            field = FIELDS.get(_SHORT.get(words, words))
            if field is not None:
                self._at += count
                return field
        raise InputError(f"{quoted(self._peek())} is not known")

    def _offset(self) -> int:
        return self._int() if self._take("offset") else 0


_STATEMENTS: dict[str, Callable[[_RuleParser], Statement]] = {
    **dict.fromkeys(("accept", "drop", "return", "continue", "jump", "goto"), _RuleParser._verdict),
    "reject": _RuleParser._reject,
    "counter": _RuleParser._counter,
    "comment": _RuleParser._comment,
    "log": _RuleParser._log,
    "limit": _RuleParser._limit,
    **dict.fromkeys(("add", "update", "delete"), _RuleParser._change_set),
    "dnat": _RuleParser._dnat,
    "masquerade": _RuleParser._masquerade,
}
