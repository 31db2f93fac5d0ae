"""
Server and client in one file, which needs nothing but Python 3.11: it runs in pods, too.

    peer.py serve NAME PORT LINGER_S    answer on PORT over TCP and UDP
    peer.py ask                         carry out requests, one JSON object a line

A server greets a TCP connection, and answers a UDP datagram, with one line: ``NAME ADDRESS``,
where ADDRESS is the source it saw; what more comes on a connection it sends back. It says
"ready" when it listens. On SIGTERM it serves on until no client has come for LINGER_S seconds, as a
server should whose endpoint is about to be taken away, and ends.

A request has an "id", which is in its answer, and a "do": see the methods of `Asker`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_TOTAL_RETRANS = 100  # the offset of tcpi_total_retrans in struct tcp_info
_AT_ONCE = 32
_udp_ports = itertools.cycle(range(20000, 30000))  # below node ports, and what the system gives out
_ECHO_S = 0.05
_TURN_S = 0.1
_LINE = b"still there?\n"

Json = dict[str, Any]
T = TypeVar("T")


# -- server ---------------------------------------------------------------------------------


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name: str, note: Callable[[], None]) -> None:
        self._name = name
        self._note = note

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._note()
        self._transport.sendto(f"{self._name} {addr[0]}\n".encode(), addr)


async def serve(name: str, port: int, linger_s: float) -> None:
    """Answer until SIGTERM, and on until no client has come for so long."""
    loop = asyncio.get_running_loop()
    last_s = loop.time()

    def note() -> None:
        nonlocal last_s
        last_s = loop.time()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        note()
        try:
            writer.write(f"{name} {writer.get_extra_info('peername')[0]}\n".encode())
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    await asyncio.start_server(greet, None, port, backlog=1024)
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        await loop.create_datagram_endpoint(lambda: _Datagrams(name, note), sock=sock)
    print("ready", flush=True)
    await ending.wait()
    note()
    while (left_s := last_s + linger_s - loop.time()) > 0:  # noqa: ASYNC110 (the end moves)
        await asyncio.sleep(left_s)
    # connections that are open end with the process
    sys.stdout.flush()
    os._exit(0)


# -- client ---------------------------------------------------------------------------------


async def _within(timeout_s: float, work: Coroutine[Any, Any, T]) -> T:
    """
    Return what `work` returns. Raises TimeoutError if that takes too long.

    The time is counted in turns of this process: where the machine stops it for seconds, an answer
    that came meanwhile is read first, and is not taken for a lost packet.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(math.ceil(timeout_s / _TURN_S)):
            await asyncio.wait({task}, timeout=_TURN_S)
            if task.done():
                return task.result()
        raise TimeoutError
    finally:
        task.cancel()


class _Reply(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self.came.done():
            self.came.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.came.done():
            self.came.set_exception(exc)


async def _tcp(to: Json, own: tuple[str, int] | None) -> Json:
    reader, writer = await asyncio.open_connection(to["address"], to["port"], local_addr=own)
    try:
        line = await reader.readline()
        if not line:
            raise ConnectionResetError("closed without an answer")
        sock = writer.get_extra_info("socket")
        sender = sock.getsockname()[0]
        return {"line": line, "from": sender, "resent": _sent_again(sock)}
    finally:
        writer.close()


async def _udp(to: Json, own: tuple[str, int] | None) -> Json:
    loop = asyncio.get_running_loop()
    transport, reply = await loop.create_datagram_endpoint(
        _Reply, remote_addr=(to["address"], to["port"]), local_addr=own
    )
    try:
        transport.sendto(b"?")
        line = await reply.came
        return {"line": line, "from": transport.get_extra_info("sockname")[0], "resent": 0}
    finally:
        transport.close()


def _sent_again(sock: Any) -> int:
    information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANS + 4)
    (count,) = struct.unpack_from("=I", information, _TOTAL_RETRANS)
    return int(count)


async def _try(to: Json) -> Json:
    """Make one connection; return who answered, or what went wrong."""
    own = to.get("own")
    one = _udp if to.get("protocol") == "UDP" else _tcp
    outcome = {"by": "", "saw": "", "from": "", "error": "", "resent": 0}
    try:
        done = await _within(to["timeout_s"], one(to, own))
    except TimeoutError:
        return {**outcome, "error": "dropped"}
    except ConnectionRefusedError:
        return {**outcome, "error": "refused"}
    except OSError as error:
        return {**outcome, "error": f"{type(error).__name__}: {error}"}
    by, _, saw = done.pop("line").decode().strip().partition(" ")
    return {**outcome, **done, "by": by, "saw": saw.removeprefix("::ffff:")}


def _own(to: Json) -> tuple[str, int] | None:
    """
    Return what to send from: for UDP no port twice in two minutes, even to another place.

    To conntrack that would be the same flow, which goes on to its endpoint, and is refused there
    for a moment when that is gone.
    """
    if to.get("protocol") != "UDP":
        return None
    return "::" if ":" in to["address"] else "0.0.0.0", next(_udp_ports)


