"""``nfproxy changes``: list what changed on this node, why, and how fast."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import click
import msgspec

from nfproxy.cli.options import namespace_option
from nfproxy.cli.output import OutputRow, output_option, print_data, print_table
from nfproxy.cli.running import RunningDaemon, running_daemon
from nfproxy.config.durations import parse_duration
from nfproxy.errors import InputError
from nfproxy.insight.changerecord import CHANGES_PATH, ChangeRecord, ChangeRecords, concerning
from nfproxy.insight.question import Question, ServiceQuestion, parse_question
from nfproxy.model.service import ObjectName
from nfproxy.text import plural

_TITLES = ("TIME", "SERVICE", "CHANGE", "WHY", "IN FORCE AFTER")
_POLL_S = 1.0
_DATE = len("2026-11-30T")


@click.command("changes", short_help="List what changed on this node, why, and how fast.")
@click.argument("what", default="")
@namespace_option
@click.option(
    "--since", default="", metavar="DURATION", help="Only the last while: 10m, 1h, 1h30m."
)
@click.option("--follow", is_flag=True, help="Go on with new changes as they come.")
@output_option("text", "json", "yaml", help="json, yaml: with all fields of each change.")
def command(what: str, namespace: str, since: str, follow: bool, output: str) -> None:
    """
    List the last changes of this node: the nfproxy that runs here remembers about 1,000.

    Endpoints that came (+) and left (-) of each Service port, changes of the node, and what other
    processes did to nfproxy's tables, with the objects that changed and the time until it was in
    force. WHAT chooses: NAMESPACE/NAME[:PORT], ADDRESS[:PORT], :NODEPORT.

    Exit status: 0, or 2 where no nfproxy runs here.

    \b
        nfproxy changes shop/web --since 1h
        nfproxy changes 10.244.1.5
    """
    if follow and output != "text":
        raise click.UsageError("--follow prints text: leave out -o")
    question = parse_question(what, namespace) if what else None
    earliest = _earliest(since)
    daemon = running_daemon()
    if daemon is None:
        raise InputError(
            "no nfproxy runs here, and it is what remembers changes",
            "run this on the node, or in nfproxy's pod",
        )
    page = _read(daemon, 0)
    found = concerning(page.records, question, earliest)
    if all(question and record.is_about_all for record in found):
        click.echo(f"nfproxy: {_none(page.records, question, since)}", err=True)
    if output != "text":
        print_data(msgspec.structs.replace(page, records=found), output)
        return
    _print(found)
    if follow:
        sys.stdout.flush()
        _follow(daemon, page, question)


def _earliest(since: str) -> str:
    """Return the time that is a duration ago, as records have it; "" for no duration."""
    if not since:
        return ""
    try:
        seconds = parse_duration(since).seconds
        if seconds < 0:
            raise ValueError(since)
        ago = timedelta(seconds=seconds)
    except ValueError:
        raise click.BadParameter(
            "not a duration such as 10m or 1h30m", param_hint="--since"
        ) from None
    return (datetime.now(UTC) - ago).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _none(records: Sequence[ChangeRecord], question: Question | None, since: str) -> str:
    """Say that no record is about what was asked, with names that may be meant."""
    of = f" of {question}" if question else ""
    within = f" in the last {since}" if since else ""
    text = f"no change{of}{within} among {plural(len(records), 'change')} that nfproxy remembers"
    if question is None:
        return text
    if isinstance(question, ServiceQuestion):
        # Imported here: most runs need nothing of it.
        from nfproxy.insight.explain import near_services

        changed = {record.service for record in records if record.service}
        known = (ObjectName(*name.split("/")) for name in changed - {str(question.name)})
        if near := near_services(question.name, known):
            return f"{text}; there are changes of {', '.join(map(str, near))}"
    return f"{text}; `nfproxy explain {question}` says what there is"


def _read(daemon: RunningDaemon, after: int) -> ChangeRecords:
    """Return the records behind a number. Raises InputError."""
    body = daemon.ask(f"{CHANGES_PATH}?after={after}")
    try:
        return msgspec.json.decode(body, type=ChangeRecords)
    except msgspec.ValidationError as error:
        raise InputError(f"{CHANGES_PATH} of the nfproxy that runs here: {error}") from None


def _follow(daemon: RunningDaemon, page: ChangeRecords, question: Question | None) -> None:
    """Print new records as they come, until the daemon ends. Raises InputError then."""
    pause, last = threading.Event(), _last(page, 0)
    while True:
        pause.wait(_POLL_S)
        page = _read(daemon, last)
        _print(concerning(page.records, question, ""))
        sys.stdout.flush()
        last = _last(page, last)


def _last(page: ChangeRecords, before: int) -> int:
    return max((record.number for record in page.records), default=before)


def _print(records: Iterable[ChangeRecord]) -> None:
    today = f"{datetime.now(UTC):%Y-%m-%dT}"
    rows = [_row(record, today) for record in records]
    if rows:
        print_table(_TITLES, rows, prose=["CHANGE", "WHY"])


def _row(record: ChangeRecord, today: str) -> OutputRow:
    cells = (record.subject, record.change, record.why, record.in_force)
    at = record.at[_DATE:] if record.at.startswith(today) else record.at
    colour = "red" if record.by else ""
    return OutputRow((at, *cells), colour, plain=(record.at, *(cell or "-" for cell in cells)))
