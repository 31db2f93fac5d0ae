"""
Whether what an API server says of a resource belongs to one history.

An etcd that was restored from a backup goes on from there with versions that it has given before,
for other changes. A watch may then resume without an error after changes that it never showed: from
its silence nothing follows, but versions that go back and objects that are others are signs.
"""

from __future__ import annotations


class History:
    """The latest version that one resource has shown."""

    def __init__(self) -> None:
        """Start before the first list."""
        self._latest = ""
        self._is_listing = False

    def begin_list(self) -> None:
        """A list begins, whose objects are in no order."""
        self._is_listing = True

    def end_list(self, version: str) -> bool:
        """Take the version of a complete list; return whether versions went back."""
        self._is_listing = False
        went_back = is_before(version, self._latest)
        self._latest = version
        return went_back

    def event(self, version: str) -> bool:
        """Take the version of an event; return whether versions went back."""
        if self._is_listing or not version:
            return False
        if is_before(version, self._latest):
            return True
        self._latest = version
        return False


def is_before(version: str, other: str) -> bool:
    """Return whether a version is older; False where one is no number (KEP-5504: it always is)."""
    is_number = version.isascii() and version.isdigit() and other.isascii() and other.isdigit()
    return is_number and (len(version), version) < (len(other), other)
