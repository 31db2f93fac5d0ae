"""``nfproxy services``: what is served on a node, what is not, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from difflib import get_close_matches
from typing import NoReturn

import click
import msgspec

from nfproxy.cli.explaintext import finding_lines
from nfproxy.cli.inputs import configured
from nfproxy.cli.options import files_option, within
from nfproxy.cli.output import output_option, print_data
from nfproxy.cli.servicecounts import counted, watched
from nfproxy.cli.sights import daemon_to_ask, read_sights
from nfproxy.cli.textlayout import is_terminal, paragraph, table_lines, terminal_width
from nfproxy.clock import unix_s
from nfproxy.config.flags import Flags, GroupedCommand, context_flags
from nfproxy.errors import ConfigError, InputError
from nfproxy.insight.diagnosis import Severity
from nfproxy.insight.explainwords import ANSWERS, port_text
from nfproxy.insight.nodeobjects import SERVICES_PATH
from nfproxy.insight.overview import Overview, ServiceRow, overview, service_rows
from nfproxy.insight.statusscreen import age_text
from nfproxy.kube.timestamps import timestamp
from nfproxy.text import plural, shown_name

_LEVELS = (*Severity, None)
_TITLES = (
    *("SERVICE", "PORT", "ANSWER", "USED/ALL"),
    *("NEW", "OPEN", "UNANSWERED", "SINCE", "BECAUSE"),
)
_BUSY_TITLES = (
    *("SERVICE", "PORT", "NEW/S", "OPEN", "UNANSWERED", "REFUSED/S"),
    *("USED/ALL", "BUSIEST (OPEN)"),
)
_SINCE_COLUMNS = 120  # a terminal that is narrower needs them for reasons
_MOST_WATCHED = 40  # rows at a time
_MOST_NAMED = 5  # namespaces


@click.command("services", cls=GroupedCommand, short_help="List Services, and what is wrong.")
@files_option
@click.option(
    "-n", "--namespace", default="", metavar="NS", help="Only the Services of a namespace."
)
@click.option("--problems", is_flag=True, help="Only what does not work for every client.")
@click.option(
    "--sort",
    type=click.Choice(["name", "worst", "new", "open", "changed"]),
    default="name",
    show_default=True,
    help="worst: what fails first. new, open: what has most connections, on the node. changed: the "
    "last change first.",
)
@click.option(
    "--watch",
    callback=within(float, 0.5, 3600),
    metavar="SECONDS",
    help="On the node: print the busiest again and again, with connections a second.",
)
@click.option("--node", default="", metavar="NAME", help="Answer for another node than this one.")
@output_option("text", "json", "yaml", help="json, yaml: with the codes of all causes.")
@context_flags
def command(
    files: tuple[str, ...],
    namespace: str,
    problems: bool,
    sort: str,
    watch: float | None,
    node: str,
    output: str,
    flags: Flags,
) -> None:
    """
    List every Service port with its answer, and the reason where it is not served.

    On files it is a check of manifests: the exit status is 1 where something needs a look. `nfproxy
    explain` says more about each row.

    \b
        nfproxy services --problems
        nfproxy services -f manifests/ --problems

    Exit status: 0 no problem, 1 problems, 2 could not find out.
    """
    try:
        found = _overview(files, flags, node)
    except ConfigError as error:
        raise InputError(error.what, error.remedy) from None
    found = _of_namespace(found, namespace)
    if watch is not None:
        if node or output != "text":
            raise click.UsageError("--watch is for this node, and prints text")
        _watch(found, problems=problems, sort="new" if sort == "name" else sort, interval_s=watch)
    if not node:
        found = counted(found, connections=sort == "open")
    rows = _chosen(found.services, problems=problems, sort=sort)
    shown = msgspec.structs.replace(found, services=rows)
    if output != "text":
        print_data(msgspec.to_builtins(shown), output)
    else:
        click.echo("\n".join(_text(shown)), nl=bool(rows or is_terminal()))
    # That nothing fails is not certain without what a broken file may hold.
    sys.exit(1 if found.problems else 2 if found.seen.unusable else 0)


def _watch(found: Overview, *, problems: bool, sort: str, interval_s: float) -> NoReturn:
    """Print the busiest rows until the user ends it; on a terminal each time in place."""
    for now in watched(found, interval_s):
        rows = _chosen(now.services, problems=problems, sort=sort)[:_MOST_WATCHED]
        if is_terminal():
            click.clear()
        shown = msgspec.structs.replace(now, services=rows)
        if is_terminal():
            click.echo("\n".join(busy_lines(shown, terminal_width())))
        else:
            click.echo("\n".join("\t".join(cell or "-" for cell in busy_cells(r)) for r in rows))
    raise AssertionError  # it never ends by itself


def _overview(files: tuple[str, ...], flags: Flags, node: str) -> Overview:
    """Return what the nfproxy that runs here lists, or what the objects say."""
    settings = configured(flags)
    at = timestamp(unix_s())
    if daemon := daemon_to_ask(files, flags, settings, node):
        found = msgspec.json.decode(daemon.ask(SERVICES_PATH), type=Overview)
        seen = msgspec.structs.replace(found.seen, objects=f"the {daemon}", at=at)
    else:
        read = read_sights(files, flags, settings, node=node)
        planner = read.sights[0].planner
        if files and not (planner.services or read.sights[0].details.services):
            # A check of no Service at all is no check.
            unusable = read.seen.unusable
            what = f"{unusable[0]} gives no usable object" if unusable else "there is no Service"
            raise InputError(what, "check what -f names")
        found = overview(read.sights[0], service_rows(read.sights[0]))
        seen = msgspec.structs.replace(read.seen, node=found.seen.node, at=at)
    return msgspec.structs.replace(found, seen=seen)


def _of_namespace(found: Overview, namespace: str) -> Overview:
    if not namespace:
        return found
    rows = tuple(row for row in found.services if row.namespace == namespace)
    if not rows:
        known = sorted({row.namespace for row in found.services})
        shown = ", ".join(get_close_matches(namespace, known) or known[:_MOST_NAMED])
        remedy = f"there are Services in {shown}" if shown else ""
        raise InputError(f"there is no Service in namespace {shown_name(namespace)}", remedy)
    problems = sum(row.is_problem for row in rows)
    return msgspec.structs.replace(found, services=rows, total=len(rows), problems=problems)


def _text(shown: Overview) -> list[str]:
    if is_terminal():
        return list(overview_lines(shown, terminal_width()))
    return ["\t".join(cells) for cells in overview_rows(shown)]


def _chosen(rows: Iterable[ServiceRow], *, problems: bool, sort: str) -> tuple[ServiceRow, ...]:
    chosen = [row for row in rows if row.is_notable or not problems]
    if sort == "worst":
        chosen.sort(key=lambda row: _LEVELS.index(row.level))
    if sort == "changed":
        chosen.sort(key=lambda row: row.since, reverse=True)
    if sort in ("new", "open"):
        chosen.sort(key=lambda row: -(_count(row, sort) or 0))
    return tuple(chosen)


def _count(row: ServiceRow, which: str) -> int | None:
    return row.new_connections if which == "new" else row.open


def overview_lines(found: Overview, width: int) -> Iterator[str]:
    """Yield the lines for a terminal."""
    for finding in found.findings:
        yield from finding_lines(finding, width)
        yield ""
    if found.services:
        at = found.seen.at if width >= _SINCE_COLUMNS else ""
        rows = [_cells(row, at) for row in found.services]
        yield from table_lines(_TITLES, rows, width, prose=["BECAUSE"])
        yield ""
    yield from _total(found, width)


def busy_lines(found: Overview, width: int) -> Iterator[str]:
    """Yield the lines of ``--watch`` for a terminal."""
    table = [_BUSY_TITLES, *map(busy_cells, found.services)]
    lines = table_lines(table[0], table[1:], 1000)
    if max(map(len, lines)) > width:
        table = [(row[0], *row[2:6], row[7]) for row in table]
        lines = table_lines(table[0], table[1:], width)
    yield from lines
    yield ""
    yield from _total(found, width)


def _total(found: Overview, width: int) -> Iterator[str]:
    where = f" on {found.seen.node}" if found.seen.node else ""
    count = f"{found.problems:,} of {plural(found.total, 'Service port')}{where}"
    verb = "has a problem" if found.problems == 1 else "have a problem"
    others = [row.label for row in found.services if row.is_notable and not row.is_problem]
    also = f", {len(others):,} {'is' if len(others) == 1 else 'are'} worth a look" if others else ""
    labels = [row.label for row in found.services if row.is_problem] + others
    after = f"; nfproxy explain {labels[0]} says more" if labels else ""
    yield from paragraph("", f"{count} {verb}{also}{after}.", width, 0)
    for line in found.seen.missing:
        yield from paragraph("", f"not seen: {line}.", width, 0)


def overview_rows(found: Overview) -> Iterator[tuple[str, ...]]:
    """Yield the cells of tab-separated lines: those of the table, with level and codes."""
    for row in found.services:
        level = row.level.value if row.level else "-"
        codes = ",".join(row.codes)
        counts = map(_shown, (row.new_connections, row.open, row.unanswered))
        in_force = {None: "", True: "in force", False: "not in force"}[row.in_force]
        cells = (
            *(*_cells(row, "")[:4], level, codes, row.because),
            *(*counts, in_force, row.since, row.error),
        )
        yield tuple(cell or "-" for cell in cells)


def _cells(row: ServiceRow, at: str) -> tuple[str, ...]:
    """Return a row's cells; `at` is now, "" where they do not say since when it is in force."""
    return (
        row.label,
        port_text(row),
        ANSWERS[row.conclusion],
        f"{row.used:,}/{row.all:,}",
        *map(_shown, (row.new_connections, row.open, row.unanswered)),
        _age(row, at) if at else "",
        row.because if row.is_notable else "",
    )


def busy_cells(row: ServiceRow) -> tuple[str, ...]:
    """Return the cells of a row of ``--watch``."""
    return (
        row.label,
        port_text(row),
        *map(_shown, (row.new_connections, row.open, row.unanswered, row.refused)),
        f"{row.used:,}/{row.all:,}",
        row.busiest,
    )


def _age(row: ServiceRow, at: str) -> str:
    """Return how long a row is in force."""
    if row.in_force is False:
        return "not yet"
    if not row.since:
        return ""
    now, since = map(datetime.fromisoformat, (at, row.since))
    return age_text((now - since).total_seconds())


def _shown(count: int | None) -> str:
    return "" if count is None else f"{count:,}"
