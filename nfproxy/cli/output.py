"""
What commands print: tables, JSON and YAML on standard output, warnings on standard error.

A table has columns and colours on a terminal. Elsewhere it is one line per row, tab-separated, so
that other programs can read it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

if TYPE_CHECKING:  # rich is imported when a terminal is there: other commands start faster
    from rich.console import Console


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


def print_table(titles: Sequence[str], rows: Iterable[OutputRow]) -> None:
    """Print rows as a table on a terminal, as tab-separated lines without titles elsewhere."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row.plain or row.cells))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        first, *others = row.cells
        table.add_row(Text(first, row.colour), *map(Text, others))
    _console().print(table)


def print_summary(text: str, verdict: str, colour: str) -> None:
    """Print a line after a table, with its end in a colour; on a terminal only."""
    if sys.stdout.isatty():
        from rich.text import Text

        _console().print(Text.assemble(f"\n{text}: ", (verdict, colour)))


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Give a function that shows on a terminal what the command waits for."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.markup import escape

    with _console(stderr=True).status("") as status:
        yield lambda text: status.update(escape(text))


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)
