"""
Text that fits a terminal: paragraphs, and tables whose cells are not broken, but prose at blanks.

A table that is too wide has the prose of a row, or all but its first cell, on lines below it,
rather than an address in two parts.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

#: Columns of numbers, which end at the same place.
_NUMBERS = frozenset({"NEW", "NEW/S", "OPEN", "UNANSWERED", "REFUSED/S", "USED/ALL", "COUNT"})
_GAP, _BELOW = "  ", "    "
_LEAST_PROSE = 16  # columns


def terminal_width() -> int:
    """Return the terminal's width in columns; that of COLUMNS, if it is set."""
    return shutil.get_terminal_size((80, 24)).columns


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def is_dumb() -> bool:
    """Whether the terminal says that it knows no colours and does not move its cursor."""
    return os.environ.get("TERM") == "dumb"


def table_lines(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    width: int,
    *,
    prose: Sequence[str] = (),
) -> list[str]:
    """
    Return the lines of `table_blocks`, one after the other.

    A row whose first line is that of the row before it, as its cells follow below, is without it.
    """
    lines: list[str] = []
    head = ""
    for first, *more in table_blocks(titles, rows, width, prose=prose):
        lines += more if more and first == head else [first, *more]
        head = first
    return lines


def table_blocks(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    width: int,
    *,
    prose: Sequence[str] = (),
) -> list[list[str]]:
    """
    Return a table's lines: of the titles, then of each row. Empty columns are left out.

    `prose` names columns whose cells may be broken at blanks; a line break there is kept. Where the
    table is wider than `width`, the last column is broken if it is prose and there is room for some
    words. Else all prose follows below each row. Where the rest is too wide, too, the first cell of
    a row is a line, and the others follow below.
    """
    cells = [tuple(row) for row in rows]
    used = [i for i in range(len(titles)) if i == 0 or any(row[i] for row in cells)]
    table = [tuple(titles[i] for i in used), *(tuple(row[i] for i in used) for row in cells)]
    lines = _padded([tuple(cell.partition("\n")[0] for cell in row) for row in table])
    is_plain = not any("\n" in cell for row in table for cell in row)
    if is_plain and (max(map(len, lines)) <= width or len(used) < 2):
        return [[line] for line in lines]
    before = _padded([row[:-1] for row in table], is_cut=False)
    column = len(before[0]) + len(_GAP)
    if table[0][-1] in prose and width - column >= _LEAST_PROSE:
        return [
            [
                line.rstrip()
                for number, text in enumerate(row[-1].split("\n"))
                for line in paragraph("" if number else start + _GAP, text, width, column)
            ]
            for start, row in zip(before, table, strict=True)
        ]
    below = [i for i, title in enumerate(table[0]) if title in prose and i]
    if below:
        heads = [tuple(cell for i, cell in enumerate(row) if i not in below) for row in table]
        blocks = table_blocks(heads[0], heads[1:], width)
        for block, row in zip(blocks[1:], table[1:], strict=True):
            texts = [text for i in below for text in row[i].split("\n") if text]
            block += [x for text in texts for x in paragraph("", text, width, len(_BELOW))]
        return blocks
    rest = _padded([row[1:] for row in table])
    return [[row[0], _GAP + line] for row, line in zip(table, rest, strict=True)]


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
