"""
Text for people, made of text that others wrote: shortened, quoted, in one line.

Names, addresses and messages of objects, files, servers and programs may be hostile: huge, or full
of control characters. Everything that puts them into a message uses a function from here.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[-a-zA-Z0-9._/]+", re.ASCII)


def shorten(text: str, limit: int = 64) -> str:
    """Return text cut to a number of characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quoted(text: str, limit: int = 64) -> str:
    """Return text shortened and in quotes, with line breaks and control characters escaped."""
    return repr(shorten(text, limit))


def shown_name(text: str) -> str:
    """Return a name as it is if it is harmless, else like :func:`quoted`."""
    return shorten(text) if _PLAIN.fullmatch(text) else quoted(text)


def shown_path(path: str) -> str:
    """Return a path as it is if it is printable, else in quotes and escaped; never shortened."""
    return path if path.isprintable() else repr(path)


def one_line(text: str, limit: int = 200) -> str:
    """Return a message of another program shortened, in one line, without control characters."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    return shorten(" ".join(printable.split()), limit)


def plural(count: int, word: str) -> str:
    """Return ``1 change``, ``12,000 changes``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
