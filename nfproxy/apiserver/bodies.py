"""Reads the body of an answer: as a whole, within a bound, and only while it advances."""

from __future__ import annotations

import asyncio

import aiohttp

from nfproxy.clock import monotonic_s
from nfproxy.kube.apistatus import TOO_LONG, RequestError

#: A body may take this long, and as long as it takes at the slowest rate that counts as progress.
#: An API server gives up a request after 60 s.
PATIENCE_S = 60.0
_SLOWEST_BYTES_PER_S = 16 << 10

_MB = 1 << 20


class TooSlowError(TimeoutError):
    """A body arrives so slowly that the client gives it up."""

    def __init__(self, received: int, seconds: float) -> None:
        """Take how many bytes came in how many seconds."""
        super().__init__(f"{received} bytes in {seconds:.0f} s")
        self.received = received
        self.seconds = seconds


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """
    Return the whole body, decompressed.

    Raises RequestError with the code TOO_LONG for more than `max_bytes`, TooSlowError for a body
    that drips, and what aiohttp raises when the connection breaks.
    """
    parts: list[bytes] = []
    size = 0
    began = monotonic_s()
    loop = asyncio.get_running_loop()
    deadline_at = loop.time() + PATIENCE_S
    while True:
        try:
            async with asyncio.timeout_at(deadline_at + size / _SLOWEST_BYTES_PER_S) as deadline:
                part = await response.content.readany()
        except TimeoutError:
            if deadline.expired():
                raise TooSlowError(size, monotonic_s() - began) from None
            raise
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise RequestError(
                f"the answer is longer than {max_bytes // _MB} MB",
                "check what this address leads to",
                code=TOO_LONG,
                is_certain=True,
            )
        if deadline.expired():  # bytes were there at once, each time
            raise TooSlowError(size, monotonic_s() - began)
