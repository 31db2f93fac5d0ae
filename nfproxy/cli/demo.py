"""``nfproxy demo``: a cluster out of network namespaces, and nfproxy at work in it."""

from __future__ import annotations

import os
import sys

import click

from nfproxy.cli.output import output_option
from nfproxy.tools.demo.interrupt import Interrupted, Interrupts


@click.command("demo", short_help="Show it at work, in network namespaces.")
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the cluster running in the end and print how to look around, until Ctrl-C.",
)
@output_option(
    "text", "json", help="json: the measurements as data; progress goes to standard error."
)
def command(keep: bool, output: str) -> None:
    """
    Show nfproxy at work, without a cluster and without touching this machine's network.

    Two nodes, pods and an outside client are made of network namespaces; nfproxy runs on both
    nodes from example manifests. Real requests show who answers them, a Service is scaled
    while connections run, and the kernel's table is looked into. All of it is removed in the
    end, however that comes.

    Needs root, or a kernel that allows unprivileged user namespaces. Takes about 10 seconds.

    Exit status: 0 everything was as it should be, 1 something was not, 130 after Ctrl-C, 143 after
    SIGTERM.
    """
    interrupts = Interrupts()
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        # Only now: importing takes a while, in which Ctrl-C should count, too.
        from nfproxy.tools.demo.performance import perform

        perform(interrupts, keep=keep, as_json=output == "json")
    except Interrupted:
        click.echo("\nInterrupted; everything has been removed.", err=True)
    if interrupts.number:
        sys.exit(128 + interrupts.number)
