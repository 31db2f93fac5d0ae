"""
What is measured: plain values, in seconds and bytes, that print as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """Repeated durations in seconds; `kernel` is the part of the median spent in the commit."""

    count: int
    median: float
    p99: float
    worst: float
    kernel: float = 0.0

    @classmethod
    def of(cls, seconds: Sequence[float], kernel: Sequence[float] = ()) -> Spread:
        """Summarise at least one duration."""
        ordered = sorted(seconds)
        at = min(len(ordered) - 1, int(len(ordered) * 0.99))
        return cls(
            len(ordered),
            median(ordered),
            ordered[at],
            ordered[-1],
            median(kernel) if kernel else 0.0,
        )


class Memory(msgspec.Struct, frozen=True):
    """Memory of the measuring process in bytes: `peak` resident, then what it settled at."""

    start: int
    peak: int
    resident: int
    proportional: int
    unique: int


class FirstLoad(msgspec.Struct, frozen=True):
    """
    The way of all objects into an empty kernel, in seconds.

    `total` is one Reconciler.sync: `program` (both families' tables and chains, by a child
    process), `difference` (from the desired state to operations), `encoding` and `commit`.
    """

    total: float
    program: float
    difference: float
    encoding: float
    commit: float
    operations: int


class Measured(msgspec.Struct, frozen=True):
    """nfproxy at one size. `changes` has one spread per kind of change, by its name."""

    services: int
    endpoints: int
    decoding: float
    json_bytes: int
    planning: float
    first_load: FirstLoad
    memory: Memory
    decode_slice: Spread
    changes: dict[str, Spread]


class Baseline(msgspec.Struct, frozen=True):
    """The chain-per-service layout at one size. `peak` is that of the nft process, in bytes."""

    services: int
    endpoints: int
    text_bytes: int
    load: float
    peak: int
    replaced: Spread


class Connections(msgspec.Struct, frozen=True):
    """TCP connections through one variant: time of connect(2), and how many a second."""

    latency: Spread
    per_second: float


class Results(msgspec.Struct, frozen=True):
    """Everything one run found. `machine` are facts about it, by name."""

    machine: dict[str, str]
    nfproxy: list[Measured]
    baseline: list[Baseline]
    connections: dict[str, Connections]
    connections_size: str
    seconds: float
