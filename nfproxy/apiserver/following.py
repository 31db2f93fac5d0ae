"""
How it stands with each resource: listed or not, in order or in trouble.
"""

from __future__ import annotations

import asyncio
import logging

from msgspec import Raw

from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.intake import Intake
from nfproxy.kube.decoded import Kind
from nfproxy.kube.source import Report
from nfproxy.model.changes import Problem

log = logging.getLogger(__name__)


class Troubles:
    """
    What keeps resources from being followed, told once and not once for each of them.
    """

    def __init__(self, connection: Connection, report: Report) -> None:
        self._connection = connection
        self._report = report
        self._texts: dict[Kind, str] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong now."""
        return tuple(self._problem(text) for text in self._texts.values())

    def set(self, kind: Kind, text: str) -> None:
        """Take what keeps a kind from being followed; report what no other kind has told."""
        known = text in self._texts.values()
        self._texts[kind] = text
        if not known:
            self._report(self._problem(text))

    def clear(self, kind: Kind) -> None:
        """Take it that a kind is followed; log it when the last with the same trouble is."""
        text = self._texts.pop(kind, None)
        if text is not None and text not in self._texts.values():
            log.info("API server %s: in order again, after: %s", self._connection.host, text)

    def _problem(self, text: str) -> Problem:
        subject = f"API server {self._connection.host}".rstrip()
        return Problem("", subject, "", f"{text}; what is programmed stays, trying again")


class Following:
    """
    One kind's way into the intake; implements :class:`~nfproxy.apiserver.sink.Sink`.

    `listed` is set by the first complete list, `settled` then too, or when it is known that
    there will be none.
    """

    def __init__(self, kind: Kind, intake: Intake, troubles: Troubles) -> None:
        self.kind = kind
        self.listed = asyncio.Event()
        self.settled = asyncio.Event()
        self._intake = intake
        self._troubles = troubles

    def begin_list(self) -> None:
        """All objects are about to be told."""
        self._intake.begin_list(self.kind)

    def put(self, data: Raw) -> None:
        """Take an object."""
        self._intake.put(self.kind, data)

    def remove(self, data: Raw) -> None:
        """Take it that an object is gone."""
        self._intake.remove(self.kind, data)

    def end_list(self) -> None:
        """All objects have been told."""
        self._intake.end_list(self.kind)
        self.listed.set()
        self.settled.set()

    def trouble(self, text: str) -> None:
        """The kind cannot be followed at the moment."""
        self._troubles.set(self.kind, text)

    def well(self) -> None:
        """The kind is followed."""
        self._troubles.clear(self.kind)

    def unavailable(self) -> None:
        """The kind will not be told, until somebody changes something."""
        self.settled.set()
