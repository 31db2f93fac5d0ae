"""Results as tables, for a terminal, a file or a README."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from bench.objects import Size
from bench.results import Baseline, Measured, Results, Spread
from bench.targets import targets

METHOD = """\
A process of its own for each size decodes the JSON of both lists (pages of 500 objects), plans, and
loads an empty network namespace, both families' tables, with the daemon's parts. First load is one
Reconciler.sync, the garbage collector paused. A change is timed from the decoded object to the
acknowledged commit (Planner.apply and Reconciler.sync, not the event loop's hand-over to a thread);
what lingers is tidied up between, untimed. "new shape": a number of endpoints that no Service had,
so that a child process makes its chain first. "in the kernel" is the time until a transaction's
answer; "not interrupted": the scheduler gave the processor to no other process meanwhile. Memory is
that of the measuring process at its end, the daemon's modules included; of the
baseline, nft's peak. The baseline has one chain for each service port, loaded by `nft -f` and
changed by rewriting one chain with `nft -f -`; making its text is not counted. MB are 10^6
bytes."""


REPLACED = "one endpoint replaced"


class Table(NamedTuple):
    """A table: a title, column heads (the first is of the row names), rows."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(results: Results) -> Iterator[Table]:
    """Yield everything there is to show."""
    sizes = [str(Size(m.services, m.endpoints)) for m in results.nfproxy]
    if results.nfproxy:
        heads = ("nfproxy: Services x endpoints", *sizes)
        yield Table("First load and memory", heads, list(_load_rows(results.nfproxy)))
        yield Table("Changes (median / p99 in ms)", heads, list(_change_rows(results.nfproxy)))
    if results.baseline:
        yield _baseline_table(results)
    if results.connections:
        yield _connection_table(results)
    found = list(targets(results))
    if found:
        rows = [(t.what, t.wanted, t.measured, "met" if t.met else "MISSED") for t in found]
        yield Table("Targets for two cores", ("target", "wanted", "measured", ""), rows)


def _load_rows(measured: Sequence[Measured]) -> Iterator[Sequence[str]]:
    rows: list[tuple[str, Callable[[Measured], str]]] = [
        ("JSON decoded to objects", lambda m: f"{_s(m.decoding)} ({_mb(m.json_bytes)})"),
        ("planning, from objects", lambda m: _s(m.planning)),
        ("first load into the kernel", lambda m: _s(m.first_load.total)),
        ("  program, by a child process", lambda m: _s(m.first_load.program)),
        ("  difference", lambda m: _s(m.first_load.difference)),
        ("  encoding", lambda m: _s(m.first_load.encoding)),
        ("  commit", lambda m: _s(m.first_load.commit)),
        ("  processor time", lambda m: _s(m.first_load.cpu)),
        ("elements", lambda m: f"{m.first_load.operations:,}"),
        ("memory before any object", lambda m: _mb(m.memory.start)),
        ("memory settled, resident", lambda m: _mb(m.memory.resident)),
        (
            "  proportional / unique",
            lambda m: f"{_mb(m.memory.proportional)} / {_mb(m.memory.unique)}",
        ),
        ("memory at its peak", lambda m: _mb(m.memory.peak)),
    ]
    for name, value in rows:
        yield (name, *(value(m) for m in measured))


def _change_rows(measured: Sequence[Measured]) -> Iterator[Sequence[str]]:
    for name in measured[0].changes:
        yield (name, *(_spread(m.changes[name]) for m in measured))
        yield ("  median in the kernel", *(_ms(m.changes[name].kernel) for m in measured))
        yield ("  p99 if not interrupted", *(_quiet(m.changes[name]) for m in measured))
    yield ("decoding a slice's JSON before", *(_spread(m.decode_slice) for m in measured))


def _baseline_table(results: Results) -> Table:
    ours = {(m.services, m.endpoints): m for m in results.nfproxy}
    pairs = [(b, ours.get((b.services, b.endpoints))) for b in results.baseline]
    heads = ["chain per service port, nft -f"]
    heads += [str(Size(b.services, b.endpoints)) for b, _ in pairs]
    rows: list[tuple[str, Callable[[Baseline, Measured | None], str]]] = [
        ("first load", lambda b, _: f"{_s(b.load)} ({_mb(b.text_bytes)})"),
        ("  nfproxy's first load", lambda b, m: _ratio(b.load, m.first_load.total if m else None)),
        (
            "  nfproxy's planning and first load",
            lambda b, m: _ratio(b.load, m.planning + m.first_load.total if m else None),
        ),
        ("  processor time", lambda b, _: _s(b.cpu)),
        (
            "  nfproxy's first load, by processor time",
            lambda b, m: _ratio(b.cpu, m.first_load.cpu if m else None),
        ),
        ("one endpoint replaced (ms)", lambda b, _: _spread(b.replaced)),
        (
            "  nfproxy's median",
            lambda b, m: _ratio(b.replaced.median, m.changes[REPLACED].median if m else None),
        ),
        ("memory of nft at its peak", lambda b, _: _mb(b.peak)),
    ]
    return Table(
        "Baseline, and how many times as fast nfproxy is",
        heads,
        [(name, *(value(b, m) for b, m in pairs)) for name, value in rows],
    )


def _connection_table(results: Results) -> Table:
    rows = [
        (
            name,
            f"{c.latency.median * 1e6:.1f}",
            f"{c.latency.p99 * 1e6:.1f}",
            f"{c.per_second:,.0f}",
            f"{c.latency.count:,}",
        )
        for name, c in results.connections.items()
    ]
    heads = ("through", "median µs", "p99 µs", "connections/s", "measured")
    return Table(f"New TCP connections, tables of {results.connections_size}", heads, rows)


def _s(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _spread(spread: Spread) -> str:
    return f"{spread.median * 1e3:.3f} / {spread.p99 * 1e3:.3f}"


def _ms(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds * 1e3:.3f}"


def _quiet(spread: Spread) -> str:
    return f"{_ms(spread.quiet_p99)} ({spread.quiet} of {spread.count})"


def _ratio(theirs: float, ours: float | None) -> str:
    return f"{theirs / ours:.1f} times as fast" if ours else "not measured"


def print_text(results: Results, console: Console) -> None:
    """Print tables for people; plain where the output is no terminal."""
    console.print(_facts(results), soft_wrap=True, highlight=False)
    for table in tables(results):
        shown = RichTable(title=table.title, title_justify="left", title_style="bold")
        for index, head in enumerate(table.heads):
            shown.add_column(head, justify="right" if index else "left", no_wrap=True)
        for row in table.rows:
            shown.add_row(*row)
        console.print()
        console.print(shown)
    console.print()
    console.print(METHOD, soft_wrap=True, highlight=False)


def markdown(results: Results) -> str:
    """Return the tables for a README."""
    parts = [_facts(results)]
    for table in tables(results):
        lines = [f"**{table.title}**", "", _row(table.heads)]
        lines.append(_row(["---", *("---:" for _ in table.heads[1:])]))
        lines += [_row(row) for row in table.rows]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, METHOD]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('  ', '&nbsp;&nbsp;', 1) for cell in cells)} |"


def _facts(results: Results) -> str:
    words = [f"{name}: {value}" for name, value in results.machine.items()]
    return "; ".join([*words, f"whole run: {results.seconds:.0f} s"])
