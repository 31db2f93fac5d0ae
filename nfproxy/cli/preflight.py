"""``nfproxy preflight``: is this node fit for nfproxy?"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nfproxy.cli.objects import kubeconfig_of_user
from nfproxy.config.flags import Flags, GroupedCommand, node_flags
from nfproxy.config.load import LoadedConfig, load
from nfproxy.config.nodeconfig import node_name
from nfproxy.errors import ConfigError
from nfproxy.tools.preflight.findings import Level, Report

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
_ENV_HOST = "KUBERNETES_SERVICE_HOST"


def _port_range(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    from nfproxy.tools.preflight.judge.sysctls import port_range

    found = port_range(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a range of ports such as 30000-32767")
    return found


@click.command("preflight", cls=GroupedCommand, short_help="Check whether this node is fit.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="text: a table in a terminal, else tab-separated: level, check, found, remedy.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 also where something is worth a look.")
@click.option(
    "--host-root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the host's / is mounted, in a container: for its nft, its firewall's "
    "configuration and its processes.",
)
@click.option(
    "--proc",
    type=click.Path(path_type=Path),
    default=Path("/proc"),
    show_default=True,
    metavar="DIR",
    help="Where sysctls are read (DIR/sys/net), as for `nfproxy run`.",
)
@click.option(
    "--node-port-range",
    default="30000-32767",
    show_default=True,
    metavar="LOW-HIGH",
    callback=_port_range,
    help="What the API server has as --service-node-port-range.",
)
@node_flags
def command(
    output: str,
    strict: bool,
    host_root: Path | None,
    proc: Path,
    node_port_range: tuple[int, int],
    flags: Flags,
) -> None:
    """
    Check whether this node, and its access to the API server, are fit for nfproxy.

    Takes the flags and the configuration file that `nfproxy run` will be given. Everything is
    tried where it can be, in a network namespace of its own or without being carried out: nothing
    is changed, on the node or in the cluster. Each line says ok, warn or fail, what was found, and
    what to do about it. Takes a few seconds.

    Exit status: 0 nothing fails (with --strict: and nothing is worth a look), 1 something does.
    """
    # Imported here, as for `run`: all that talks to the API server takes a moment.
    from nfproxy.apiserver.access import ClientSettings
    from nfproxy.tools.preflight.checks import Subject, report
    from nfproxy.tools.preflight.read.api import Question

    logging.getLogger("nfproxy").addHandler(logging.NullHandler())  # the report says it all
    trouble = ""
    try:
        loaded = load(flags)
        name = node_name(loaded.config, socket.gethostname())
    except ConfigError as error:
        trouble, loaded = str(error), load(Flags())
        name = socket.gethostname().strip().lower()
    kubeconfig, borrowed = _kubeconfig(loaded)
    subject = Subject(
        config=loaded.config,
        node_name=name,
        question=Question(
            ClientSettings(kubeconfig=kubeconfig, master=loaded.command_line.master),
            name,
            borrowed,
            os.environ.get(_ENV_HOST, ""),
        ),
        node_ports=node_port_range,
        trouble=trouble,
        warnings=loaded.warnings,
        host_root=host_root,
        proc=proc,
    )
    with _progress() as progress:
        found = report(subject, progress)
    _print(found, output)
    failed = found.result is Level.FAIL or (strict and found.result is Level.WARN)
    sys.exit(1 if failed else 0)


def _kubeconfig(loaded: LoadedConfig) -> tuple[str, bool]:
    """Return the kubeconfig to use, and whether it is kubectl's for want of another."""
    named = loaded.config.client_connection.kubeconfig
    if named or loaded.command_line.master:
        return named, False
    borrowed = kubeconfig_of_user()
    return borrowed, bool(borrowed)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Give what shows, in a terminal, what is being waited for."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield lambda text: status.update(escape(text))


def _print(report: Report, output: str) -> None:
    if output != "text":
        data = msgspec.to_builtins(report)
        click.echo(
            msgspec.json.format(msgspec.json.encode(data), indent=2).decode()
            if output == "json"
            else yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip()
        )
    elif sys.stdout.isatty():
        _print_table(report)
    else:
        for row in report.checks:
            click.echo("\t".join((row.level, row.check, row.found, row.remedy)).rstrip("\t"))


def _print_table(report: Report) -> None:
    table = Table("", "CHECK", "FOUND", box=None, pad_edge=False)
    for row in report.checks:
        remedy = f"\n[bold]→[/] {escape(row.remedy)}" if row.remedy else ""
        colour = _COLOURS[row.level]
        table.add_row(f"[{colour}]{row.level}[/]", row.check, f"{escape(row.found)}{remedy}")
    console = Console(highlight=False)
    console.print(table)
    counts = {level: sum(row.level is level for row in report.checks) for level in Level}
    text = ", ".join(f"{count} {level}" for level, count in counts.items())
    console.print(f"\nnode {escape(report.node)}: [{_COLOURS[report.result]}]{text}[/]")
