"""What the demo prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

from rich.console import Console
from rich.text import Text

from nfproxy.tools.demo.results import (
    HeldConnections,
    RequestResult,
    Results,
    ServiceChange,
    TableSize,
)
from nfproxy.tools.demo.tableview import ElementRow

_WIDTH = 100
_INDENT = 2
_GAP = 2
_TIMES = "\u00d7"
_REQUEST_COLUMNS = ("  FROM", "TO", "ANSWERED BY", "POD SEES CLIENT")


class Screen:
    """
    Prints the demo on standard output or, with `quiet`, only its steps on standard error.

    A terminal gets colours and a spinner, other outputs plain text. One thread uses it.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        stream = sys.stderr if quiet else sys.stdout
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace", line_buffering=True)
        self._quiet = quiet
        self._console = Console(
            stderr=quiet, highlight=False, width=None if stream.isatty() else _WIDTH
        )

    @contextmanager
    def step(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Show what is going on; then a tick, what was done and the time it took."""
        began = time.monotonic()
        done = [doing]
        with self._console.status(f"{doing} …"):
            yield done.append
        line = Text.assemble(("✓ ", "bold green"), done[-1])
        line.append(f"  {time.monotonic() - began:.1f} s", "dim")
        self._console.print(line, soft_wrap=True)

    def heading(self, text: str, note: str = "") -> None:
        """Begin a section."""
        if self._quiet:
            return
        line = Text(text, "bold")
        if note:
            line.append(f"  {note}", "not bold dim")
        self._console.print()
        self._console.print(line, soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """Print some lines, indented."""
        for line in text.splitlines():
            self._print(Text(line, style))

    def announce(self, text: str) -> None:
        """Print a text even with `quiet`."""
        self._console.print()
        self._console.print(Text(text), soft_wrap=True)

    def trouble(self, text: str) -> None:
        """Print a text that may explain a failure, on standard error."""
        Console(stderr=True, highlight=False).print(Text(text), soft_wrap=True)

    def requests(
        self, rows: Sequence[RequestResult], about: Mapping[str, str], names: Mapping[str, str]
    ) -> None:
        """Print the requests, a title and a few rows for each Service."""
        cells = [(f"  {row.source}", row.target, _answered(row), _seen(row, names)) for row in rows]
        head, *lines = _aligned(_REQUEST_COLUMNS, cells)
        self._print(head)
        service = ""
        for row, line in zip(rows, lines, strict=True):
            if row.service != service:
                service = row.service
                self._print(Text.assemble((service, "bold cyan"), "  ", (about[service], "dim")))
            self._print(line)

    def changes(self, rows: Sequence[ServiceChange], held: HeldConnections) -> None:
        """Print the changes and the connections made meanwhile."""
        pods = sorted({pod for row in rows for pod in row.answers})
        cells = [
            (
                row.what,
                "" if row.in_force_s is None else f"{row.in_force_s * 1000:.0f} ms",
                f"{row.connections:,}",
                str(len(row.failures)),
                *(str(row.answers.get(pod, "-")) for pod in pods),
            )
            for row in rows
        ]
        head = ("", "IN KERNEL", "CONNECTIONS", "FAILED", *pods)
        for line in _aligned(head, cells, right=True):
            self._print(line)
        self.say(
            f"{held.connections} connections stayed open throughout: {held.requests:,} requests, "
            f"{len(held.failures)} failed.\nNo packet had to be sent again."
        )

    def sizes(self, sizes: Sequence[TableSize]) -> None:
        """Print how the tables grow."""
        cells = [
            (size.when, f"{size.chains:,}", f"{size.rules:,}", f"{size.elements:,}")
            for size in sizes
        ]
        for line in _aligned(("", "CHAINS", "RULES", "ELEMENTS"), cells, right=True):
            self._print(line)

    def rows(self, rows: Sequence[ElementRow]) -> None:
        """Print elements after the names of their maps."""
        cells = [(Text(f"@{row.map}", "cyan"), row.element) for row in rows]
        for line in _aligned(("", ""), cells)[1:]:
            self._print(line)

    def farewell(self, results: Results) -> None:
        """Print the last lines."""
        made = sum(change.connections for change in results.changes)
        self.heading(
            "Done. The demo has removed everything.",
            f"{results.seconds:.0f} s; {made:,} connections during changes, none failed",
        )

    def _print(self, line: Text) -> None:
        if not self._quiet:
            indented = Text(" " * _INDENT).append_text(line)
            indented.rstrip()
            self._console.print(indented, soft_wrap=True)


def _aligned(
    head: Sequence[str], rows: Sequence[Sequence[Text | str]], *, right: bool = False
) -> list[Text]:
    """Return lines of aligned columns, the head first; `right` aligns all but the first column."""
    texts = [[Text(word, "dim") for word in head]]
    texts += [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*texts, strict=True)]
    return [_line(cells, widths, right=right) for cells in texts]


def _line(cells: Sequence[Text], widths: Sequence[int], *, right: bool) -> Text:
    line = Text()
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        blank = Text(" " * (width - len(cell)))
        line.append(" " * _GAP if index else "")
        for part in (blank, cell) if right and index else (cell, blank):
            line.append_text(part)
    return line


def _answered(row: RequestResult) -> Text:
    if row.dropped:
        return Text("no answer: dropped", "yellow")
    if row.refused:
        return Text("refused", "yellow")
    answers = sorted(row.answers.items())
    return Text("  ".join(f"{pod} {_TIMES}{count}" for pod, count in answers))


def _seen(row: RequestResult, names: Mapping[str, str]) -> Text:
    text = Text(", ".join(dict.fromkeys(names[address] for address in row.seen)))
    if row.remark:
        text.append(f"{'  ' if text else ''}{row.remark}", "dim")
    return text
