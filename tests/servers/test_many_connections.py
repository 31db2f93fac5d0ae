"""What clients with many connections can do to a page server, and to each other."""

import asyncio
import itertools
import logging
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from support.client.http11 import ask, connections
from support.processes.pageservers import serving, until

from nfproxy.servers.admission import Connections, Peer
from nfproxy.servers.pages import answer

BIG = b"x" * 1_000_000
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(request: web.BaseRequest) -> web.Response:
    return answer(b"hello", "text/plain")


async def big(request: web.BaseRequest) -> web.Response:
    return answer(BIG, "text/plain")


# --- who gives way ------------------------------------------------------------------------


class Guest:
    """A connection that notes whether it was closed."""

    is_closed = False

    def abort(self) -> None:
        self.is_closed = True


class Moment:
    """A clock that stands still."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


FEW, MANY, LOCAL = (Peer(bytes((10, 0, 0, n)), is_local=n == 3) for n in (1, 2, 3))


def come(open_ones: Connections, peer: Peer, count: int = 1) -> list[Guest]:
    """Let so many connections come from a source; return those that are admitted."""
    admitted = []
    for _ in range(count):
        if open_ones.admits(peer):
            admitted.append(Guest())
            open_ones.add(admitted[-1], peer)
    return admitted


def test_the_source_with_most_connections_gives_way():
    """The oldest of its connections, and only after its first second."""
    clock = Moment()
    open_ones = Connections(10, clock)
    few, many = come(open_ones, FEW, 3), come(open_ones, MANY, 7)
    assert (len(few), len(many)) == (3, 7)
    clock.now_s = 0.9
    assert come(open_ones, FEW)
    assert not any(guest.is_closed for guest in few + many)

    clock.now_s = 1.0
    assert come(open_ones, FEW)
    assert [guest.is_closed for guest in many] == [True, *[False] * 6]
    assert not any(guest.is_closed for guest in few)


def test_answers_that_clients_do_not_take_are_bounded():
    """By their bytes; those of the source with most give way, the oldest first."""
    open_ones = Connections(1000, Moment())
    few, many = come(open_ones, FEW, 2), come(open_ones, MANY, 100)
    for guest in few:
        open_ones.answering(guest, FEW, 3_000_000)
    for guest in many:
        open_ones.answering(guest, MANY, 3_000_000)
    assert [guest.is_closed for guest in many] == [True] * 97 + [False] * 3
    assert not any(guest.is_closed for guest in few)

    open_ones.taken(many[-1])
    open_ones.answering(many[-1], MANY, 10)
    open_ones.taken(few[0])
    open_ones.answering(few[0], FEW, 100_000_000)
    assert [guest.is_closed for guest in few] == [False, True]
    assert not many[-1].is_closed


def test_new_connections_of_one_source_are_bounded():
    """Others still come in; and this machine, and who got an answer before, beyond all others."""
    open_ones = Connections(10, Moment())
    open_ones.answered(FEW)
    assert len(come(open_ones, MANY, 1000)) == 20
    assert len(come(open_ones, Peer(b"new ", is_local=False), 1000)) == 20

    assert not come(open_ones, Peer(b"last", is_local=False))
    assert come(open_ones, FEW)
    assert come(open_ones, LOCAL)
    assert len(come(open_ones, LOCAL, 1000)) == 14


def test_a_source_gets_so_many_connections_in_a_second():
    """Also where its own old ones could give way; the next second it gets as many again."""
    clock = Moment()
    open_ones = Connections(10, clock)
    first = come(open_ones, MANY, 1000)
    for second in (1.0, 2.0):
        clock.now_s = second
        assert len(come(open_ones, MANY, 1000)) == 20
    assert len(first) == 20
    assert sum(guest.is_closed for guest in first) == 20


def test_room_is_there_again_when_connections_end():
    """The count follows, whichever way a connection ended."""
    open_ones = Connections(1, Moment())
    guests = come(open_ones, MANY, 2)
    guests += come(open_ones, FEW, 2)
    assert len(guests) == 4
    assert not come(open_ones, Peer(b"new ", is_local=False))
    for guest in guests[:2] * 2:
        open_ones.discard(guest, MANY)
    for guest in guests[2:] * 2:
        open_ones.discard(guest, FEW)

    assert come(open_ones, MANY)


def test_addresses_of_one_ipv6_network_are_one_source():
    """A client has 2^64 of them. An IPv4 client is the same at a socket for both families."""
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        socket.create_connection(("127.0.0.1", server.getsockname()[1])) as client,
        server.accept()[0] as accepted,
    ):
        assert Peer.of(accepted) == Peer(bytes((127, 0, 0, 1)), is_local=True)
        client.close()
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
        socket.create_connection(server.getsockname()[:2]),
        server.accept()[0] as accepted,
    ):
        assert Peer.of(accepted) == Peer(bytes(8), is_local=True)


# --- with sockets -------------------------------------------------------------------------


def test_held_connections_give_way_to_new_ones():
    """Clients that send half a request, or read nothing, do not block others."""

    async def use() -> None:
        async with serving(big) as place, connections(place, 100) as held:
            for number, (_, writer) in enumerate(held):
                writer.write((b"GET / HT", HEAD)[number % 2])
            assert len((await ask(place, "/")).body) == len(BIG)
            await asyncio.sleep(1.1)
            async with connections(place, 100) as others:
                for _, writer in others:
                    writer.write(b"GET / HT")
                for reader, _ in held:
                    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                        await asyncio.wait_for(reader.readexactly(2 * len(BIG)), 20)
                assert len((await ask(place, "/")).body) == len(BIG)

    asyncio.run(use())


def test_slow_readers_of_long_answers_give_way():
    """Each holds an answer in memory, twice: 100 would hold 600 MB."""

    async def long(request: web.BaseRequest) -> web.Response:
        return answer(bytes(4_000_000), "text/plain")

    async def use() -> None:
        async with serving(long) as place, connections(place, 20) as held:
            for _, writer in held:
                writer.transport.pause_reading()
                writer.write(HEAD)
            assert len((await ask(place, "/")).body) == 4_000_000
            for _, writer in held:
                writer.transport.resume_reading()
            ends = [asyncio.wait_for(reader.readexactly(4_000_000), 20) for reader, _ in held]
            found = await asyncio.gather(*ends, return_exceptions=True)
            assert sum(isinstance(one, bytes) for one in found) <= 4

    asyncio.run(use())


def test_a_connection_has_its_first_second():
    """However many others there are: its request is read before it gives way."""

    async def use() -> None:
        async with serving(hello) as place, connections(place, 1) as [(reader, writer)]:
            writer.write(HEAD[:5])
            async with connections(place, 200) as others:
                for _, other in others:
                    other.write(HEAD[:5])
                await asyncio.sleep(0.2)
                writer.write(HEAD[5:])
                assert b"200 OK" in await asyncio.wait_for(reader.readline(), 20)

    asyncio.run(use())


#: Connects from another address, as fast as it can while it says nothing; or with half a request.
FLOOD = """
import socket, struct, sys
host, port, said = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
held = []
while True:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    one.bind(("127.0.0.2", 0))
    one.setblocking(False)
    one.connect_ex((host, port))
    if said:
        try:
            one.send(said)
        except OSError:
            pass
    held.append(one)
    if len(held) > 500:
        held.pop(0).close()
