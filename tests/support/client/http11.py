"""HTTP/1.1 spoken byte by byte, so that tests see what is really sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

TIMEOUT_S = 20.0


class Reply(NamedTuple):
    """One response; header names are lower case."""

    code: int
    headers: dict[str, str]
    body: bytes


async def ask(
    place: tuple[str, int], path: str, method: str = "GET", *, host: str = "node", **headers: str
) -> Reply:
    """Send one request on a connection of its own; ``accept_encoding`` is Accept-Encoding."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return parse(await exchange(place, "\r\n".join([*lines, "", ""]).encode()))


@asynccontextmanager
async def connections(
    place: tuple[str, int], count: int = 1
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Open connections, one after the other, and close them at the end."""
    held = [await asyncio.open_connection(*place) for _ in range(count)]
    try:
        yield held
    finally:
        for _, writer in held:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for _, w in held), return_exceptions=True)


async def exchange(place: tuple[str, int], sent: bytes) -> bytes:
    """Send bytes and return all that comes until the other side closes."""
    async with connections(place) as [(reader, writer)]:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), TIMEOUT_S)


def parse(received: bytes) -> Reply:
    """Return a response that ends where the connection did."""
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Reply(int(status.split()[1]), headers, body)
