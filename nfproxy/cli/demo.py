"""``nfproxy demo``: a cluster made of network namespaces, with nfproxy on its nodes."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from types import FrameType

import click

from nfproxy.cli.output import output_option, print_data

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _InterruptedError(BaseException):
    """A signal asks the program to end."""


class _Interrupts:
    """
    Raises _InterruptedError in the main thread at the first SIGINT, SIGTERM or SIGHUP.

    Later signals, and all signals after `hold`, only set `number`: nothing interrupts the clean-up.
    """

    def __init__(self) -> None:
        self.number = 0
        self._is_held = False
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def hold(self) -> None:
        """Raise nothing from now on."""
        self._is_held = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if not self._is_held:
            self._is_held = True
            raise _InterruptedError


@click.command("demo", short_help="Show nfproxy at work, in network namespaces.")
@click.option(
    "--keep",
    is_flag=True,
    help="Keep the cluster running at the end, and print how to look at it, until Ctrl-C.",
)
@output_option(
    "text", "json", help="json: the measurements as data; progress goes to standard error."
)
def command(keep: bool, output: str) -> None:
    """
    Show nfproxy at work, without a cluster and without touching this machine's network.

    Network namespaces stand for two nodes, pods and an outside client. nfproxy runs on both nodes
    from example manifests. Requests show which pod answers, a Service is scaled while connections
    run, and the kernel's table is read. The demo removes everything at its end, also after a
    failure or Ctrl-C.

    Needs root, or a kernel that allows unprivileged user namespaces. Takes about 10 seconds.

    Exit status: 0 all checks passed, 1 a check failed, 130 after Ctrl-C, 143 after SIGTERM.
    """
    interrupts = _Interrupts()
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        # Imported here, because importing takes a while and Ctrl-C must work meanwhile.
        from nfproxy.tools.demo.performance import perform

        show = partial(print_data, form="json") if output == "json" else None
        perform(interrupts.hold, keep=keep, print_results=show)
    except _InterruptedError:
        click.echo("\nInterrupted; everything has been removed.", err=True)
    if interrupts.number:
        sys.exit(128 + interrupts.number)
