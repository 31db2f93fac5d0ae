"""``nfproxy report``: everything that a report about this node needs, in one archive."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from nfproxy import __version__
from nfproxy.cli.output import progress
from nfproxy.cli.running import RunningDaemon, running_daemon
from nfproxy.clock import unix_s
from nfproxy.dataplane.ourtables import our_tables
from nfproxy.errors import DataplaneError, InputError, reason_of
from nfproxy.insight.daemonstatus import STATUS_PATH
from nfproxy.insight.question import parse_question
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import NEXT_TABLE, TABLE
from nfproxy.text import plural, shown_path
from nfproxy.tools.bundle.parts import (
    BundlePart,
    Collected,
    archive,
    by_call,
    by_command,
    by_file,
)

#: Where the kubelet puts the logs of this node's pods: NAMESPACE_POD_UID/CONTAINER/NUMBER.log.
_POD_LOGS = Path("/var/log/pods")
_MOST_ASKED = 20

_ABOUT = """\
A report about nfproxy {version} on node {node}, made {at}.

It has no credentials: no tokens, no keys, no kubeconfig. What looks like one is replaced by
<removed>. It does have names and addresses of Services, endpoints, pods and nodes, and the
configuration. Look through it before you publish it.
"""
_WITHOUT_LOG = "\nThe log is in a file of its own, beside this archive.\n"


@click.command("report", short_help="Collect what a report about this node needs.")
@click.argument("what", nargs=-1)
@click.option(
    "-o",
    "--output",
    default="",
    metavar="FILE",
    help="The archive; - for standard output.  [default: nfproxy-report-NODE-TIME.tar.gz]",
)
@click.option("--without-log", is_flag=True, hidden=True, help="The caller brings the log.")
def command(what: tuple[str, ...], output: str, without_log: bool) -> None:
    """
    Write an archive with what a report about this node needs, without secrets.

    Versions, status, preflight, differences, Services with their answers, changes, metrics, the
    configuration, the kernel's tables, and the log if it is here. Names and addresses of Services,
    pods and nodes are in it. Works without a running nfproxy, and says what is missing.

    WHAT, a Service (NAMESPACE/NAME) or an address, adds what `explain` and `render` say of it.

    \b
        nfproxy report shop/web
        kubectl nfproxy report shop/web --on node-1

    Exit status: 0 the archive is written, 1 it could not be.
    """
    for each in what[:_MOST_ASKED]:
        parse_question(each)
    if len(what) > _MOST_ASKED:
        raise click.UsageError(f"at most {_MOST_ASKED} Services and addresses at once")
    if output == "-" and sys.stdout.isatty():
        raise click.UsageError("an archive is nothing for a terminal: name a file with -o")
    _refuse_unusable(output)
    daemon = running_daemon()
    node = daemon.node if daemon else socket.gethostname()
    now_s = unix_s()
    now = datetime.fromtimestamp(now_s, UTC)
    name = f"nfproxy-report-{node}-{now:%Y%m%dT%H%M%SZ}"
    about = _ABOUT.format(version=__version__, node=node, at=f"{now:%Y-%m-%d %H:%M:%S} UTC")
    parts = _parts(daemon, what, with_log=not without_log)
    with progress() as show:
        data, missing = archive(parts, name, about + _WITHOUT_LOG * without_log, now_s, show)
    path = output or f"{name}.tar.gz"
    _write(path, data)
    for line in missing:
        click.echo(f"nfproxy: not collected: {line}", err=True)
    if path != "-":
        size = f"{len(data) / 1024:,.0f} KiB"
        click.echo(
            f"nfproxy: wrote {path} ({size}); it names Services, pods and nodes"
            + (f", and lacks {plural(len(missing), 'part')}" if missing else ""),
            err=True,
        )


def _refuse_unusable(path: str) -> None:
    """Raise InputError for a path that no file can have, before anything is collected."""
    directory = Path(path).parent
    why = ""
    if Path(path).is_dir() and path:
        why = "is a directory"
    elif not directory.is_dir():
        why = f"there is no directory {shown_path(str(directory))}"
    elif path != "-" and not (
        os.access(path, os.W_OK) if Path(path).is_file() else os.access(directory, os.W_OK)
    ):
        why = "may not be written"
    if why:
        shown = shown_path(path or ".")
        raise InputError(f"{shown}: {why}", "name another file with -o")


def _write(path: str, data: bytes) -> None:
    try:
        if path == "-":
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        what = f"{shown_path(path)}: {reason_of(error)}"
        raise InputError(what, "name another file with -o") from None


def _parts(
    daemon: RunningDaemon | None, what: tuple[str, ...], *, with_log: bool
) -> Iterator[BundlePart]:
    """Yield the files in the order in which a reader wants them."""
    yield BundlePart("version.txt", "versions of nfproxy, the kernel and Python", _versions)
    yield BundlePart("status.json", "nfproxy status", partial(_nfproxy, "status", "-o", "json"))
    for number, each in enumerate(what, 1):
        yield BundlePart(
            f"explain-{number}.json",
            f"nfproxy explain {each}",
            partial(_nfproxy, "explain", "-o", "json", "--", each),
        )
        yield BundlePart(
            f"render-{number}.yaml",
            f"nfproxy render {each}",
            partial(_nfproxy, "render", "-o", "yaml", "--", each),
        )
    for name in ("diff", "preflight", "services", "changes"):
        answer = partial(_nfproxy, name, "-o", "json")
        yield BundlePart(f"{name}.json", f"nfproxy {name}", answer)
    for name, path, text in (
        ("daemon.json", STATUS_PATH, "the running nfproxy and its configuration"),
        ("metrics.txt", "/metrics", "its metrics"),
    ):
        yield BundlePart(name, text, partial(_page, daemon, path))
    for family, table in _tables():
        name = f"table-{family.table}{table.removeprefix(TABLE)}.nft"
        argv = ("nft", "list", "table", family.table, table)
        yield BundlePart(name, " ".join(argv), partial(by_command, argv))
    if with_log:
        yield BundlePart("log.txt", "the end of nfproxy's log", _log)


def _tables() -> list[tuple[Family, str]]:
    """Return the tables to list: the usual ones, and second ones that are there."""
    try:
        with NftSocket() as netlink:
            found = our_tables(netlink)
    except DataplaneError:
        found = {}
    second = [(f, NEXT_TABLE) for f, tables in found.items() if NEXT_TABLE in tables.there]
    return [*((family, TABLE) for family in FAMILIES), *second]


def _versions() -> Collected:
    system = platform.uname()
    lines = (
        f"nfproxy {__version__}",
        f"{system.system} {system.release} {system.version} {system.machine}",
        f"Python {platform.python_version()}",
    )
    return Collected("".join(f"{line}\n" for line in lines).encode())


def _nfproxy(*arguments: str) -> Collected:
    return by_command([sys.executable, "-P", "-m", "nfproxy", *arguments])


def _page(daemon: RunningDaemon | None, path: str) -> Collected:
    if daemon is None:
        return Collected(b"", "no nfproxy runs here")
    return by_call(partial(daemon.ask, path))


def _log() -> Collected:
    """Return the log that the kubelet keeps: a container sees its own nowhere."""
    try:
        found = [
            (path.stat().st_mtime, path) for path in _POD_LOGS.glob("*_*nfproxy*_*/nfproxy/*.log")
        ]
    except OSError:
        found = []
    newest = max(found, default=(0.0, None))[1]
    return by_file(newest, "not here: kubectl -n kube-system logs POD -c nfproxy, or the journal")
