"""
``nfproxy cleanup``: remove nfproxy's tables, or what kube-proxy left.

``run --cleanup`` removes both with the same functions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import closing

import click
import msgspec

from nfproxy.cli.output import OutputRow, output_option, print_data, print_table, warn
from nfproxy.config.durations import parse_duration
from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.probes import require_privileges
from nfproxy.host.kubeproxy import Running, proxies_running
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.nft.schema import FRONTENDS, OUR_TABLES, TABLE
from nfproxy.tools.takeover.leftovers import (
    LeftoverItem,
    Leftovers,
    is_fine,
    items,
    own_refusals,
    refusals,
)
from nfproxy.tools.takeover.othertables import OtherTables
from nfproxy.tools.takeover.removal import KubeProxyRemoval, remove_tables_in_stages

_COLOURS = {"remove": "yellow", "removed": "green", "keep": "cyan", "left": "red"}


def _seconds(_: click.Context, __: click.Parameter, value: str) -> float:
    """Return the seconds of a duration in Go's form."""
    try:
        seconds = parse_duration(value).seconds
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a duration such as 90s or 5m") from None
    if seconds < 0:
        raise click.BadParameter("it cannot be negative")
    return seconds


@click.command("cleanup", short_help="Remove nfproxy's tables, or what kube-proxy left.")
@click.option(
    "--kube-proxy",
    is_flag=True,
    help="Remove what kube-proxy left on this node, in every mode, and nothing of nfproxy's: "
    "nftables tables, chains and rules of iptables (both backends, both families), ipsets, "
    "virtual servers of IPVS with their device, nfacct counters. Refused while kube-proxy runs "
    "on this node, and before nfproxy has programmed it.",
)
@click.option("--dry-run", is_flag=True, help="List what would be removed; change nothing.")
@output_option(
    "text",
    "json",
    "yaml",
    help="With --kube-proxy: form of the list; text is a table on a terminal.",
)
@click.option(
    "--drain",
    callback=_seconds,
    default="1m",
    show_default=True,
    metavar="DURATION",
    help="With --kube-proxy: how long to wait for connections through IPVS to end. They would "
    "break; all others go on.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Remove even what would be refused; with --kube-proxy, break the connections through "
    "IPVS that are still open after --drain, too.",
)
def command(kube_proxy: bool, dry_run: bool, output: str, drain: float, force: bool) -> None:
    """
    Remove nfproxy's tables, and nothing else; or, with --kube-proxy, what kube-proxy left.

    Open connections go on while another program on this node has rules that translate addresses
    (another proxy, a CNI plugin that masquerades). Without any such rule the kernel stops
    translating. New connections to Services fail unless another proxy serves them. Refused while
    kube-proxy runs on this node and has not programmed it.

    Exit status: 0 done, or nothing to do; 1 refused, or something is left.
    """
    for name, flag in (("output", "-o"), ("drain", "--drain")):
        source = click.get_current_context().get_parameter_source(name)
        if not kube_proxy and source is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"{flag} is for --kube-proxy")
    require_privileges()
    if kube_proxy:
        status = remove_leftovers(dry_run=dry_run, output=output, force=force, drain_s=drain)
        sys.exit(status)
    running = proxies_running()
    if running.nfproxy and not dry_run:
        warn(f"nfproxy runs on this node ({running.nfproxy}) and will restore its tables")
    refused = [] if force else _refusals_of_own(running)
    _complain("would be refused" if dry_run else "refused", refused)
    if refused and not dry_run:
        sys.exit(1)
    remove_own_tables(dry_run=dry_run)


def remove_own_tables(*, dry_run: bool = False) -> None:
    """Remove nfproxy's tables of both families, and print which ones."""
    wanted = [(family, name) for family in FAMILIES for name in OUR_TABLES]
    with OtherTables() as nft:
        found = nft.existing(wanted) if dry_run else remove_tables_in_stages(nft, wanted)
    for family, name in found:
        click.echo(f"{'would remove' if dry_run else 'removed'} table {family.table} {name}")
    if not found:
        click.echo(f"nothing to remove: there is no {TABLE} table")


class LeftoverRow(msgspec.Struct, frozen=True, rename="camel"):
    """A line of the list; `action`: remove or keep in a dry run, else removed, keep or left."""

    action: str
    where: str
    kind: str
    name: str
    count: int = 1
    reason: str = ""


