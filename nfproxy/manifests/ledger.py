"""
What scan after scan means for the objects in force.

Pure: scans and times in, changes and problems out. A gain takes effect at once. A loss,
meaning a file that is gone, or one that was rewritten in place and now lacks objects or does
not parse, waits until nothing has happened for a moment: it may be half of somebody's move.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nfproxy.manifests.files import Signature
from nfproxy.manifests.inforce import InForce, Objects, successor
from nfproxy.manifests.parsing import Content
from nfproxy.manifests.scan import Identity, Scan
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName
from nfproxy.text import shown

QUIET_S = 0.2  # a loss is believed after so long without any change
PATIENCE_S = 3.0  # and at the latest after this


class _File(msgspec.Struct):
    """What is known of one file. `good` tells that its last content taken on had parsed."""

    signature: Signature
    good: bool = False
    problems: tuple[Problem, ...] = ()


class Ledger:
    """
    Follows one directory of manifests through its scans.

    A directory that is gone, or that was replaced by an empty one (a volume not mounted), says
    nothing: everything stays in force until files are seen again.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._in_force = InForce()
        self._files: dict[str, _File] = {}
        self._pending: dict[str, tuple[Signature, Content]] = {}
        self._missing: set[str] = set()
        self._identity: Identity | None = None
        self._last_change = 0.0
        self._waiting_since: float | None = None
        self._trouble: list[Problem] = []
        self._conflicts: list[Problem] = []

    @property
    def signatures(self) -> dict[str, Signature]:
        """The state of each file that was read last."""
        known = {path: file.signature for path, file in self._files.items()}
        return known | {path: signature for path, (signature, _) in self._pending.items()}

    def source_file(self, service: ObjectName) -> str:
        """Return the file a Service is in, "" for none."""
        return self._in_force.source_file(service)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong now, sorted, each once."""
        of_files = (problem for file in self._files.values() for problem in file.problems)
        return tuple(sorted({*of_files, *self._trouble, *self._conflicts}))

    def due_in(self, now: float) -> float | None:
        """Return in how many seconds to scan again without being told to, None for never."""
        if self._waiting_since is None:
            return None
        due = min(self._last_change + QUIET_S, self._waiting_since + PATIENCE_S)
        return max(due - now, 0.0)

    def take(self, scan: Scan, now: float, patient: bool = True) -> Changes:
        """
        Take a scan into account and return what follows for the objects.

        `now` is in seconds of any clock that never goes back. Without patience losses take
        effect at once.
        """
        if scan.error or self._replaced_by_nothing(scan):
            why = scan.error or "is empty, and not the directory it was"
            self._trouble = [self._stays(self._root, why, self._files)]
            self._identity = None  # an inode number may be given to another directory
            self._forget_waiting()
            return Changes()
        self._identity = scan.identity
        self._trouble = [
            self._stays(path, why, self._below(path))
            for path, why in scan.listing.unreadable.items()
        ]
        self._note_change(scan, now)
        updates = self._gains(scan)
        if not patient or self.due_in(now) == 0:
            updates |= self._losses()
        self._settle(now)
        changes = self._in_force.update(updates)
        if not self._missing:
            self._conflicts = self._in_force.conflicts()
        return changes

    def _replaced_by_nothing(self, scan: Scan) -> bool:
        """Tell whether the root is another directory than before, with no file in it."""
        return bool(self._files) and not scan.listing.files and scan.identity != self._identity

    def _note_change(self, scan: Scan, now: float) -> None:
        """Update what waits; any news starts the quiet time anew."""
        unreadable = tuple(scan.listing.unreadable)
        missing = {
            path
            for path in self._files
            if path not in scan.listing.files and not _is_below(path, unreadable)
        }
        if missing != self._missing or scan.contents:
            self._last_change = now
        self._missing = missing
        self._pending = {p: w for p, w in self._pending.items() if p in scan.listing.files}

    def _gains(self, scan: Scan) -> dict[str, Objects | None]:
        """Return what changes at once, and set aside what has to wait."""
        updates: dict[str, Objects | None] = {}
        for path, content in scan.contents.items():
            signature = scan.listing.files[path]
            if self._may_be_half(path, signature, content):
                self._pending[path] = signature, content
            else:
                self._pending.pop(path, None)
                updates[path] = self._accept(path, signature, content)
        return updates

    def _may_be_half(self, path: str, signature: Signature, content: Content) -> bool:
        """Tell whether a file may have been read while somebody was writing it."""
        file = self._files.get(path)
        if file is None:
            return not content.parsed
        if file.signature.inode != signature.inode:  # renamed into place, so complete
            return False
        before = self._in_force.of_file(path) or {}
        return not content.parsed or any(key not in content.objects for key in before)

    def _losses(self) -> dict[str, Objects | None]:
        """Return what changes once the quiet time is over."""
        updates: dict[str, Objects | None] = dict.fromkeys(self._missing)
        for path in self._missing:
            del self._files[path]
        self._missing = set()
        for path, (signature, content) in self._pending.items():
            updates[path] = self._accept(path, signature, content)
        self._pending = {}
        return updates

    def _accept(self, path: str, signature: Signature, content: Content) -> Objects:
        """Take on a file's content and return its objects from now on."""
        file = self._files.get(path)
        before = self._in_force.of_file(path)
        objects = successor(content, before, was_parsed=file is not None and file.good)
        problems = content.problems
        kept = [key for key in objects if objects is before or key not in content.objects]
        if kept:
            problems += (_kept(path, len(kept)),)
        good = content.parsed or (file is not None and file.good)
        self._files[path] = _File(signature, good, problems)
        return objects

    def _settle(self, now: float) -> None:
        """Note since when something waits."""
        if not self._missing and not self._pending:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now

    def _forget_waiting(self) -> None:
        self._missing, self._pending, self._waiting_since = set(), {}, None

    def _below(self, path: str) -> list[str]:
        """Return the known files at or below a path."""
        return [file for file in self._files if _is_below(file, (path,))]

    def _stays(self, path: str, why: str, files: Iterable[str]) -> Problem:
        """Return the problem of a path that cannot be looked at."""
        count = sum(len(self._in_force.of_file(file) or ()) for file in files)
        rest = f"; what is known from there ({_objects(count)}) stays in force" if count else ""
        return Problem(shown(path), "", "", f"{why}{rest}")


def _kept(path: str, count: int) -> Problem:
    return Problem(shown(path), "", "", f"{_objects(count)} in force as of the last good version")


def _objects(count: int) -> str:
    return f"{count} object{'s' * (count != 1)}"


def _is_below(path: str, places: tuple[str, ...]) -> bool:
    """Tell whether a path is one of some places or lies below one."""
    return any(path == place or path.startswith(f"{place.rstrip('/')}/") for place in places)
