"""``nfproxy preflight``: check whether a node is fit for nfproxy."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

import click

from nfproxy.cli.options import proc_option
from nfproxy.cli.output import (
    OutputRow,
    output_option,
    print_data,
    print_summary,
    print_table,
    progress,
)
from nfproxy.cli.running import RunningDaemon, running_daemon
from nfproxy.cli.runningconfig import configuration_of
from nfproxy.config.flags import Flags, GroupedCommand, node_flags
from nfproxy.config.load import LoadedConfig, contradictions, load
from nfproxy.config.nodeconfig import node_name
from nfproxy.errors import ConfigError
from nfproxy.tools.preflight.findings import Finding, Level, NodeReport

_COLOURS = {
    Level.OK: "green",
    Level.SKIP: "dim",
    Level.NOTE: "cyan",
    Level.WARN: "yellow",
    Level.FAIL: "red",
}
_ENV_HOST = "KUBERNETES_SERVICE_HOST"

#: Who gives one of these asks about an API server.
_API_FLAGS = {"kubeconfig", "master", "config"}


def _port_range(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    from nfproxy.tools.preflight.ports import port_range

    found = port_range(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a range of ports such as 30000-32767")
    return found


@click.command("preflight", cls=GroupedCommand, short_help="Check whether this node is fit.")
@output_option(
    "text",
    "json",
    "yaml",
    help="text: a table on a terminal, else tab-separated: level, check, found, remedy.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 for a warning, too.")
@click.option(
    "--host-root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the host's / is mounted in this container, to find its nft, the configuration of "
    "its firewall and its processes.",
)
@proc_option
@click.option(
    "--node-port-range",
    default="30000-32767",
    show_default=True,
    metavar="LOW-HIGH",
    callback=_port_range,
    help="The API server's --service-node-port-range.",
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

    Takes the flags and the configuration file of `nfproxy run`; without them, the configuration of
    the nfproxy that runs here, if one does. It tries features in a network
    namespace of its own or without effect, and changes nothing on the node or in the cluster. Each
    line says ok, warn or fail, what was found, and what to do; note: could be better and does no
    harm; skip: not visible from here. Takes a few seconds.

    Exit status: 0 no check fails (with --strict: nor warns), 1 a check does.
    """
    # Imported here: the HTTP client takes a moment, and --help needs none.
    from nfproxy.apiserver.access import client_settings
    from nfproxy.cli.apireading import kubeconfig_of_user
    from nfproxy.tools.preflight.examine import Subject
    from nfproxy.tools.preflight.report import examine_node

    logging.getLogger("nfproxy").addHandler(logging.NullHandler())  # the report has everything
    daemon: RunningDaemon | None = None
    trouble: ConfigError | None = None
    contradicting: list[str] = []
    try:
        daemon, running = _running()
        loaded = load(flags, running)
        name = node_name(loaded.config, socket.gethostname())
        if running:
            contradicting = [*contradictions(loaded.config, running.config, flags.given)]
    except ConfigError as error:
        trouble, loaded = error, load(Flags())
        name = socket.gethostname().strip().lower()
    settings = client_settings(loaded, name, kubeconfig_of_user())
    is_borrowed = settings.kubeconfig != loaded.config.client_connection.kubeconfig
    subject = Subject(
        config=loaded.config,
        node_name=name,
        settings=settings,
        node_ports=node_port_range,
        trouble=trouble,
        warnings=(*loaded.warnings, *contradicting),
        borrowed_credentials=is_borrowed,
        running=f"pid {daemon.pid}, node {daemon.node}" if daemon else "",
        files=daemon.manifests if daemon and not flags.given.keys() & _API_FLAGS else "",
        env_host=os.environ.get(_ENV_HOST, ""),
        host_root=host_root,
        proc=proc,
    )
    with progress() as show:
        found = examine_node(subject, show)
    _print(found, output)
    failed = found.result is Level.FAIL or (strict and found.result is Level.WARN)
    sys.exit(1 if failed else 0)


def _running() -> tuple[RunningDaemon | None, LoadedConfig | None]:
    """Return the nfproxy that runs here, and its configuration; None where there is none."""
    daemon = running_daemon()
    if daemon is None:
        return None, None
    try:
        return daemon, configuration_of(daemon)
    except ConfigError:  # of another version
        return daemon, None


def _print(report: NodeReport, output: str) -> None:
    if output != "text":
        print_data(report, output)
        return
    print_table(("LEVEL", "CHECK", "FOUND"), map(_table_row, report.checks), prose=["FOUND"])
    counts = {level: sum(row.level is level for row in report.checks) for level in Level}
    shown = (Level.OK, Level.WARN, Level.FAIL)
    text = ", ".join(f"{n} {level}" for level, n in counts.items() if n or level in shown)
    print_summary(f"node {report.node}", text, _COLOURS[report.result])


def _table_row(row: Finding) -> OutputRow:
    remedy = f"\n→ {row.remedy}" if row.remedy else ""
    return OutputRow(
        (row.level, row.check, f"{row.found}{remedy}"),
        _COLOURS[row.level],
        plain=(row.level, row.check, row.found, *filter(None, [row.remedy])),
    )
