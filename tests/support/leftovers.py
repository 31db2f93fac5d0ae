"""
A check around every test: no task, thread, socket, child process or tracer outlives it.

What fixtures of modules and of the session hold is theirs: it is there before the test, or comes
with a fixture that the test is the first to ask for. So are connections that their servers accept.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
import time
from asyncio import runners
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

#: How long what is ending may take: threads of libraries, processes that were killed.
GRACE_S = 3.0
_PAUSE_S = 0.01

_IP = (socket.AF_INET, socket.AF_INET6)
_EVERY_ADDRESS = ("0.0.0.0", "::")
_TASKS = "/proc/self/task"
_FILES = "/proc/self/fd"


class Held(NamedTuple):
    """What this process holds: threads and children by number, sockets by number and inode."""

    threads: frozenset[str]
    children: frozenset[str]
    sockets: frozenset[tuple[str, str]]

    def beyond(self, other: Held) -> Held:
        """
        Return what is here and not in the other, where there is more of its kind than there.

        As many as before are replacements: a module's server that was started again.
        """
        pairs = zip(self, other, strict=True)
        grown = (mine if len(mine) > len(theirs) else frozenset() for mine, theirs in pairs)
        return Held(*grown).minus(other)

    def minus(self, other: Held) -> Held:
        """Return what is here and not in the other."""
        return Held(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def plus(self, other: Held) -> Held:
        """Return what is here or in the other."""
        return Held(*(mine | theirs for mine, theirs in zip(self, other, strict=True)))


NOTHING = Held(frozenset(), frozenset(), frozenset())


def held() -> Held:
    """Return what this process holds now."""
    threads = os.listdir(_TASKS)  # noqa: PTH208 - a fifth of iterdir's time, twice in each test
    return Held(frozenset(threads), frozenset(_children(threads)), frozenset(_sockets()))


def _children(threads: list[str]) -> Generator[str]:
    for thread in threads:
        try:
            with open(f"{_TASKS}/{thread}/children", "rb") as file:  # noqa: PTH123
                yield from file.read().decode().split()
        except OSError:
            continue  # it has ended


def _sockets() -> Generator[tuple[str, str]]:
    for number in os.listdir(_FILES):  # noqa: PTH208
        try:
            target = os.readlink(f"{_FILES}/{number}")  # noqa: PTH115
        except OSError:
            continue  # the directory's own
        if target.startswith("socket:"):
            yield number, target


class Leftovers:
    """The check, as a plugin of pytest. Everything here runs in the main thread."""

    def __init__(self) -> None:
        self._allowed = NOTHING
        self._tasks: list[str] = []  # that asyncio.run() had to cancel
        self._tracer = sys.gettrace()
        self._cancel_all_tasks = runners._cancel_all_tasks

    def pytest_sessionstart(self) -> None:
        """Notice what asyncio.run() cancels without a word."""
        runners._cancel_all_tasks = self._cancel  # type: ignore[assignment]

    def pytest_sessionfinish(self) -> None:
        """Restore asyncio."""
        runners._cancel_all_tasks = self._cancel_all_tasks

    def _cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        if asyncio.all_tasks(loop):  # some may be about to end
            loop.run_until_complete(asyncio.sleep(_PAUSE_S))
        self._tasks += [repr(task.get_coro()) for task in asyncio.all_tasks(loop)]
        self._cancel_all_tasks(loop)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Note the tracer, before fixtures of any scope replace it."""
        self._tracer = sys.gettrace()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Allow what a fixture of a module or of the session holds."""
        if fixturedef.scope == "function":
            return (yield)
        before = held()
        try:
            return (yield)
        finally:
            self._allowed = self._allowed.plus(held().minus(before))

    @pytest.fixture(autouse=True)
    def _leaves_nothing(self) -> Generator[None]:
        """Fail a test that leaves a task, thread, socket, child process or tracer behind."""
        self._tasks.clear()
        self._allowed = held()
        yield
        found = [f"task {one}, which asyncio.run() cancelled" for one in self._tasks]
        if sys.gettrace() is not self._tracer:
            sys.settrace(self._tracer)
            found.append("another tracer: later tests of this process count for no coverage")
        left = self._left()
        if found or left != NOTHING:
            text = "\n  ".join([*found, *_described(left)])
            pytest.fail(f"the test leaves behind:\n  {text}", pytrace=False)

    def _left(self) -> Held:
        """Return what is not allowed, after it had time to end."""
        deadline = time.monotonic() + GRACE_S
        collected = False
        while (left := held().beyond(self._allowed)) != NOTHING and time.monotonic() < deadline:
            if not collected:
                gc.collect()
                collected = True
            time.sleep(_PAUSE_S)
        return left._replace(sockets=left.sockets - self._accepted(left.sockets))

    def _accepted(self, sockets: frozenset[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return the connections that servers of a module or of the session have accepted."""
        servers = set(filter(None, map(_listens_at, self._allowed.sockets & held().sockets)))
        ports = {address[1] for address in servers if address[0] in _EVERY_ADDRESS}
        connections = ((one, _bound_to(one)) for one in sockets)
        return {one for one, at in connections if at and (at in servers or at[1] in ports)}


def _listens_at(numbered: tuple[str, str]) -> tuple[str, int] | None:
    """Return address and port of a server's socket, None for other sockets."""
    return _bound_to(numbered, only_servers=True)


def _bound_to(numbered: tuple[str, str], *, only_servers: bool = False) -> tuple[str, int] | None:
    """Return the own address and port of a socket of IP, None for others and closed ones."""
    with suppress(OSError), socket.socket(fileno=os.dup(int(numbered[0]))) as one:
        listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if one.family in _IP and (listens or not only_servers):
            address, port = one.getsockname()[:2]
            return address, port
    return None


def _described(left: Held) -> Generator[str]:
    names = {str(one.native_id): one.name for one in threading.enumerate()}
    for thread in sorted(left.threads):
        yield f"thread {thread}: {names.get(thread) or 'of a library'}"
    for child in sorted(left.children):
        yield f"child process {child}: {_command(child)}"
    for number, _ in sorted(left.sockets):
        yield f"socket {number}: {_addresses(int(number))}"


def _command(child: str) -> str:
    try:
        line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "ended meanwhile"
    return line or "ended, and was not waited for"


def _addresses(number: int) -> str:
    try:
        with socket.socket(fileno=os.dup(number)) as one:
            return repr(one)
    except OSError as error:
        return str(error)
