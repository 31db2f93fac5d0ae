"""
The numbers of endpoints, as the rules of session affinity compute them.

A map that the kernel fills, and whose values a rule then looks up elsewhere, can only hold numbers
that fit a packet's priority. An endpoint's is a hash of its address and port, which the
rules compute with ``jhash``, and this module in the same way.
"""

from __future__ import annotations

import functools
import sys

#: The numbers are from here to twice as much. As a priority they are the handles 4000:0 to
#: 7fff:ffff of traffic control, which no program uses: the kernel gives out those from 8000:0.
FIRST_NUMBER = 1 << 30

#: Which bits say that a priority is such a number: masked with this, it is FIRST_NUMBER.
NUMBER_MASK = 3 << 30

SEED = 1

_WORD = 0xFFFFFFFF
_INITIAL = 0xDEADBEEF  # JHASH_INITVAL


@functools.lru_cache(maxsize=4096)
def endpoint_number(destination: bytes) -> int:
    """Return the number of an endpoint: packed address and padded port, as in an element."""
    return FIRST_NUMBER + (jhash(destination, SEED) * FIRST_NUMBER >> 32)


def jhash(data: bytes, seed: int) -> int:
    """
    Return what ``jhash()`` of the kernel (``linux/jhash.h``, by Bob Jenkins) makes of some bytes.

    It reads words of the machine's byte order, but for those at the end.
    """
    a = b = c = (_INITIAL + len(data) + seed) & _WORD
    at = 0
    while len(data) - at > 12:
        a, b, c = (
            (word + int.from_bytes(data[at + i : at + i + 4], sys.byteorder)) & _WORD
            for word, i in ((a, 0), (b, 4), (c, 8))
        )
        a, b, c = _mixed(a, b, c)
        at += 12
    tail = data[at:].ljust(12, b"\0")
    a = (a + int.from_bytes(tail[:4], "little")) & _WORD
    b = (b + int.from_bytes(tail[4:8], "little")) & _WORD
    c = (c + int.from_bytes(tail[8:], "little")) & _WORD
    return _final(a, b, c)


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & _WORD


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for by in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _WORD) ^ _rotated(c, by)
        c = (c + b) & _WORD
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotated(b, by)) & _WORD
        a, b, c = b, c, a
    return b
