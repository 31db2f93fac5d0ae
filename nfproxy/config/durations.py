"""
Durations as Go writes them: ``1h2m3.5s``.

Source: Go's ``time.ParseDuration`` and ``Duration.String``, which the Kubernetes type
``metav1.Duration`` uses for its text form.
"""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, micro sign
    "μs": 1_000,  # U+03BC, Greek letter mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_TERM = re.compile(_PART, re.ASCII)
_TEXT = re.compile(rf"([-+]?)(0|(?:{_PART})+)", re.ASCII)
_LIMIT = 1 << 63  # int64 nanoseconds, about 292 years
_MAX_TEXT = 256

SECOND = _UNITS["s"]


class Duration(int):
    """A length of time in nanoseconds; prints in Go's form."""

    __slots__ = ()

    @classmethod
    def of(cls, seconds: float) -> Duration:
        """Return a duration of some seconds."""
        return cls(round(seconds * SECOND))

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return int(self) / SECOND

    def __str__(self) -> str:
        """Return Go's text."""
        return format_duration(self)

    def __repr__(self) -> str:
        """Return the class and Go's text."""
        return f"Duration({str(self)!r})"


def parse_duration(text: str) -> Duration:
    """
    Return the duration that a Go duration text means.

    Every number has a unit, in any order; only ``0`` may stand alone. Fractions of a nanosecond are
    cut off. Raises ValueError for other texts and for durations beyond 64 bits.
    """
    match = _TEXT.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise ValueError("not a duration")
    total = sum(_nanoseconds(*term) for term in _TERM.findall(match[2]))
    if match[1] == "-":
        total = -total
    if not -_LIMIT <= total < _LIMIT:
        raise ValueError("duration too long")
    return Duration(total)


def _nanoseconds(number: str, unit: str) -> int:
    whole, _, fraction = number.partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * _UNITS[unit] // scale


def format_duration(nanoseconds: int) -> str:
    """Return Go's text: ``24h0m0s``, ``1m30.5s``, ``250ms``, ``0s``."""
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(nanoseconds)
    if rest == 0:
        return "0s"
    if rest < SECOND:
        unit = next(u for u in ("ms", "µs", "ns") if rest >= _UNITS[u])
        return f"{sign}{_decimal(rest, _UNITS[unit])}{unit}"
    minutes, rest = divmod(rest, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, SECOND)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _decimal(value: int, scale: int) -> str:
    """Return value/scale in full, without trailing zeros."""
    whole, rest = divmod(value, scale)
    if not rest:
        return str(whole)
    digits = len(str(scale)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")
