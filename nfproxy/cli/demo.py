"""``nfproxy demo``: a cluster out of network namespaces, and nfproxy at work in it."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack

import click
import msgspec

from nfproxy.demo.interrupt import Interrupted, Interrupts
from nfproxy.demo.keeping import hints
from nfproxy.demo.screen import Screen
from nfproxy.demo.story import Story
from nfproxy.lab import enter_private_namespace


@click.command("demo")
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the cluster running in the end and print how to look around, until Ctrl-C.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: what was found out, as data; progress goes to standard error.",
)
def command(keep: bool, output: str) -> None:
    """
    Show nfproxy at work, without a cluster and without touching this machine's network.

    Two nodes, pods and an outside client are made of network namespaces; nfproxy runs on both
    nodes from example manifests. Real requests show who answers them, Services are scaled
    while connections run, and the kernel's table is looked into. All of it is removed in the
    end, however that comes.

    Needs root, or a kernel that allows unprivileged user namespaces. Takes about 15 seconds.

    Exit status: 0 everything was as it should be, 1 something was not, 130 and 143 when
    interrupted or terminated.
    """
    interrupts = Interrupts()
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    enter_private_namespace()
    try:
        _run(Screen(quiet=output == "json"), interrupts, keep=keep, as_json=output == "json")
    except Interrupted:
        click.echo("\nInterrupted; everything has been removed.", err=True)
    if interrupts.number:
        sys.exit(128 + interrupts.number)


def _run(screen: Screen, interrupts: Interrupts, *, keep: bool, as_json: bool) -> None:
    with ExitStack() as stack:
        try:
            story = Story(screen, stack)
            try:
                results = story.tell()
                if as_json:
                    data = msgspec.json.format(msgspec.json.encode(results), indent=2)
                    click.echo(data.decode())
                if keep:
                    _keep(screen, story)
                story.clean_up()
            except Exception:
                screen.trouble(story.last_words())
                raise
        finally:
            interrupts.hold()
    screen.farewell(results)


def _keep(screen: Screen, story: Story) -> None:
    """Wait for a signal. Raises DemoError when nfproxy ends on a node."""
    screen.announce("The cluster keeps running until Ctrl-C. In another terminal:")
    screen.announce(hints(story))
    while True:
        story.check()
        time.sleep(0.5)
