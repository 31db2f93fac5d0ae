"""Two versions of a value share what is equal in both."""

from __future__ import annotations

import msgspec

from nfproxy.model.service import ObjectName
from nfproxy.model.sharing import share_equal_fields


class Value(msgspec.Struct, frozen=True):
    """A version of something."""

    name: ObjectName
    ports: tuple[str, ...]


def made(port: str) -> Value:
    """Return a version, of objects of its own."""
    return Value(ObjectName("default", "-".join(("web", "1"))), (port,))


def test_equal_fields_are_one_object() -> None:
    """And others are as they were."""
    old, new = made("80"), made("81")
    share_equal_fields(new, old)

    assert new == made("81")
    assert new.name is old.name
