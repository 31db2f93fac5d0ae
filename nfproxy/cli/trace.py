"""``nfproxy trace``: what happens to the packets of a Service, in the tables of all programs."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping

import click
import msgspec

from nfproxy.cli.inputs import configured
from nfproxy.cli.options import files_option, namespace_option, within
from nfproxy.cli.output import output_option, print_data
from nfproxy.cli.sights import read_sights
from nfproxy.cli.textlayout import is_terminal, paragraph, terminal_width
from nfproxy.config.flags import Flags, GroupedCommand, context_flags
from nfproxy.dataplane.probes import require_privileges
from nfproxy.errors import ConfigError, InputError
from nfproxy.host.routes import read_routes
from nfproxy.insight.clientidentity import client_of, pod_named
from nfproxy.insight.daemonstatus import API_VERSION
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.nodefacts import Route
from nfproxy.insight.question import AddressQuestion, parse_question
from nfproxy.model.addresses import FAMILIES, parse_address
from nfproxy.netlink.tracing import TraceEvent
from nfproxy.text import plural
from nfproxy.tools.takeover.legacy import table_names
from nfproxy.tools.trace.endings import TraceEnding
from nfproxy.tools.trace.rules import RuleTexts
from nfproxy.tools.trace.session import TraceSession
from nfproxy.tools.trace.subject import names_of, targets_of
from nfproxy.tools.trace.traced import TracedConnection
from nfproxy.tools.trace.wording import Names, Surroundings, TraceRow, trace_row

_COULD_NOT_FIND_OUT = 2
_TITLES = ("TIME", "CLIENT", "ASKED", "WAY", "END")
_WIDTHS = (7, 23, 24, 48)
_WIDE, _INDENT = 130, 9  # columns: a terminal with room for a row, and what follows a row's time
_MOST_S, _MOST_CONNECTIONS = 600, 1000


class TraceDocument(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The output of ``-o json``. `incomplete` says that the kernel dropped messages."""

    api_version: str = API_VERSION
    kind: str = "Trace"
    asked: str
    node: str
    seconds: float
    connections: list[TraceRow]
    incomplete: bool


@click.command("trace", cls=GroupedCommand, short_help="Follow real packets through all tables.")
@click.argument("what")
@files_option
@namespace_option
@click.option(
    "--from",
    "client",
    metavar="CLIENT",
    help="Only packets from one client: an address, or NAMESPACE/NAME of a pod.",
)
@click.option("--drops", is_flag=True, help="Show only connections without an answer.")
@click.option(
    "--seconds",
    callback=within(float, 0.1, _MOST_S),
    metavar="SECONDS",
    default="10",
    show_default=True,
    help="End after this time.",
)
@click.option(
    "--count",
    callback=within(int, 1, _MOST_CONNECTIONS),
    metavar="NUMBER",
    default="20",
    show_default=True,
    help="End after so many connections.",
)
@output_option("text", "json", "yaml", help="json, yaml: everything, at the end.")
@context_flags
def command(
    what: str,
    files: tuple[str, ...],
    namespace: str,
    client: str | None,
    drops: bool,
    seconds: float,
    count: int,
    output: str,
    flags: Flags,
) -> None:
    """
    Follow real packets of a Service through the tables of all programs on this node.

    Each new connection becomes a line: who asked for what, to which endpoint it was led, and how it
    ended. A rule that drops packets is named, with its table and chain. First packets alone are
    followed, at most 20 a second, so wait for a client, or make a connection meanwhile.

    The kernel removes the table `nfproxy-trace` when the command ends in any way.

    \b
    WHAT: NAMESPACE/NAME[:PORT], ADDRESS[:PORT[/udp]], [IPV6]:PORT or :NODEPORT

    Exit status: 0 all were answered, 1 some were not, 2 no packet came, or it could not find out.
    """
    require_privileges()
    question = parse_question(what, namespace)
    if client == "":
        raise click.UsageError("--from is empty: name an address or NAMESPACE/NAME of a pod")
    pod = pod_named(client, namespace) if client else None
    clients: tuple[bytes, ...] = ()
    if client and not pod:
        clients = (parse_address(client),)
    try:
        settings = configured(flags)
        read = read_sights(files, flags, settings, question=question, needs_details=True, pod=pod)
        sight = read.sights[0]
        if client and pod:
            clients = tuple(client_of(sight, client, namespace).addresses.values())
        explanation = explain(sight, question)
        names, node = names_of(explanation), explanation.seen.node
    except (ConfigError, InputError):
        if pod or not isinstance(question, AddressQuestion):
            raise
        # Packets show it, without names.
        explanation, names, node = Explanation(asked=what), Names({}, {}), socket.gethostname()
    targets = targets_of(question, explanation, clients)
    rows: list[TraceRow] = []
    with TraceSession(targets) as session:
        if output == "text" and is_terminal():
            click.echo(f"tracing {question} on {node} for {seconds:g} s; Ctrl-C ends it", err=True)
            if terminal_width() >= _WIDE:
                click.echo(_aligned(_TITLES))
        try:
            for row in _rows(session, seconds, count, names):
                rows.append(row)
                if output == "text" and not (drops and row.ending is TraceEnding.ANSWERED):
                    _print(row)
        except KeyboardInterrupt:
            pass
    if output != "text":
        shown = [row for row in rows if not (drops and row.ending is TraceEnding.ANSWERED)]
        print_data(
            TraceDocument(
                asked=str(question),
                node=node,
                seconds=seconds,
                connections=shown,
                incomplete=session.is_incomplete,
            ),
            output,
        )
    else:
        click.echo(_summary(rows, str(question), seconds), err=not is_terminal())
        if session.is_incomplete:
            click.echo("the kernel dropped some messages: the machine is busy", err=True)
    sys.exit(_status(rows))


