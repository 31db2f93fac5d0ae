"""
Text that fits a terminal: paragraphs, and tables whose cells are never broken.

A table that is too wide gives each row's first cell a line of its own, rather than wrap an address.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

#: Columns of numbers, which end at the same place.
_NUMBERS = frozenset({"NEW", "NEW/S", "OPEN", "UNANSWERED", "REFUSED/S", "USED/ALL"})
_GAP = "  "
_LEAST_PROSE = 16  # columns


def terminal_width() -> int:
    """Return the terminal's width in columns; that of COLUMNS, if it is set."""
    return shutil.get_terminal_size((80, 24)).columns


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def table_lines(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    width: int,
    *,
    ends_in_prose: bool = False,
) -> list[str]:
    """
    Return a table's lines. Columns that are empty in every row are left out.

    Where it is wider than `width`, the last column is broken at blanks if it is prose and there is
    room for some words. Else the first cell of a row is a line, and the others follow below.
    """
    cells = [tuple(row) for row in rows]
    used = [i for i in range(len(titles)) if i == 0 or any(row[i] for row in cells)]
    table = [tuple(titles[i] for i in used), *(tuple(row[i] for i in used) for row in cells)]
    lines = _padded(table)
    if max(map(len, lines), default=0) <= width or len(used) < 2:
        return lines
    before = _padded([row[:-1] for row in table], is_cut=False)
    room = width - len(before[0]) - len(_GAP)
    if ends_in_prose and used[-1] == len(titles) - 1 and room >= _LEAST_PROSE:
        return [
            line.rstrip()
            for start, row in zip(before, table, strict=True)
            for line in paragraph(start + _GAP, row[-1], width, len(start) + len(_GAP))
        ]
    rest = _padded([row[1:] for row in table])
    return [part for row, line in zip(table, rest, strict=True) for part in (row[0], _GAP + line)]


def _padded(table: Sequence[Sequence[str]], *, is_cut: bool = True) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    right = [title in _NUMBERS for title in table[0]]
    lines = []
    for row in table:
        parts = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, right, strict=True)
        )
        line = _GAP.join(parts)
        lines.append(line.rstrip() if is_cut else line)
    return lines


def paragraph(first: str, text: str, width: int, indent: int) -> list[str]:
    """Return a text's lines, broken at blanks, the first behind `first`, all at one column."""
    return textwrap.wrap(
        text,
        width=max(width, indent + 20),
        initial_indent=first.ljust(indent),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]
