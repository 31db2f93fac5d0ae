"""``nfproxy status``: whether this node is all right, on one screen."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from datetime import datetime

import click
import msgspec

from nfproxy.cli.output import coloured, output_option, print_data
from nfproxy.cli.running import RunningDaemon, running_daemon
from nfproxy.cli.textlayout import is_terminal, paragraph, terminal_width
from nfproxy.clock import unix_s
from nfproxy.errors import DataplaneError, InputError
from nfproxy.host.processes import may_administer_network
from nfproxy.insight.statusscreen import NODE_PATH, Mark, StatusRow, StatusScreen, age_text
from nfproxy.kube.timestamps import timestamp
from nfproxy.text import one_line

_COLOURS = {Mark.OK: "green", Mark.WARN: "yellow", Mark.FAIL: "red"}
_SUBJECT = "nfproxy"


@click.command("status", short_help="Is this node all right? One screen.")
@click.option("--strict", is_flag=True, help="Exit with 1 for what is only worth a look, too.")
@output_option(
    "text",
    "json",
    "yaml",
    help="text: a screen on a terminal, else tab-separated: level, subject, found, where to look.",
)
def command(strict: bool, output: str) -> None:
    """
    Say whether this node is all right: what is programmed, and what is wrong.

    Asks the nfproxy that runs here. Where none answers, it says what the kernel still holds.

    Exit status: 0 nothing fails (with --strict: nor is worth a look), 1 something does, 2 could
    not find out.
    """
    found = _read()
    if output != "text":
        print_data(found, output)
    elif is_terminal():
        for number, line in enumerate(status_lines(found, terminal_width())):
            level = line.partition(" ")[0] if number else ""
            colour = _COLOURS[Mark(level)] if level in _COLOURS else ""
            click.echo(coloured(level, colour) + line[len(level) :])
    else:
        for cells in status_rows(found):
            click.echo("\t".join(cells))
    sys.exit(int(found.level is Mark.FAIL or (strict and found.level is Mark.WARN)))


def _read() -> StatusScreen:
    """Return the status by the best source that answers. Raises InputError."""
    daemon = running_daemon()
    if daemon is None:
        return _by_kernel("", _without_daemon())
    try:
        body = daemon.ask(NODE_PATH)
    except InputError as error:
        return _by_kernel(daemon.node, _silent(daemon, str(error)))
    try:
        return msgspec.json.decode(body, type=StatusScreen)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{NODE_PATH} of the nfproxy that runs here: {error}", "is it of another version?"
        ) from None


def _without_daemon() -> StatusRow:
    if not may_administer_network():
        raise InputError(
            "no nfproxy of root's or of this user's runs here, and the kernel's tables cannot be "
            "read without the capability NET_ADMIN",
            "run this on the node as root, or in nfproxy's pod",
        )
    return StatusRow(
        Mark.FAIL,
        _SUBJECT,
        "none runs here: changes of Services do not arrive",
        "kubectl -n kube-system get pods -o wide -l app.kubernetes.io/name=nfproxy",
    )


def _silent(daemon: RunningDaemon, why: str) -> StatusRow:
    text = f"runs (pid {daemon.pid}), and its pages do not answer: {one_line(why)}"
    return StatusRow(Mark.FAIL, _SUBJECT, text, "its log")


def _by_kernel(node: str, row: StatusRow) -> StatusScreen:
    """Return what can be said without a daemon's page: `row`, and what the kernel holds."""
    # Imported here, as the socket below: with a daemon the command is much faster without.
    from nfproxy.host.nodesettings import tracked_connections
    from nfproxy.insight.nodestatus import connection_rows

    return StatusScreen(
        node=node or socket.gethostname(),
        at=timestamp(unix_s()),
        rows=(row, *_tables(), *connection_rows(tracked_connections())),
    )


def _tables() -> Iterator[StatusRow]:
    if not may_administer_network():
        return
    from nfproxy.dataplane.ourtables import our_tables
    from nfproxy.insight.nodestatus import second_rows
    from nfproxy.netlink.sockets import NftSocket

    try:
        with NftSocket() as netlink:
            found = our_tables(netlink)
    except DataplaneError as error:
        yield StatusRow(Mark.WARN, "tables", str(error))
        return
    yield from second_rows(found, runs=False)
    dormant = [f"{f.table} {name}" for f, one in found.items() for name in one.dormant]
    serving = [f"{f.table} {one.serving}" for f, one in found.items() if one.in_force]
    if dormant:
        yield StatusRow(
            Mark.FAIL,
            "tables",
            f"dormant, so the kernel does not use them: {' and '.join(dormant)}. No Service works "
            "by them until nfproxy runs",
            "start nfproxy",
        )
    elif serving:
        are = "are" if len(serving) > 1 else "is"
        yield StatusRow(
            Mark.OK,
            "tables",
            f"{' and '.join(serving)} {are} there: installed rules serve",
            "nfproxy explain WHAT",
        )
    else:
        yield StatusRow(Mark.FAIL, "tables", "none of nfproxy's is there: no Service works by it")


def status_lines(found: StatusScreen, width: int) -> Iterator[str]:
    """Yield the lines for a terminal; the first is the verdict."""
    yield f"{found.node}  {_head(found)}"
    yield ""
    column = max((len(row.subject) for row in found.rows), default=0)
    for row in found.rows:
        first = f"{row.level:4}  {row.subject:{column}}  "
        yield from paragraph(first, row.found, width, len(first))
        if row.look:
            yield from paragraph(" " * len(first) + "look: ", row.look, width, len(first) + 6)


def status_rows(found: StatusScreen) -> Iterator[tuple[str, ...]]:
    """Yield the cells of tab-separated lines."""
    yield (found.level, found.node, _head(found), "-")
    for row in found.rows:
        yield (row.level, row.subject, row.found, row.look or "-")


def _head(found: StatusScreen) -> str:
    if not found.version:
        return "no answer from nfproxy"
    at = _time(found.at)
    up = f", up {age_text((at - _time(found.started)).total_seconds())}" if found.started else ""
    name = f"nfproxy {found.version}{up}: "
    if not found.since:
        return name + "NOT IN STEP with what it should hold"
    since = _time(found.since)
    day = "%H:%M:%S" if since.date() == at.date() else "%Y-%m-%d %H:%M:%S"
    return f"{name}in step since {since:{day}} UTC ({age_text((at - since).total_seconds())} ago)"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
