"""What a judgement returns, and the report."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterable

import msgspec


class Level(enum.StrEnum):
    """
    How a check ended: fit, worth a look, or nfproxy would not work here.

    SKIP is what this process cannot see, NOTE what differs from the best and does no harm. Neither
    makes a node less fit.
    """

    OK = "ok"
    SKIP = "skip"
    NOTE = "note"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """
    One line of the report.

    `check` is the name of the check, "" until `examine` fills it in. `remedy` says what to do, ""
    where there is nothing to do.
    """

    check: str
    level: Level
    found: str
    remedy: str = ""


class NodeReport(msgspec.Struct, frozen=True):
    """All findings about a node, in a fixed order; `result` is the worst level."""

    node: str
    result: Level
    checks: tuple[Finding, ...]


def ok(found: str) -> Finding:
    """Return that something is fit."""
    return Finding("", Level.OK, found)


def warn(found: str, remedy: str) -> Finding:
    """Return that something is worth a look."""
    return Finding("", Level.WARN, found, remedy)


def skip(found: str, remedy: str) -> Finding:
    """Return that something was not looked at, because it is not visible from here."""
    return Finding("", Level.SKIP, f"not looked at: {found}", remedy)


def note(found: str, remedy: str) -> Finding:
    """Return that something could be better and does no harm."""
    return Finding("", Level.NOTE, found, remedy)


def fail(found: str, remedy: str) -> Finding:
    """Return that nfproxy would not work here."""
    return Finding("", Level.FAIL, found, remedy)


def or_ok(found: str) -> Callable[[Callable[..., Iterable[Finding]]], Callable[..., list[Finding]]]:
    """Let a judgement return that something is fit where it finds nothing else."""

    def decorate(judge: Callable[..., Iterable[Finding]]) -> Callable[..., list[Finding]]:
        return functools.wraps(judge)(lambda *facts: list(judge(*facts)) or [ok(found)])

    return decorate


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst of some levels, ok for none, for SKIP and for NOTE."""
    found = max(levels, key=list(Level).index, default=Level.OK)
    return found if found in (Level.WARN, Level.FAIL) else Level.OK