"""


@contextmanager
def flood(place: tuple[str, int], said: str) -> Iterator[None]:
    """Have two processes connect all the time."""
    command = [sys.executable, "-c", FLOOD, *map(str, place), said]
    attackers = [subprocess.Popen(command, preexec_fn=lambda: os.nice(5)) for _ in range(2)]
    try:
        yield
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.wait()


@pytest.mark.parametrize("said", ["", "GET /"], ids=["nothing", "half a request"])
def test_probes_are_answered_during_a_flood_of_connections(said: str):
    """As a kubelet asks: with a second of patience. Three failures in a row restart a pod."""

    async def probe(place: tuple[str, int]) -> bool:
        try:
            async with asyncio.timeout(1.0):
                return (await ask(place, "/")).body == b"hello"
        except (OSError, TimeoutError, ValueError, IndexError):
            return False

    async def use() -> list[bool]:
        async with serving(hello) as place:
            with flood(place, said):
                await asyncio.sleep(1.5)
                found = []
                for _ in range(12):
                    found.append(await probe(place))
                    await asyncio.sleep(0.1)
                return found

    found = asyncio.run(use())
    assert all(any(found[start : start + 3]) for start in range(len(found) - 2)), found


@contextmanager
def few_files(free: int) -> Iterator[None]:
    """Let this process open only so many further files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(file.name) for file in Path("/proc/self/fd").iterdir()}
    unused = (number for number in itertools.count() if number not in used)
    last = next(itertools.islice(unused, free, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (last, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


#: Holds 80 connections, from when it is asked to.
HOLD = """
import socket, sys
input()
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(80)]
for one in held:
    one.send(b"GET /")
print(flush=True)
input()
"""

#: Asks five times, when those connections have had their first second.
ASK = """
import socket, sys, time
time.sleep(3)
for _ in range(5):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5) as one:
        one.settimeout(5)
        one.send(b"GET / HTTP/1.0\\r\\n\\r\\n")
        assert b"hello" in one.makefile("rb").read()
"""


@contextmanager
def running(script: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a client in a process of its own, with its own files."""
    command = [sys.executable, "-c", script, str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_without_free_files_a_page_is_still_answered(caplog: pytest.LogCaptureFixture):
    """From a reserve; held connections give way. The log has one line."""

    async def use() -> int | None:
        async with serving(hello) as (_, port):
            with running(HOLD, port) as holder, running(ASK, port) as asker, few_files(20):
                assert holder.stdin is not None
                assert holder.stdout is not None
                holder.stdin.write(b"\n")
                await asyncio.to_thread(holder.stdout.readline)
                await until(lambda: asker.poll() is not None)
                return asker.returncode

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(use()) == 0
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1, said
    assert "Too many open files" in said[0]
