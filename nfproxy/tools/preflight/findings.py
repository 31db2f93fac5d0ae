"""What a judgement returns, and the report."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterable

import msgspec


class Level(enum.StrEnum):
    """How a check ended: fit, worth a look, or nfproxy would not work here."""

    OK = "ok"
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


def fail(found: str, remedy: str) -> Finding:
    """Return that nfproxy would not work here."""
    return Finding("", Level.FAIL, found, remedy)


def or_ok(found: str) -> Callable[[Callable[..., Iterable[Finding]]], Callable[..., list[Finding]]]:
    """Let a judgement return that something is fit where it finds nothing else."""

    def decorate(judge: Callable[..., Iterable[Finding]]) -> Callable[..., list[Finding]]:
        return functools.wraps(judge)(lambda *facts: list(judge(*facts)) or [ok(found)])

    return decorate


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst of some levels, ok for none."""
    return max(levels, key=list(Level).index, default=Level.OK)
