"""
From the text of a table to its chains, sets and elements.

Reads scripts that ``nfproxy render`` prints, and listings of ``nft list``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from nfproxy.errors import InputError
from nfproxy.insight.expressions import FIELDS, Find, Held, ValueKind, pack
from nfproxy.insight.ruletext import parse_rule, parse_scalar, tokens
from nfproxy.insight.statements import Rule
from nfproxy.model.addresses import Family, parse_prefix
from nfproxy.nft.schema import DROP, Value, goto, jump, verdict

Kinds = tuple[ValueKind, ...]

_COMMAND = re.compile(
    r"(?P<verb>(?:(?:add|flush|delete) )?(?:table|element|chain)) (?P<family>ip6?) nfproxy"
    r"(?: (?P<name>[^\s{]+))?"
)
_BLOCK = re.compile(r"\t(?P<what>map|set|chain) (?P<name>\S+) \{")
_HOOK = re.compile(
    r"type (?P<type>\w+) hook (?P<hook>\w+)(?: device \S+)? priority (?P<priority>[^;]+);"
    r"(?: policy (?P<policy>\w+);)?"
)
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50}
_PRIORITIES["srcnat"] = 100
_TYPES = {
    "ipv4_addr": ValueKind.ADDRESS,
    "ipv6_addr": ValueKind.ADDRESS,
    "inet_proto": ValueKind.PROTOCOL,
    "inet_service": ValueKind.PORT,
    "mark": ValueKind.NUMBER,
    "integer": ValueKind.NUMBER,
    "classid": ValueKind.PRIORITY,
    "ifname": ValueKind.NAME,
}


class Hooked(NamedTuple):
    """Where a base chain is attached, and what becomes of packets that reach its end."""

    type: str
    hook: str
    priority: int
    policy: str


class RuleChain(msgspec.Struct):
    """The rules of a chain; `hooked` is None for a regular one."""

    name: str
    rules: list[Rule]
    hooked: Hooked | None = None


class SetText(msgspec.Struct):
    """A set or map: the kinds of its keys and values, and the text of its elements."""

    key: Kinds = ()
    value: Kinds = ()
    has_ranges: bool = False
    rows: list[str] = msgspec.field(default_factory=list)


def _no_text(_: str) -> str:
    return ""


class RuleTable:
    """
    One family's table, from its text.

    `find` looks up an element; by default among those in the text. `chain_text` returns the text
    of a chain that is not in the table's, as within a table block, "" for a chain that is nowhere.
    So neither elements nor chains have to be read that no packet of interest meets.
    """

    def __init__(
        self,
        text: str,
        family: Family,
        find: Find | None = None,
        chain_text: Callable[[str], str] = _no_text,
    ) -> None:
        """Read a table's text; rules and elements are understood when they are asked for."""
        self.family = family
        self._sets: dict[str, SetText] = {}
        self._bodies: dict[str, list[str]] = {}
        self._hooks: dict[str, Hooked] = {}
        self._chains: dict[str, RuleChain] = {}
        self._chain_text = chain_text
        self._elements: dict[str, _Elements] = {}
        self.find: Find = find or self._find
        self._read(iter(text.splitlines()))

    def with_find(self, find: Find) -> RuleTable:
        """Return the same rules over elements that are looked up elsewhere."""
        other = copy.copy(self)
        other.find = find
        return other

    def hooked(self, hook: str) -> list[RuleChain]:
        """Return the base chains of a hook, in the order in which packets come to them."""
        found = [name for name, one in self._hooks.items() if one.hook == hook]
        chains = [chain for name in found if (chain := self.chain(name))]
        return sorted(chains, key=lambda chain: _turn(self._hooks[chain.name]))

    def chain(self, name: str) -> RuleChain | None:
        """Return a chain, None if there is none of that name."""
        chain = self._chains.get(name)
        if chain is None:
            if name not in self._bodies:
                self._blocks(iter(self._chain_text(name).splitlines()))
            body = self._bodies.get(name)
            if body is None:
                return None
            rules = [parse_rule(line, self.family, self._layout) for line in body]
            chain = self._chains[name] = RuleChain(name, rules, self._hooks.get(name))
        return chain

    def set_names(self) -> list[str]:
        """Return the names of the sets and maps in the text."""
        return list(self._sets)

    # --- text ----------------------------------------------------------------------------

    def _read(self, lines: Iterator[str]) -> None:
        for line in lines:
            match = _COMMAND.match(line)
            if match is None or match["family"] != self.family.table:
                continue
            if match["verb"] in ("table", "add table") and line.endswith("{"):
                self._blocks(lines)
            elif match["verb"] == "flush chain":
                self._bodies[match["name"]] = []
            elif match["verb"] == "add element":
                rows = self._sets.setdefault(match["name"], SetText()).rows
                for row in lines:
                    if row == "}":
                        break
                    rows.append(row.strip().rstrip(","))

    def _blocks(self, lines: Iterator[str]) -> None:
        """Read what is in a table's block."""
        for line in lines:
            if line == "}":
                return
            match = _BLOCK.fullmatch(line)
            if match is None:
                continue
            if match["what"] == "chain":
                self._read_chain(match["name"], lines)
            else:
                self._read_set(match["name"], lines)

    def _read_chain(self, name: str, lines: Iterator[str]) -> None:
        body = self._bodies.setdefault(name, [])
        for line in lines:
            text = line.strip()
            if text == "}":
                return
            hook = _HOOK.match(text)
            if hook:
                priority = _priority(hook["priority"])
                self._hooks[name] = Hooked(
                    hook["type"], hook["hook"], priority, hook["policy"] or "accept"
                )
            elif text and not text.startswith("#"):
                body.append(text)

    def _read_set(self, name: str, lines: Iterator[str]) -> None:
        made = self._sets.setdefault(name, SetText())
        for line in lines:
            text = line.strip()
            if text == "}":
                return
            word, _, rest = text.partition(" ")
            if word in ("typeof", "type"):
                key, _, value = rest.partition(" : ")
                made.key, made.value = self._kinds(key), self._kinds(value)
            elif word == "flags":
                made.has_ranges = "interval" in rest
            elif word == "elements":
                made.rows += _listed(rest.removeprefix("= {"), lines)

    def _kinds(self, text: str) -> Kinds:
        return tuple(_kind(part.strip()) for part in text.split(" . ") if part != "verdict")

    def _layout(self, name: str) -> tuple[Kinds, Kinds]:
        made = self._sets.get(name)
        return (made.key, made.value) if made else ((), ())

    # --- elements ------------------------------------------------------------------------

    def _find(self, name: str, key: bytes) -> Held | None:
        elements = self._elements.get(name)
        if elements is None:
            made = self._sets.get(name, SetText())
            elements = self._elements[name] = _Elements(made, self.family)
        return elements.find(key)


