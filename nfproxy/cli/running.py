"""
The nfproxy that runs on this node, for commands: who it is, and the pages it serves here.

It answers at a loopback address, whatever ``metricsBindAddress`` is. Where it does not answer, its
command line says what it runs with: in its pod that is ``/proc/1/cmdline``.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from nfproxy.config.addresses import METRICS_PORT
from nfproxy.errors import InputError
from nfproxy.host.nfproxydaemon import Place, ask, daemon_processes
from nfproxy.insight.daemonstatus import STATUS_PATH, DaemonStatus

#: Where the pages of a daemon without other flags are, first for IPv4.
_USUAL = (Place("127.0.0.1", METRICS_PORT), Place("::1", METRICS_PORT))


class RunningDaemon(NamedTuple):
    """
    The nfproxy that runs in this network namespace.

    `status` is what it says of itself, or what its command line says. `place` is where it serves
    its pages on loopback, None where it does not answer; `why_silent` then says why, and `hangs`
    that it listens.
    """

    status: DaemonStatus
    place: Place | None
    why_silent: str = ""
    hangs: bool = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.status.pid

    @property
    def node(self) -> str:
        """The name of its node."""
        return self.status.node

    @property
    def manifests(self) -> str:
        """The directory of its objects, "" for an API server."""
        return self.status.manifests

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
    failed: dict[Place, InputError] = {}
    for place in _USUAL:
        try:
            return daemon_at(place)
        except InputError as error:
            failed[place] = error
    for process in daemon_processes():
        # Imported here: where the pages answer, no command needs the flags of the daemon.
        from nfproxy.cli.runningconfig import by_command_line

        found = by_command_line(process, failed)
        if found is not None:
            return found
    return None


def daemon_at(place: Place) -> RunningDaemon:
    """Return the nfproxy that answers at a place. Raises InputError."""
    try:
        status = msgspec.json.decode(ask(place, STATUS_PATH), type=DaemonStatus)
    except msgspec.ValidationError as error:
        raise InputError(f"http://{place}{STATUS_PATH}: {error}") from None
    return RunningDaemon(status, place)