def _rows(session: TraceSession, seconds: float, count: int, names: Names) -> Iterator[TraceRow]:
    texts = RuleTexts()
    legacy = tuple(f"{f.table} {name}" for f in FAMILIES for name in table_names(f))

    def text_of(event: TraceEvent) -> str:
        return texts.find(event.family, event.table, event.chain, event.handle)

    for connection, ending in session.run(seconds, count):
        around = Surroundings(_routes(connection, ending), legacy)
        yield trace_row(connection, ending, names, around, text_of, _interface)


def _routes(connection: TracedConnection, ending: TraceEnding) -> Mapping[bytes, Route]:
    return read_routes([connection.destination.address]) if ending is TraceEnding.LOST else {}


def _interface(number: int) -> str:
    try:
        return socket.if_indextoname(number) if number else ""
    except OSError:  # it is gone
        return f"interface {number}"


# --- text --------------------------------------------------------------------------------------


def _print(row: TraceRow) -> None:
    cells = (f"{row.at:.3f}", row.client, row.asked, _way(row), row.text)
    if not is_terminal():
        click.echo("\t".join((*cells, "; ".join(row.because))))
        return
    if terminal_width() >= _WIDE:
        click.echo(_aligned(cells))
    else:
        at, client, asked, way, end = cells
        click.echo(f"{at:<{_INDENT}}{client} → {asked}")
        click.echo("\n".join(paragraph("", f"{way + ': ' if way else ''}{end}", 80, _INDENT)))
    for reason in row.because:
        click.echo("\n".join(paragraph("", reason, terminal_width(), _INDENT)))


def _way(row: TraceRow) -> str:
    """Return ``shop/web:http → p21 10.244.2.11:8080, source changed``."""
    parts = [row.service] if row.service else []
    if row.endpoint:
        pod = f"{row.pod.rpartition('/')[2]} " if row.pod else ""
        parts.append(f"→ {pod}{row.endpoint}")
    return " ".join(parts) + (", source is the node's" if row.source_changed else "")


def _aligned(cells: tuple[str, ...]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, (*_WIDTHS, 0), strict=True))
    return "  ".join(padded).rstrip()


def _summary(rows: list[TraceRow], asked: str, seconds: float) -> str:
    if not rows:
        return (
            f"no packet to {asked} came in {seconds:g} s; only the first packet of a connection is "
            "followed: let a client connect meanwhile"
        )
    counts = Counter(row.ending.value for row in rows)
    parts = ", ".join(f"{count} {word}" for word, count in counts.most_common())
    return f"{plural(len(rows), 'connection')}: {parts}"


def _status(rows: list[TraceRow]) -> int:
    if not rows:
        return _COULD_NOT_FIND_OUT
    return int(any(row.ending.is_failure for row in rows))