class CleanupReport(msgspec.Struct, frozen=True, rename="camel"):
    """The result; `problems` says what could not be removed, or not be read."""

    leftovers: tuple[LeftoverRow, ...]
    refused: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def remove_leftovers(
    *, dry_run: bool = False, output: str = "text", force: bool = False, drain_s: float = 0.0
) -> int:
    """
    Remove what kube-proxy left on this node, print the result, return the exit status.

    Connections through IPVS get `drain_s` to end. `force` removes even what would be refused.
    """
    with KubeProxyRemoval(lambda text: click.echo(text, err=True)) as removal:
        found = removal.find()
        refused = _refusals(found) if items(found) else []
        if dry_run:
            rows = [_row("keep" if item.kept else "remove", item) for item in items(found)]
            outcome = CleanupReport(tuple(rows), tuple(refused), found.unknown)
            _print(outcome, output, refused="would be refused")
            return 1 if found.unknown else 0
        if refused and not force:
            _print(CleanupReport((), tuple(refused), found.unknown), output)
            return 1
        left, errors = removal.remove(found, drain_s=drain_s, force=force)
    rows = _results(items(found), items(left))
    problems = dict.fromkeys((*errors, *left.unknown))
    _print(CleanupReport(tuple(rows), (), tuple(problems)), output)
    return 1 if problems or any(row.action == "left" for row in rows) else 0


def _refusals(found: Leftovers) -> list[str]:
    running = proxies_running()
    reasons = refusals(found, _programmed(), running)
    if running.hidden and not running.kube_proxy:
        warn(
            "the node's processes are not visible here (hostPID is not set), and no kube-proxy "
            "answers at 127.0.0.1:10249: make sure that it does not run on this node"
        )
    return reasons


def _programmed() -> list[Family]:
    """Return the families that nfproxy serves; every cluster has at least one Service."""
    with closing(Kernel()) as kernel:
        tables = [family for family in FAMILIES if kernel.table_row(family, TABLE)]
        serves = any(True for family in tables for _ in kernel.elements(family, FRONTENDS))
    return tables if serves else []


def _refusals_of_own(running: Running) -> list[str]:
    if not running.kube_proxy:
        return []
    with KubeProxyRemoval(lambda text: click.echo(text, err=True)) as removal:
        return own_refusals(removal.find(), _programmed(), running)


def _row(action: str, item: LeftoverItem) -> LeftoverRow:
    return LeftoverRow(action, item.where, item.kind, item.name, item.count, item.kept)


def _results(before: Sequence[LeftoverItem], after: Sequence[LeftoverItem]) -> list[LeftoverRow]:
    """Return the fate of each item, and the items that another process has added since."""
    still = {(item.where, item.kind, item.name): item for item in after}
    rows = []
    for item in before:
        left = still.pop((item.where, item.kind, item.name), None)
        gone = item.count - (left.count if left else 0)
        if gone > 0:
            rows.append(_row("removed", msgspec.structs.replace(item, count=gone, kept="")))
        if left:
            rows.append(_left(left))
    return rows + [_left(item) for item in still.values()]


def _left(item: LeftoverItem) -> LeftoverRow:
    return _row("keep" if is_fine(item) else "left", item)


def _print(outcome: CleanupReport, output: str, refused: str = "refused") -> None:
    if output != "text":
        print_data(outcome, output)
    elif outcome.leftovers:
        titles = ("ACTION", "WHERE", "WHAT", "NAME", "COUNT", "REASON")
        print_table(titles, map(_table_row, outcome.leftovers), prose=["REASON"])
    elif not (outcome.refused or outcome.problems):
        click.echo("nothing to remove: kube-proxy has left nothing on this node")
    _complain(refused, outcome.refused)
    _complain("problem", outcome.problems)


def _complain(word: str, texts: Iterable[str]) -> None:
    for text in texts:
        click.echo(f"nfproxy: {word}: {text}", err=True)


def _table_row(row: LeftoverRow) -> OutputRow:
    start = (row.action, row.where, row.kind, row.name)
    return OutputRow(
        (*start, str(row.count) if row.count > 1 else "", row.reason),
        _COLOURS[row.action],
        plain=(*start, str(row.count), *filter(None, [row.reason])),
    )
