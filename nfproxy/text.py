"""
Text from strangers, made fit for a message: shortened, and quoted where it is not plain.
"""

from __future__ import annotations


def shorten(text: str, limit: int = 64) -> str:
    """Return hostile text cut to a length fit for a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quoted(text: str) -> str:
    """Return a name as it is if it is harmless, else shortened and in quotes."""
    plain = text and all(c.isascii() and (c.isalnum() or c in "-._/") for c in text)
    return shorten(text) if plain else repr(shorten(text))


def shown(path: str) -> str:
    """Return a path for a message: in quotes and escaped where it holds anything odd."""
    return path if path.isprintable() else repr(path)


def quoted_text(text: str, limit: int = 64) -> str:
    """Return hostile text shortened, in quotes, with everything odd in it escaped."""
    return repr(shorten(text, limit))


def plural(count: int, word: str) -> str:
    """Return ``1 change``, ``12,000 changes``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
