"""
What commands print: tables, JSON and YAML on standard output, warnings on standard error.

A table has columns and colours on a terminal. Elsewhere it is one line per row, tab-separated, so
that other programs can read it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import click
import msgspec

from nfproxy.cli.textlayout import is_dumb, is_terminal, table_blocks, terminal_width


def output_option(*forms: str, help: str) -> Callable[[Any], Any]:
    """Return the option ``-o``: one of some forms of output, the first by default."""
    return click.option(
        "-o", "--output", type=click.Choice(forms), default=forms[0], show_default=True, help=help
    )


def warn(text: str) -> None:
    """Print a warning to standard error."""
    click.echo(f"nfproxy: warning: {text}", err=True)


def print_data(data: object, form: str) -> None:
    """Print structs, lists and mappings as ``json`` or ``yaml``, keys in their own order."""
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
    else:
        from nfproxy.yaml import dump

        plain = msgspec.to_builtins(data)
        click.echo(dump(plain), nl=False)


class OutputRow(NamedTuple):
    """
    One row of a table: its cells, and the colour of the first.

    `plain` are the cells of the tab-separated line where they differ, () where they do not.
    """

    cells: tuple[str, ...]
    colour: str
    plain: tuple[str, ...] = ()


def print_table(
    titles: Sequence[str], rows: Iterable[OutputRow], *, prose: Sequence[str] = ()
) -> None:
    """
    Print rows as a table on a terminal, as tab-separated lines without titles elsewhere.

    `prose` names the columns that may be broken at blanks.
    """
    table = list(rows)
    if not is_terminal():
        for row in table:
            click.echo("\t".join(row.plain or row.cells))
        return
    cells = [row.cells for row in table]
    head, *blocks = table_blocks(titles, cells, terminal_width(), prose=prose)
    click.echo("\n".join(head))
    for row, (first, *more) in zip(table, blocks, strict=True):
        start = len(row.cells[0])
        click.echo("\n".join((coloured(first[:start], row.colour) + first[start:], *more)))


def print_summary(text: str, verdict: str, colour: str) -> None:
    """Print a line after a table, with its end in a colour; on a terminal only."""
    if is_terminal():
        click.echo(f"\n{text}: {coloured(verdict, colour)}")


def coloured(text: str, colour: str) -> str:
    """Return a text in a colour; "dim" is one, too, and "" none."""
    if not colour or not text or os.environ.get("NO_COLOR") or is_dumb():
        return text
    return click.style(text, dim=True) if colour == "dim" else click.style(text, fg=colour)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Give a function that shows on a terminal what the command waits for."""
    if not sys.stderr.isatty() or is_dumb():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True, highlight=False).status("") as status:
        yield lambda text: status.update(escape(text))
