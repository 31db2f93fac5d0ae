"""
Who is told what happens between us and the API server: metrics, and whoever posts Events.
"""

from __future__ import annotations

from typing import Protocol

from nfproxy.kube.decoded import Kind
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName


class Observer(Protocol):
    """
    Is told of everything, on the event loop; nothing here may block or raise.

    `host` is the API server's ``host:port``, `verb` the HTTP method, as in client-go's
    ``rest_client_*`` metrics. `resource` is the plural word of the API, e.g. ``services``.
    """

    def service_event(self) -> None:
        """A Service was added, changed or deleted, or told again by a new list."""
        ...

    def slice_event(self, changed: bool) -> None:
        """The same of an EndpointSlice; `changed` tells whether anything nfproxy reads did."""
        ...

    def listed(self, resource: str, objects: int, seconds: float) -> None:
        """A complete list has arrived."""
        ...

    def watch_ended(self, resource: str, reason: str) -> None:
        """A watch ended: ``closed``, ``expired``, ``silent``, ``malformed`` or ``failed``."""
        ...

    def undecodable(
        self, kind: Kind, name: ObjectName | None, problems: tuple[Problem, ...]
    ) -> None:
        """A version of an object cannot be used; told once, until what is wrong changes."""
        ...

    def api_server(self, host: str) -> None:
        """A server has answered, and this is the one in use; told with each answer."""
        ...

    def waited(self, verb: str, host: str, seconds: float) -> None:
        """A request waited this long for its turn (qps and burst)."""
        ...

    def request(self, verb: str, host: str, code: str, seconds: float, sent_bytes: int) -> None:
        """
        A request was answered after `seconds` (to the head of the response).

        `code` is the HTTP status, or ``<error>`` where there was no answer.
        """
        ...

    def received(self, verb: str, host: str, size_bytes: int) -> None:
        """The body of an answer has been read; not told of watches."""
        ...

    def retried(self, verb: str, host: str, code: str) -> None:
        """A request is made again after an answer of `code`, or ``<error>``."""
        ...


class Unobserved:
    """Implements :class:`Observer` by doing nothing."""

    def service_event(self) -> None:
        """Do nothing."""

    def slice_event(self, changed: bool) -> None:
        """Do nothing."""

    def listed(self, resource: str, objects: int, seconds: float) -> None:
        """Do nothing."""

    def watch_ended(self, resource: str, reason: str) -> None:
        """Do nothing."""

    def undecodable(
        self, kind: Kind, name: ObjectName | None, problems: tuple[Problem, ...]
    ) -> None:
        """Do nothing."""

    def api_server(self, host: str) -> None:
        """Do nothing."""

    def waited(self, verb: str, host: str, seconds: float) -> None:
        """Do nothing."""

    def request(self, verb: str, host: str, code: str, seconds: float, sent_bytes: int) -> None:
        """Do nothing."""

    def received(self, verb: str, host: str, size_bytes: int) -> None:
        """Do nothing."""

    def retried(self, verb: str, host: str, code: str) -> None:
        """Do nothing."""
