"""
What is wrong with a configuration, said once for every field that is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfproxy.errors import ConfigError
from nfproxy.text import shorten


class Problem(NamedTuple):
    """
    One value that cannot be used.

    `field` is the path in the file (``conntrack.min``), or ``--flag`` for what has no
    field. `value` is printable and short. `accepted` completes "accepted: …".
    `others` are the fields the judgement rests on besides.
    """

    field: str
    value: str
    accepted: str
    others: tuple[str, ...] = ()
    where: str = ""

    def __str__(self) -> str:
        """Return place, value and remedy in one line."""
        return f"{self.where or self.field}: {self.value} cannot be used; accepted: {self.accepted}"


class InvalidConfigError(ConfigError):
    """A configuration with at least one value that cannot be used; `problems` has them all."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems and print one per line."""
        self.problems = tuple(problems)
        lines = [str(problem) for problem in problems]
        if len(lines) == 1:
            super().__init__(lines[0])
        else:
            listing = "\n  ".join(lines)
            super().__init__(f"{len(lines)} settings cannot be used:\n  {listing}")


def describe(value: object) -> str:
    """
    Return a short printable form of any decoded value.

    Only the size of a list or a mapping is named: what it holds may be huge.
    """
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "a mapping"
        case str() if type(value) is str:
            return repr(shorten(value))
        case int() if abs(value) >> 64:
            return "a huge number"
    return shorten(str(value))
