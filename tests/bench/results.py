"""What is measured: plain values, in seconds and bytes, that print as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """
    Repeated durations in seconds.

    Where it is known, `kernel` is the part of the median spent in the commit, `quiet` how many
    were not interrupted by other processes, and `quiet_p99` the 99th percentile of those.
    """

    count: int
    median: float
    p99: float
    worst: float
    kernel: float | None = None
    quiet: int | None = None
    quiet_p99: float | None = None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Summarise at least one duration."""
        return cls(len(seconds), median(seconds), _p99(seconds), max(seconds))

    @classmethod
    def of_changes(cls, changes: Sequence[Change]) -> Spread:
        """Summarise at least one change."""
        quiet = [c.seconds for c in changes if not c.interrupted]
        return msgspec.structs.replace(
            cls.of([c.seconds for c in changes]),
            kernel=median(c.kernel for c in changes),
            quiet=len(quiet),
            quiet_p99=_p99(quiet) if quiet else None,
        )


class Change(NamedTuple):
    """One change: seconds in all and in the kernel; was the process made to wait for others?"""

    seconds: float
    kernel: float
    interrupted: bool


def _p99(seconds: Sequence[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


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
    `cpu` is the processor time of all that, the child's included, whatever other processes used.
    """

    total: float
    program: float
    difference: float
    encoding: float
    commit: float
    cpu: float
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
    """The chain-per-service layout at one size. `peak` and `cpu` are those of the nft process."""

    services: int
    endpoints: int
    text_bytes: int
    load: float
    cpu: float
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
