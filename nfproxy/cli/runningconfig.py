"""The configuration of the nfproxy that runs on this node, by its page or its command line."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import click

from nfproxy.cli.running import RunningDaemon, daemon_at
from nfproxy.config.addresses import on_loopback
from nfproxy.config.commandline import CommandLine
from nfproxy.config.flags import Flags, take_flags
from nfproxy.config.load import LoadedConfig, effective_config, load
from nfproxy.config.lookup import with_values
from nfproxy.config.nodeconfig import node_name
from nfproxy.errors import ConfigError, InputError
from nfproxy.host.nfproxydaemon import SILENT, DaemonProcess, Place
from nfproxy.insight.daemonstatus import DaemonStatus


def configuration_of(daemon: RunningDaemon) -> LoadedConfig:
    """
    Return the effective configuration, with the node's name as ``hostnameOverride``.

    Raises ConfigError for a daemon of another version that this one does not understand.
    """
    status = daemon.status
    config = effective_config(status.configuration, str(daemon))
    # The host name here may be another.
    config = with_values(config, {"hostnameOverride": status.node})
    return LoadedConfig(config=config, command_line=CommandLine(master=status.master))


def by_command_line(
    process: DaemonProcess, failed: Mapping[Place, InputError]
) -> RunningDaemon | None:
    """
    Return the nfproxy that a process is; None for one of another version.

    Places that `failed` a moment ago are not asked again: one that hangs costs seconds.
    """
    try:
        status, address = _started_with(process)
    except (ConfigError, click.ClickException):
        return None
    place = Place(*on_loopback(address))
    try:
        if place in failed:
            raise failed[place]
        return daemon_at(place)
    except InputError as error:
        return RunningDaemon(status, None, str(error), hangs=error.code == SILENT)


def _started_with(process: DaemonProcess) -> tuple[DaemonStatus, str]:
    """
    Return what a command line says: the status page, and where it is served.

    Raises ConfigError, and click's errors.
    """
    # Imported here: where the pages answer, no other command needs what the daemon does.
    from nfproxy.cli.run import command

    context = command.make_context("run", [*process.arguments], resilient_parsing=True)
    parameters = context.params
    flags = dict(take_flags(parameters).given)
    if "config" in flags:  # as that process sees it
        flags["config"] = f"/proc/{process.pid}/root{flags['config']}"
    loaded = load(Flags(flags))
    status = DaemonStatus(
        version="",
        pid=process.pid,
        node=node_name(loaded.config, socket.gethostname()),
        started="",
        manifests=str(parameters.get("manifests") or ""),
        master=loaded.command_line.master,
        configuration=loaded.config_data,
    )
    return status, loaded.config.metrics_bind_address
