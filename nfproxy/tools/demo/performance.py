"""
The demo from start to end: tell the story, perhaps stay, and take everything down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.demo.interrupt import Interrupts
from nfproxy.tools.demo.keeping import hints
from nfproxy.tools.demo.results import Results
from nfproxy.tools.demo.screen import Screen
from nfproxy.tools.demo.story import Story

_CHECK_S = 0.5


def perform(
    interrupts: Interrupts, *, keep: bool, print_results: Callable[[Results], None] | None = None
) -> None:
    """
    Run the demo. Nothing of it is left when this returns or raises.

    Raises Interrupted, DemoError, MissingFeatureError. With `keep` it only returns by raising.
    With `print_results` standard output has the results alone; progress goes to standard error.
    """
    enter_private_namespace()
    screen = Screen(quiet=print_results is not None)
    with ExitStack() as stack:
        try:
            results = _perform(screen, stack, print_results, keep=keep)
        finally:
            interrupts.hold()
    screen.farewell(results)


def _perform(
    screen: Screen,
    stack: ExitStack,
    print_results: Callable[[Results], None] | None,
    *,
    keep: bool,
) -> Results:
    story = Story(screen, stack)
    try:
        results = story.tell()
        if print_results:
            print_results(results)
        if keep:
            _keep(screen, story)
        story.clean_up()
    except Exception:
        screen.trouble(story.last_words())
        raise
    return results


def _keep(screen: Screen, story: Story) -> None:
    """Wait for a signal. Raises DemoError when nfproxy ends on a node."""
    screen.announce("The cluster keeps running until Ctrl-C. In another terminal:")
    screen.announce(hints(story))
    while True:
        story.check()
        time.sleep(_CHECK_S)
