"""What ``nfproxy diff`` prints for people: on a terminal, and as tab-separated lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nfproxy.cli.output import coloured
from nfproxy.cli.textlayout import paragraph, table_blocks
from nfproxy.plan.desired import Desired
from nfproxy.views.amounts import amounts_text
from nfproxy.views.compare import DIFFERS, FOREIGN, MISSING, SURPLUS, Difference

_COLOURS = {MISSING: "red", SURPLUS: "red", DIFFERS: "yellow", FOREIGN: "blue"}
_TITLES = ("KERNEL", "FAMILY", "SERVICE", "WHAT")
_INDENT = "    "


def difference_lines(rows: Sequence[Difference], width: int) -> Iterator[str]:
    """
    Yield the lines of a table, each row's details on lines of their own below it.

    Its first line says how to read them.
    """
    cells = [(row.change, row.family, row.service, row.subject) for row in rows]
    head, *blocks = table_blocks(_TITLES, cells, width)
    yield "kernel → should be; - is too much there, + is missing"
    yield ""
    yield from head
    for row, (first, *more) in zip(rows, blocks, strict=True):
        yield coloured(row.change, _COLOURS[row.change]) + first[len(row.change) :]
        yield from more
        for detail in row.details:
            sign = detail[:2] if detail[:2] in ("- ", "+ ") else ""
            yield from paragraph(_INDENT + sign, detail[len(sign) :], width, len(_INDENT + sign))


def difference_row(row: Difference) -> tuple[str, ...]:
    """Return a row's cells where they are separated by tabs: details in the last one."""
    return (row.change, row.family, row.service or "-", row.subject, "; ".join(row.details))


def equal_line(desired: Desired, source: str) -> str:
    """Return what the kernel holds, and whose word that was compared with."""
    return f"equal: {amounts_text(desired)}, as {source} says"
