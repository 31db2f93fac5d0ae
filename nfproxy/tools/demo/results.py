"""
What the demo found out: plain values, printed as text or JSON.
"""

from __future__ import annotations

import msgspec

from nfproxy.errors import NfproxyError


class DemoError(NfproxyError):
    """Something the demo set out to show did not happen."""


class Size(msgspec.Struct, frozen=True, rename="camel"):
    """How large a node's tables are, both families together."""

    when: str
    chains: int
    rules: int
    elements: int


class Asked(msgspec.Struct, frozen=True, rename="camel"):
    """
    One row of requests: who asked whom, and what came of it.

    `answers` counts requests by the pod that answered, `seen` by the client address the pod
    saw; `refused` and `dropped` count those without an answer. `target` is address and port.
    `second_address`: sent from an address that is not the host's first.
    """

    service: str
    source: str
    source_address: str
    second_address: bool
    target: str
    url: str
    answers: dict[str, int]
    seen: dict[str, int]
    refused: int
    dropped: int
    remark: str


class Change(msgspec.Struct, frozen=True, rename="camel"):
    """
    One change made while connections run.

    `in_force_s` is the time from writing the file to both kernels answering accordingly, None
    where nothing was to change. `failures` describe connections that failed,
    `sent_again` counts packets that had to be sent twice.
    """

    what: str
    in_force_s: float | None
    connections: int
    failures: tuple[str, ...]
    sent_again: int
    answers: dict[str, int]


class Held(msgspec.Struct, frozen=True, rename="camel"):
    """Connections that stayed open during all changes, and what was asked over them."""

    connections: int
    requests: int
    failures: tuple[str, ...]


class Drift(msgspec.Struct, frozen=True, rename="camel"):
    """What ``nfproxy diff`` said before and after a stranger's command, and once mended."""

    before: str
    command: str
    after: str
    mended: str


class Results(msgspec.Struct, frozen=True, rename="camel"):
    """All of it."""

    requests: tuple[Asked, ...]
    changes: tuple[Change, ...]
    held: Held
    sizes: tuple[Size, ...]
    rows: tuple[str, ...]
    drift: Drift
    seconds: float
