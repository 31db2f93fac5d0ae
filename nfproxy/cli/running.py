"""
The nfproxy that runs on this node, for commands: its configuration, and the pages it serves here.

It says both at a loopback address, whatever ``metricsBindAddress`` is. Where it does not answer
there, its command line says the configuration, too: in its pod that is ``/proc/1/cmdline``.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

import click
import msgspec

from nfproxy.config.addresses import on_loopback
from nfproxy.config.commandline import CommandLine
from nfproxy.config.flags import Flags, take_flags
from nfproxy.config.load import METRICS_PORT, LoadedConfig, effective_config, load
from nfproxy.config.lookup import with_values
from nfproxy.config.nodeconfig import node_name
from nfproxy.errors import ConfigError, InputError
from nfproxy.host.nfproxydaemon import DaemonProcess, Place, ask, daemon_processes
from nfproxy.insight.daemonstatus import STATUS_PATH, DaemonStatus

#: Where the pages of a daemon without other flags are, first for IPv4.
_USUAL = (Place("127.0.0.1", METRICS_PORT), Place("::1", METRICS_PORT))


class RunningDaemon(NamedTuple):
    """
    The nfproxy that runs in this network namespace.

    `loaded` is its effective configuration, with the node's name as ``hostnameOverride``.
    `manifests` is the directory of its objects, "" for an API server. `place` is where it serves
    its pages on loopback, None where only its command line is known; `why_silent` then says why.
    """

    pid: int
    node: str
    loaded: LoadedConfig
    manifests: str = ""
    place: Place | None = None
    why_silent: str = ""

    def __str__(self) -> str:
        """Return ``nfproxy (pid 1, node node-1)``."""
        return f"nfproxy (pid {self.pid}, node {self.node})"

    def ask(self, path: str) -> bytes:
        """Return the body of one of its pages. Raises InputError."""
        if self.place is None:
            raise InputError(
                f"the nfproxy that runs here (pid {self.pid}) says nothing", self.why_silent
            )
        return ask(self.place, path)


def running_daemon() -> RunningDaemon | None:
    """Return the nfproxy that runs in this network namespace, None if there is none."""
    for place in _USUAL:
        try:
            return _at(place)
        except (InputError, ConfigError):
            continue
    for process in daemon_processes():
        try:
            found = _by_command_line(process)
        except (ConfigError, click.ClickException):  # of another version
            continue
        place = Place(*on_loopback(found.loaded.config.metrics_bind_address))
        try:
            return _at(place)
        except (InputError, ConfigError) as error:
            return found._replace(why_silent=str(error))
    return None


def _at(place: Place) -> RunningDaemon:
    """Return the nfproxy that answers at a place. Raises InputError and ConfigError."""
    try:
        status = msgspec.json.decode(ask(place, STATUS_PATH), type=DaemonStatus)
    except msgspec.ValidationError as error:
        raise InputError(f"http://{place}{STATUS_PATH}: {error}") from None
    config = effective_config(status.configuration, f"http://{place}{STATUS_PATH}")
    loaded = LoadedConfig(config=config, command_line=CommandLine(master=status.master))
    return RunningDaemon(
        status.pid, status.node, _named(loaded, status.node), status.manifests, place
    )


def _by_command_line(process: DaemonProcess) -> RunningDaemon:
    """Return what a command line says. Raises ConfigError, and click's errors."""
    from nfproxy.cli.run import command

    context = command.make_context("run", [*process.arguments], resilient_parsing=True)
    parameters = context.params
    flags = dict(take_flags(parameters).given)
    root = f"/proc/{process.pid}/root"
    if "config" in flags:  # as that process sees it
        flags["config"] = root + flags["config"]
    loaded = load(Flags(flags))
    name = node_name(loaded.config, socket.gethostname())
    manifests = str(parameters.get("manifests") or "")
    return RunningDaemon(process.pid, name, _named(loaded, name), manifests)


def _named(loaded: LoadedConfig, node: str) -> LoadedConfig:
    """Return a configuration with the node's name: the host name here may be another."""
    return msgspec.structs.replace(
        loaded, config=with_values(loaded.config, {"hostnameOverride": node})
    )
