"""
The demo from start to end: tell the story, perhaps stay, and take everything down.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

import msgspec

from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.tools.demo.interrupt import Interrupts
from nfproxy.tools.demo.keeping import hints
from nfproxy.tools.demo.results import Results
from nfproxy.tools.demo.screen import Screen
from nfproxy.tools.demo.story import Story

_CHECK_S = 0.5


def perform(interrupts: Interrupts, *, keep: bool, as_json: bool) -> None:
    """
    Run the demo. Nothing of it is left when this returns or raises.

    Raises Interrupted, DemoError, MissingFeatureError. With `keep` it only returns by raising.
    """
    enter_private_namespace()
    screen = Screen(quiet=as_json)
    with ExitStack() as stack:
        try:
            results = _perform(screen, stack, keep=keep, as_json=as_json)
        finally:
            interrupts.hold()
    screen.farewell(results)


def _perform(screen: Screen, stack: ExitStack, *, keep: bool, as_json: bool) -> Results:
    story = Story(screen, stack)
    try:
        results = story.tell()
        if as_json:
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(results)).decode() + "\n")
            sys.stdout.flush()
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
