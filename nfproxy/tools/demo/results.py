"""What the demo measured: plain values, printed as text or JSON."""

from __future__ import annotations

import msgspec

from nfproxy.errors import NfproxyError


class DemoError(NfproxyError):
    """A claim of the demo did not hold."""


class TableSize(msgspec.Struct, frozen=True, rename="camel"):
    """The size of a node's tables, both families together."""

    when: str
    chains: int
    rules: int
    elements: int


class RequestResult(msgspec.Struct, frozen=True, rename="camel"):
    """
    One row of requests, from one host to one address.

    `target` is address and port. `answers` counts requests by the pod that answered, `seen` by the
    client address that the pod saw; `refused` and `dropped` count requests without an answer.
    """

    service: str
    source: str
    source_address: str
    target: str
    answers: dict[str, int]
    seen: dict[str, int]
    refused: int
    dropped: int
    remark: str


class ServiceChange(msgspec.Struct, frozen=True, rename="camel"):
    """
    A change that the demo made while connections ran.

    `in_force_s` is the time from writing the file until both kernels had the change, None where the
    change needed none. `failures` describe connections that failed; one whose first packet had to
    be sent again is among them.
    """

    what: str
    in_force_s: float | None
    connections: int
    failures: tuple[str, ...]
    answers: dict[str, int]


class HeldConnections(msgspec.Struct, frozen=True, rename="camel"):
    """The connections that stayed open during all changes, and the requests over them."""

    connections: int
    requests: int
    failures: tuple[str, ...]


class Drift(msgspec.Struct, frozen=True, rename="camel"):
    """The output of ``nfproxy diff`` before and after another command, and after the repair."""

    before: str
    command: str
    after: str
    mended: str


class Results(msgspec.Struct, frozen=True, rename="camel"):
    """Everything that the demo measured."""

    requests: tuple[RequestResult, ...]
    changes: tuple[ServiceChange, ...]
    held: HeldConnections
    sizes: tuple[TableSize, ...]
    rows: tuple[str, ...]
    drift: Drift
    seconds: float