class _Load:
    """New connections at a rate, and some that are held, from making it to `end`."""

    def __init__(self, to: Json, rate: float, held: int) -> None:
        self._to = to
        self._interval_s = 1 / rate
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.sent = self.resent = 0
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._main = asyncio.create_task(self._open_all())
        self._held = [asyncio.create_task(self._hold()) for _ in range(held)]

    async def _open_all(self) -> None:
        due = self._loop.time()
        while not self._stopping:
            self.sent += 1
            task = asyncio.create_task(self._one())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            due = max(due + self._interval_s, self._loop.time() - 1)
            await asyncio.sleep(due - self._loop.time())

    async def _one(self) -> None:
        began = self._loop.time() - self._began
        outcome = await _try({**self._to, "own": _own(self._to)})
        self.resent += outcome["resent"]
        if outcome["error"]:
            self.failures.append(f"{outcome['error']} at {began:.2f} s")
        else:
            self.answers[outcome["by"]] += 1

    async def _hold(self) -> None:
        """Keep a connection open, with a line going there and back all the time."""
        try:
            timeout_s = self._to["timeout_s"]
            opening = asyncio.open_connection(self._to["address"], self._to["port"])
            reader, writer = await _within(timeout_s, opening)
            await _within(timeout_s, reader.readline())
            while not self._stopping:
                writer.write(_LINE)
                if await _within(timeout_s, reader.readline()) != _LINE:
                    raise ConnectionResetError("closed")
                await asyncio.sleep(_ECHO_S)
            self.resent += _sent_again(writer.get_extra_info("socket"))
            writer.close()
        except (OSError, TimeoutError) as error:
            now = self._loop.time() - self._began
            self.failures.append(f"held connection: {error!r} at {now:.2f} s")

    async def end(self) -> None:
        """Open no more, and wait for those that are under way."""
        self._stopping = True
        await asyncio.gather(self._main, *self._held, *self._tasks)

    def figures(self) -> Json:
        """Return what there is so far."""
        return {
            "sent": self.sent,
            "resent": self.resent,
            "answers": self.answers,
            "failures": self.failures,
        }


class Asker:
    """Carries out requests, each as soon as it comes; every method is a "do"."""

    def __init__(self) -> None:
        self._loads: dict[int, _Load] = {}

    async def ask(self, request: Json) -> Any:
        """Make "count" connections to "address" and "port"; return their outcomes."""
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one() -> Json:
            async with turn:
                return await _try(request)

        return await asyncio.gather(*(one() for _ in range(request["count"])))

    async def get(self, request: Json) -> Any:
        """Return the status of a HTTP GET, 0 without an answer."""
        try:
            async with asyncio.timeout(request["timeout_s"]):
                reader, writer = await asyncio.open_connection(request["address"], request["port"])
                writer.write(f"GET {request['path']} HTTP/1.0\r\n\r\n".encode())
                line = await reader.readline()
                writer.close()
                return int(line.split()[1]) if line else 0
        except (OSError, TimeoutError):
            return 0

    async def source_to(self, request: Json) -> Any:
        """Return the address that packets to "address" are sent from."""
        family = socket.AF_INET6 if ":" in request["address"] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((request["address"], 9))  # sends nothing
            return sock.getsockname()[0]

    async def resolve(self, request: Json) -> Any:
        """Return the addresses of a "name", sorted."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(request["name"], None, type=socket.SOCK_STREAM)
        except OSError:
            return []
        return sorted({entry[4][0] for entry in found})

    async def load(self, request: Json) -> Any:
        """Begin a load; its id is that of the request."""
        self._loads[request["id"]] = _Load(request, request["rate"], request["held"])

    async def figures(self, request: Json) -> Any:
        """Return the figures of a "load" so far."""
        return self._loads[request["load"]].figures()

    async def end(self, request: Json) -> Any:
        """End a "load", and return its figures."""
        load = self._loads.pop(request["load"])
        await load.end()
        return load.figures()


async def ask() -> None:
    """Carry out what standard input asks for, until it ends."""
    asker = Asker()
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks: set[asyncio.Task[None]] = set()

    async def carry_out(request: Json) -> None:
        method: Callable[[Json], Any] = getattr(asker, request["do"])
        try:
            answer = {"id": request["id"], "result": await method(request)}
        except Exception as error:
            answer = {"id": request["id"], "error": repr(error)}
        print(json.dumps(answer), flush=True)

    while line := await reader.readline():
        task = asyncio.create_task(carry_out(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def main() -> None:
    """Read the command line, and run."""
    match sys.argv[1:]:
        case ["serve", name, port, linger_s]:
            asyncio.run(serve(name, int(port), float(linger_s)))
        case ["ask"]:
            asyncio.run(ask())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
