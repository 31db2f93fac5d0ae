"""
Listing and removing what kube-proxy left: ``cleanup --kube-proxy`` and ``run --cleanup``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import NamedTuple

import click
import msgspec

from nfproxy.cli.output import OutputRow, print_data, print_table, warn
from nfproxy.dataplane.kernel import Kernel
from nfproxy.host.kubeproxy import Running, proxies_running
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.nft.schema import FRONTENDS
from nfproxy.tools.takeover.leftovers import LeftoverItem, Leftovers, is_fine, items, refusals
from nfproxy.tools.takeover.removal import KubeProxyRemoval

_COLOURS = {"remove": "yellow", "removed": "green", "keep": "cyan", "left": "red"}


class CleanupOptions(NamedTuple):
    """The command's options; `drain_s` is how long to wait for connections through IPVS."""

    dry_run: bool = False
    output: str = "text"
    force: bool = False
    drain_s: float = 0.0


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


def remove_leftovers(options: CleanupOptions) -> int:
    """Remove what kube-proxy left on this node, print the result, return the exit status."""
    with KubeProxyRemoval(lambda text: click.echo(text, err=True)) as removal:
        found = removal.find()
        refused = _refusals(found) if items(found) else []
        if options.dry_run:
            rows = [_planned(item) for item in items(found)]
            outcome = CleanupReport(tuple(rows), tuple(refused), found.unknown)
            _print(outcome, options.output, refused="would be refused")
            return 1 if found.unknown else 0
        if refused and not options.force:
            _print(CleanupReport((), tuple(refused), found.unknown), options.output)
            return 1
        left, errors = removal.remove(found, drain_s=options.drain_s, force=options.force)
    rows = _results(items(found), items(left))
    problems = dict.fromkeys((*errors, *left.unknown))
    _print(CleanupReport(tuple(rows), (), tuple(problems)), options.output)
    return 1 if problems or any(row.action == "left" for row in rows) else 0


def _refusals(found: Leftovers) -> list[str]:
    running = proxies_running()
    reasons = refusals(found, _programmed(), running)
    if running.hidden and not running.kube_proxy:
        _say_hidden(running)
    return reasons


def _say_hidden(running: Running) -> None:
    warn(
        "the node's processes are not visible here (hostPID is not set), and no kube-proxy answers "
        "at 127.0.0.1:10249: make sure that it does not run on this node"
    )


def _programmed() -> list[Family]:
    """Return the families that nfproxy serves; every cluster has at least one Service."""
    with closing(Kernel()) as kernel:
        tables = [family for family in FAMILIES if kernel.has_table(family)]
        serves = any(True for family in tables for _ in kernel.elements(family, FRONTENDS))
    return tables if serves else []


def _planned(item: LeftoverItem) -> LeftoverRow:
    action = "keep" if item.kept else "remove"
    return LeftoverRow(action, item.where, item.kind, item.name, item.count, item.kept)


def _results(before: Sequence[LeftoverItem], after: Sequence[LeftoverItem]) -> list[LeftoverRow]:
    """Return the fate of each item, and the items that another process has added since."""
    still = {(item.where, item.kind, item.name): item for item in after}
    rows = []
    for item in before:
        left = still.pop((item.where, item.kind, item.name), None)
        if left is None:
            rows.append(LeftoverRow("removed", item.where, item.kind, item.name, item.count))
            continue
        if left.count < item.count:
            gone = item.count - left.count
            rows.append(LeftoverRow("removed", item.where, item.kind, item.name, gone))
        rows.append(_left(left))
    return rows + [_left(item) for item in still.values()]


def _left(item: LeftoverItem) -> LeftoverRow:
    action = "keep" if is_fine(item) else "left"
    return LeftoverRow(action, item.where, item.kind, item.name, item.count, item.kept)


def _print(outcome: CleanupReport, output: str, refused: str = "refused") -> None:
    if output != "text":
        print_data(outcome, output)
    elif outcome.leftovers:
        titles = ("ACTION", "WHERE", "WHAT", "NAME", "COUNT", "REASON")
        print_table(titles, map(_table_row, outcome.leftovers))
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
