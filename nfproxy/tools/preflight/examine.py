"""
Readers side by side, each with a time limit, then the judgements, one after the other.

A reader that fails or hangs costs the checks that need it, and no other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from nfproxy.errors import NfproxyError
from nfproxy.text import shorten
from nfproxy.tools.preflight.findings import Finding, Verdict, warn

T = TypeVar("T")
U = TypeVar("U")

_TEXT_LIMIT = 600  # characters of what is found, and of a remedy


class UnreadError(NfproxyError):
    """Facts that a check needs could not be had."""


class Reader(Generic[T]):
    """
    A way to get facts; `name` says of what, for people.

    It runs in a thread of its own, and may wait for the facts of another reader.
    """

    def __init__(self, name: str, read: Callable[[], T], limit_s: float = 8.0) -> None:
        """Take the function that reads, and how long it may take."""
        self.name = name
        self.limit_s = limit_s
        self._read = read
        self._done = threading.Event()
        self._deadline = 0.0
        self._facts: list[T] = []
        self._trouble = ""

    def start(self) -> None:
        """Read, in the background; a thread that hangs does not keep the process alive."""
        self._deadline = time.monotonic() + self.limit_s
        threading.Thread(target=self._work, name=f"read {self.name}", daemon=True).start()

    def _work(self) -> None:
        try:
            self._facts.append(self._read())
        except Exception as error:  # whatever it is, the other checks go on
            self._trouble = str(error) or type(error).__name__
        self._done.set()

    @property
    def finished(self) -> bool:
        """Tell whether it has come to an end, or its time is up."""
        return self._done.is_set() or time.monotonic() >= self._deadline

    def facts(self) -> T:
        """Wait for the facts and return them. Raises UnreadError."""
        if not self._done.wait(max(0.0, self._deadline - time.monotonic())):
            raise UnreadError(f"{self.name}: nothing was found within {self.limit_s:g} s")
        if not self._facts:
            raise UnreadError(f"{self.name}: {self._trouble}")
        return self._facts[0]

    def facts_or(self, otherwise: U) -> T | U:
        """Wait for the facts; return something else where there are none."""
        try:
            return self.facts()
        except UnreadError:
            return otherwise


class Check(NamedTuple):
    """A line of the report, or several: `name` as in JSON, and how to judge."""

    name: str
    judge: Callable[[], Verdict | Iterable[Verdict]]


def examine(
    readers: Sequence[Reader[object]], checks: Iterable[Check], progress: Callable[[str], None]
) -> list[Finding]:
    """
    Return what all checks find, in their order; `progress` is told what is waited for.
    """
    for reader in readers:
        reader.start()
    while waiting := [reader.name for reader in readers if not reader.finished]:
        progress(f"looking at {', '.join(waiting)}")
        time.sleep(0.02)
    progress("")
    return [
        Finding(check.name, verdict.level, _tidy(verdict.found), _tidy(verdict.remedy))
        for check in checks
        for verdict in _verdicts(check)
    ]


def _verdicts(check: Check) -> Sequence[Verdict]:
    try:
        verdicts = check.judge()
        return [verdicts] if isinstance(verdicts, Verdict) else list(verdicts)
    except UnreadError as error:
        return [
            warn(
                f"not looked at: {error}",
                "look at it on the node; `privileges` says what this process may do",
            )
        ]
    except Exception as error:
        return [
            warn(
                f"this check failed: {type(error).__name__}: {error}",
                "report it: the other checks are not affected",
            )
        ]


def _tidy(text: str) -> str:
    """Return text that others may have written as part of one line."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return shorten(" ".join(printable.split()), _TEXT_LIMIT)
