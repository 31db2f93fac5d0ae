"""Versions of one value: what they have in common exists once in memory."""

from __future__ import annotations

import msgspec


def share_equal_fields(new: msgspec.Struct, old: msgspec.Struct) -> None:
    """
    Let a new version have the old one's objects where fields are equal; nothing has seen it yet.

    Dictionaries keep the key that they had first. Without this, each object of a cluster would have
    two names in memory once it has changed: its first one in all dictionaries, and its own.
    """
    for name in new.__struct_fields__:
        value, held = getattr(new, name), getattr(old, name)
        if value is not held and value == held:
            msgspec.structs.force_setattr(new, name, held)
