"""
The demo from start to end: the story, a while to look around with ``--keep``, and the clean-up.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.demo.results import Results
from nfproxy.tools.demo.screen import Screen
from nfproxy.tools.demo.story import Story
from nfproxy.tools.lab import Host

_CHECK_S = 0.5


def perform(
    hold_interrupts: Callable[[], None],
    *,
    keep: bool,
    print_results: Callable[[Results], None] | None = None,
) -> None:
    """
    Run the demo. Nothing of it is left when this returns or raises.

    `hold_interrupts` is called before the clean-up, which no signal may interrupt. With
    `print_results`, standard output has the results alone and progress goes to standard error. With
    `keep`, only a signal or an error ends the demo. Raises DemoError, MissingFeatureError, and what
    a signal handler raises.
    """
    enter_private_namespace()
    screen = Screen(quiet=print_results is not None)
    with ExitStack() as stack:
        try:
            story = Story(screen, stack)
            with _logs_after_failure(screen, story):
                results = story.run()
                if print_results:
                    print_results(results)
                if keep:
                    _keep(screen, story)
                story.clean_up()
        finally:
            hold_interrupts()
    screen.farewell(results)


@contextmanager
def _logs_after_failure(screen: Screen, story: Story) -> Iterator[None]:
    try:
        yield
    except Exception:
        screen.trouble(story.ends_of_logs())
        raise


def _keep(screen: Screen, story: Story) -> None:
    """Wait for a signal. Raises DemoError when nfproxy exits on a node."""
    screen.announce("The cluster keeps running until Ctrl-C. In another terminal:")
    screen.announce(_hints(story))
    while True:
        story.check()
        time.sleep(_CHECK_S)


def _hints(story: Story) -> str:
    """Return commands to try in another terminal, each with a title."""
    node, client, pod = story.cluster.nodes[0], story.cluster.client, story.cluster.pod(1, 3)
    proxy = story.proxies[0]
    diff = shlex.join([*_shortest(proxy.command), *proxy.arguments("diff")])
    return "\n".join(
        (
            "# send a request to web from outside, and from a pod",
            _in(client, "curl http://10.96.0.10/"),
            _in(pod, "curl 'http://[fd00:10:96::10]/'"),
            "# the ruleset of node-1",
            _in(node, "nft list table ip nfproxy"),
            "# the difference between the manifests and the kernel",
            _in(node, diff),
            "# a shell on node-1, and on node-2",
            _in(node, "bash"),
            _in(story.cluster.nodes[1], "bash"),
            "# the manifests: edit one, nfproxy follows",
            f"ls {story.workspace.manifests}",
            "# nfproxy's log on node-1",
            f"tail -f {proxy.log}",
        )
    )


def _in(host: Host, command: str) -> str:
    sudo = "sudo " if os.environ.get("SUDO_USER") else ""
    return f"{sudo}{shlex.join(host.namespace.enter_command())} {command}"


def _shortest(command: list[str]) -> list[str]:
    """Return the installed command where there is one: it works in every directory."""
    installed = shutil.which(sys.argv[0])
    return [os.path.abspath(installed)] if installed else command  # noqa: PTH100 - keep links
