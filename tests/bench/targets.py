"""What the benchmark should show on a machine with two cores, and what it did show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bench.connections import BASELINE, NFPROXY
from bench.objects import Size
from bench.results import Results

MAIN = Size(10_000, 10)
MANY = Size(44_000, 1)

#: Connection latencies closer than this are the same: rounds of one variant differ by more.
NOISE = 0.03


class Target(NamedTuple):
    """One target: what, how much, what was measured, and whether that is enough."""

    what: str
    wanted: str
    measured: str
    met: bool

    @property
    def verdict(self) -> str:
        """Whether it is met, for a line of its own."""
        return "met" if self.met else "NOT MET"


def targets(results: Results) -> Iterator[Target]:
    """Yield the targets whose sizes were measured."""
    measured = {Size(m.services, m.endpoints): m for m in results.nfproxy}
    baseline = {Size(b.services, b.endpoints): b for b in results.baseline}
    if MAIN in measured and MAIN in baseline:
        load, other = measured[MAIN].first_load.total, baseline[MAIN].load
        planned = load + measured[MAIN].planning
        yield _at_least(f"first load, {MAIN}", 20, other / load)
        yield _at_least(f"planning and first load, {MAIN}", 8, other / planned)
    for size in (MAIN, MANY):
        if size in measured:
            spread = measured[size].changes["one endpoint replaced"]
            yield at_most(f"one endpoint replaced, median, {size}", 0.5, spread.median * 1e3, "ms")
            yield at_most(f"one endpoint replaced, p99, {size}", 2, spread.p99 * 1e3, "ms")
    if MAIN in measured:
        resident = measured[MAIN].memory.resident / 1e6
        yield at_most(f"settled memory, {MAIN}", 120, resident, "MB")
    if results.connections_size == str(MAIN):
        ours, theirs = (results.connections[name].latency.median for name in (NFPROXY, BASELINE))
        yield Target(
            f"connection latency, median, {results.connections_size}",
            "no worse than the baseline's",
            f"{ours * 1e6:.1f} µs against {theirs * 1e6:.1f} µs",
            ours <= theirs * (1 + NOISE),
        )


def _at_least(what: str, wanted: float, ratio: float) -> Target:
    return Target(
        what, f"≥ {wanted:g} times as fast as the baseline", f"{ratio:.1f} times", ratio >= wanted
    )


def at_most(what: str, wanted: float, value: float, unit: str) -> Target:
    """Return the target of a number that is to be small."""
    return Target(what, f"≤ {wanted:g} {unit}", f"{value:.3g} {unit}", value <= wanted)
