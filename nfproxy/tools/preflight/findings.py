"""
What a check comes to.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

import msgspec


class Level(enum.StrEnum):
    """How it stands: as it should be, worth a look, or nfproxy would not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


_SEVERITY = (Level.OK, Level.WARN, Level.FAIL)


class Verdict(NamedTuple):
    """What a judgement comes to; `remedy` is "" where nothing need be done."""

    level: Level
    found: str
    remedy: str = ""


class Finding(msgspec.Struct, frozen=True):
    """A line of the report: which check, what was found, what to do about it."""

    check: str
    level: Level
    found: str
    remedy: str = ""


class Report(msgspec.Struct, frozen=True):
    """Everything that was found about a node, in a fixed order; `result` is the worst level."""

    node: str
    result: Level
    checks: tuple[Finding, ...]


def ok(found: str) -> Verdict:
    """Return that something is as it should be."""
    return Verdict(Level.OK, found)


def warn(found: str, remedy: str) -> Verdict:
    """Return that something is worth a look."""
    return Verdict(Level.WARN, found, remedy)


def fail(found: str, remedy: str) -> Verdict:
    """Return that nfproxy would not work here."""
    return Verdict(Level.FAIL, found, remedy)


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst of some levels, ok for none."""
    return max(levels, key=_SEVERITY.index, default=Level.OK)
