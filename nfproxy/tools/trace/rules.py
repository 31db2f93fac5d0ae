"""The text of single rules of any table, as nft prints it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nfproxy.dataplane.libnftables import load_text
from nfproxy.errors import NfproxyError
from nfproxy.netlink.nftables import FAMILY_WORDS
from nfproxy.netlink.sockets import NftSocket
from nfproxy.text import one_line

_LONGEST = 400
_QUOTED = re.compile(r'"[^"]*"')


class RuleTexts:
    """
    Finds texts of rules, and lists each chain once.

    libnftables lists in a child process: what other programs have written may crash it.
    """

    def __init__(self) -> None:
        self._chains: dict[tuple[int, str, str], dict[int, str]] = {}

    def find(self, family: int, table: str, chain: str, handle: int) -> str:
        """Return a rule's text on one line, "" where it is gone or cannot be read."""
        key = (family, table, chain)
        if key not in self._chains:
            try:
                self._chains[key] = _rules_of(family, table, chain)
            except NfproxyError:
                self._chains[key] = {}
        return self._chains[key].get(handle, "")


def _rules_of(family: int, table: str, chain: str) -> dict[int, str]:
    """Return texts by handle. Raises NfproxyError."""
    with NftSocket() as netlink:
        handles = [rule.handle for rule in netlink.rules(family, table, chain)]
    listed = load_text(f"list chain {FAMILY_WORDS[family]} {table} {chain}")
    texts = list(rules_in(listed.splitlines()))
    # nft prints a chain's rules in their order, without handles.
    return dict(zip(handles, texts, strict=True)) if len(texts) == len(handles) else {}


def rules_in(lines: Sequence[str]) -> Iterator[str]:
    """Yield the rules in a listing of one chain; a rule with a long set spans several lines."""
    at = next((i for i, line in enumerate(lines) if line.strip().startswith("chain ")), len(lines))
    depth = 0
    parts: list[str] = []
    for line in lines[at + 1 :]:
        text = line.strip()
        if not parts:
            if text == "}":
                return
            if not text or text.startswith(("type ", "comment ", "policy ", "#")):
                continue
        parts.append(text)
        bare = _QUOTED.sub("", text)
        depth += bare.count("{") - bare.count("}")
        if depth <= 0:
            yield one_line(" ".join(parts), _LONGEST)
            depth, parts = 0, []