def _turn(hooked: Hooked) -> tuple[int, int]:
    """
    Return what sorts the base chains of a hook.

    All nat chains of a hook are called from one place; their priorities order them there.
    """
    if hooked.type != "nat":
        return hooked.priority, 0
    return -100 if hooked.hook in ("prerouting", "output") else 100, hooked.priority


def _priority(text: str) -> int:
    word, *more = text.replace("+", " + ").replace("-", " - ").split()
    if word == "-":
        return -int(more[0])
    value = _PRIORITIES.get(word)
    first = int(word) if value is None else value
    return first + int("".join(more)) if more else first


def _kind(text: str) -> ValueKind:
    """Return the kind of a field of ``typeof`` or ``type``."""
    if text.startswith(("numgen", "jhash")):
        return ValueKind.NUMBER
    if text in FIELDS:
        return FIELDS[text].kinds[0]
    return _TYPES.get(text, ValueKind.NUMBER)


def _listed(first: str, lines: Iterator[str]) -> Iterator[str]:
    """Yield the elements of a listing; several may be on a line."""
    text = first
    while True:
        body, end, _ = text.partition("}")
        yield from (row.strip() for row in _split(body) if row.strip())
        if end:
            return
        text = next(lines, "}")


_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


def _split(text: str) -> list[str]:
    """Split at commas that are not in quotes."""
    return _COMMA.split(text) if '"' in text else text.split(",")


class _Elements:
    """The elements of a set, by packed key. Those of a set with ranges are few, and searched."""

    def __init__(self, made: SetText, family: Family) -> None:
        self._made = made
        self._family = family
        self._exact: dict[bytes, Value] = {}
        self._ranges: list[tuple[bytes, bytes]] = []
        for row in made.rows:
            self._add(row)

    def find(self, key: bytes) -> Held | None:
        if self._made.has_ranges:
            return Held() if any(first <= key <= last for first, last in self._ranges) else None
        return Held(self._exact[key]) if key in self._exact else None

    def _add(self, row: str) -> None:
        key_text, _, value_text = row.partition(" : ")
        if self._made.has_ranges:
            self._ranges.append(_span(key_text.split()[0], self._family))
            return
        key = self._packed(self._made.key, key_text)
        if not value_text:
            self._exact[key] = None
        elif self._made.value:
            self._exact[key] = self._packed(self._made.value, value_text)
        else:
            self._exact[key] = _verdict(value_text.split())

    def _packed(self, kinds: Kinds, text: str) -> bytes:
        words = tokens(text)[: 2 * len(kinds) - 1 : 2]
        return b"".join(
            pack(kind, parse_scalar(kind, word, self._family), self._family)
            for kind, word in zip(kinds, words, strict=True)
        )


_CODES = {"accept": 1, "return": -5}


def _verdict(words: list[str]) -> Value:
    if words[0] == "drop":
        return DROP
    if words[0] in ("goto", "jump"):
        return (goto if words[0] == "goto" else jump)(words[1])
    if words[0] not in _CODES:
        raise InputError(f"{words[0]} is no verdict")
    return verdict(_CODES[words[0]])


def _span(text: str, family: Family) -> tuple[bytes, bytes]:
    """Return the first and last address of ``a``, ``a/length`` or ``a-b``."""
    if "/" in text:
        prefix = parse_prefix(text)
        return prefix.network, prefix.last
    first, _, last = text.partition("-")
    ends = (parse_scalar(ValueKind.ADDRESS, one, family) for one in (first, last or first))
    low, high = (pack(ValueKind.ADDRESS, one, family) for one in ends)
    return low, high
