"""Commands whose standard streams are closed, full, narrow, dumb, or without all characters."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.insight import SHOP
from support.processes.commands import ROOT

_COMMANDS = {
    "explain": ("explain", "shop/web", "-f", SHOP, "--hostname-override", "node-2"),
    "services": ("services", "--problems", "-f", SHOP, "--hostname-override", "node-1"),
    "render": ("render", "-f", SHOP, "--hostname-override", "node-1"),
}
_ANSWERS = {"explain": 0, "services": 1, "render": 0}


def run(name: str, redirect: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with its streams as a shell redirects them."""
    words = [sys.executable, "-P", "-m", "nfproxy", *map(str, _COMMANDS[name])]
    return subprocess.run(
        ["sh", "-c", f"exec {shlex.join(words)} {redirect}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["services", "render"])
def test_an_output_that_cannot_be_written(name: str) -> None:
    """A full disk is named, and that is no answer."""
    done = run(name, ">/dev/full")
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last) == (
        2,
        "nfproxy: error: standard output: No space left on device",
    )


@pytest.mark.parametrize("name", ["explain", "services"])
@pytest.mark.parametrize("redirect", [">&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_streams_that_are_closed_or_full(name: str, redirect: str) -> None:
    """The exit status is that of the answer, and the answer comes if it can."""
    done = run(name, redirect)
    assert done.returncode == _ANSWERS[name]
    assert "Traceback" not in done.stderr
    assert bool(done.stdout) == (">&-" not in redirect.split())


def test_what_an_encoding_lacks_is_escaped() -> None:
    """As JSON has it."""
    text = "from nfproxy.cli.streams import make_usable; make_usable(); print(chr(0x2192))"
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\\u2192\n"


def on_terminal(name: str, **environment: str) -> Iterator[str]:
    """Yield the lines that a command shows on a terminal."""
    ours, theirs = os.openpty()
    words = [sys.executable, "-P", "-m", "nfproxy", *map(str, _COMMANDS[name])]
    process = subprocess.Popen(
        words,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    ended = contextlib.suppress(OSError)  # that is how the other end is closed
    with os.fdopen(ours, encoding="utf-8", errors="replace") as file, ended:
        yield from file
    assert process.wait(60) == _ANSWERS[name]


@pytest.mark.parametrize("columns", ["20", "-5", "nonsense"])
def test_widths(columns: str) -> None:
    """Whatever COLUMNS says, the answer comes."""
    text = "".join(on_terminal("services", COLUMNS=columns, LC_ALL="C", TERM="xterm"))
    assert "Traceback" not in text
    assert "shop/orders" in text


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_a_terminal_without_colours(variables: dict[str, str]) -> None:
    """It gets none, and no movement of the cursor."""
    text = "".join(on_terminal("explain", **variables)) + "".join(
        on_terminal("services", **variables)
    )
    assert "shop/web" in text
    assert "\x1b" not in text
