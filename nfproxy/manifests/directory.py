"""
When a change of a manifest directory takes effect.

Pure: scans and times in, changes and problems out. A gain takes effect at once. A loss waits until
the directory has been quiet, because it may be half of a move: a file that is gone, or one that was
rewritten in place and now lacks objects or does not parse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.heldfiles import FileContent
from nfproxy.kube.identity import Kind
from nfproxy.manifests.files import Signature
from nfproxy.manifests.scan import DirectoryId, Scan
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName
from nfproxy.text import plural, shown_path

QUIET_S = 0.2  # a loss takes effect after so long without any change
MAX_WAIT_S = 3.0  # and at the latest after this


class ManifestDirectory:
    """
    The objects of one directory of manifests, scan after scan.

    A directory that is gone, or that was replaced by an empty one (a volume that is not mounted),
    changes nothing: its objects stay until files are seen again. Not safe for threads.
    """

    def __init__(self, root: str, node_name: str = "") -> None:
        self._root = root
        self._cache = ObjectCache(node_name)
        self._signatures: dict[str, Signature] = {}  # of the files whose content is in the cache
        self._waiting: dict[str, tuple[Signature, FileContent]] = {}
        self._missing: set[str] = set()
        self._root_id: DirectoryId | None = None
        self._changed_at = 0.0
        self._waiting_since: float | None = None
        self._unreadable: list[Problem] = []
        self._conflicts: list[Problem] = []

    @property
    def signatures(self) -> dict[str, Signature]:
        """The state of each file when it was last read."""
        return self._signatures | {
            path: signature for path, (signature, _) in self._waiting.items()
        }

    def source_file(self, service: ObjectName) -> str:
        """Return the file a Service is in, "" for none."""
        return self._cache.source_file(service)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong now, sorted, each once."""
        found = {*self._cache.problems, *self._unreadable, *self._conflicts}
        if count := self._cache.serviceless:
            # One line for all of them: they are often of an owner that has nothing to do with us.
            what = f"{plural(count, 'slice')} without label kubernetes.io/service-name; ignored"
            found.add(Problem("", "EndpointSlices", "", what, kind=Kind.ENDPOINT_SLICE.word))
        return tuple(sorted(found))

    def due_in(self, now: float) -> float | None:
        """Return in how many seconds the next scan is due without an event, None for never."""
        if self._waiting_since is None:
            return None
        due = min(self._changed_at + QUIET_S, self._waiting_since + MAX_WAIT_S)
        return max(due - now, 0.0)

    @property
    def take(self) -> Callable[[], Changes]:
        """The function that returns what has changed since its last call."""
        return self._cache.take

    @property
    def has_changes(self) -> bool:
        """Whether there may be something to take."""
        return self._cache.has_changes

    def apply(self, scan: Scan, now: float, at_once: bool = False) -> None:
        """
        Take a scan into account.

        `now` is in seconds of any clock that never goes back. With `at_once` losses take effect
        without waiting.
        """
        if scan.error or self._was_replaced_by_nothing(scan):
            why = scan.error or "is empty, and not the directory it was"
            self._unreadable = [self._stays(self._root, why, self._signatures)]
            self._root_id = None  # an inode number may be given to another directory
            self._missing, self._waiting, self._waiting_since = set(), {}, None
            return
        self._root_id = scan.root_id
        self._unreadable = [
            self._stays(path, why, self._files_below(path))
            for path, why in scan.listing.unreadable.items()
        ]
        if scan.listing.lack:
            self._unreadable.append(Problem(shown_path(self._root), "", "", scan.listing.lack))
        self._note_change(scan, now)
        self._apply_gains(scan)
        if at_once or self.due_in(now) == 0:
            self._apply_losses()
        if not self._missing and not self._waiting:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        if not self._missing:  # while a file is being moved, old and new place both hold it
            self._conflicts = self._cache.conflicts()

    def _was_replaced_by_nothing(self, scan: Scan) -> bool:
        """Return whether the root is another directory than before, with no file in it."""
        known = bool(self._signatures)
        return known and not scan.listing.files and scan.root_id != self._root_id

    def _note_change(self, scan: Scan, now: float) -> None:
        """Update what waits; any change starts the quiet time again."""
        unreadable = tuple(scan.listing.unreadable)
        missing = {
            path
            for path in self._signatures
            if path not in scan.listing.files and not _is_below(path, unreadable)
        }
        if missing != self._missing or scan.contents:
            self._changed_at = now
        self._missing = missing
        self._waiting = {p: w for p, w in self._waiting.items() if p in scan.listing.files}

    def _apply_gains(self, scan: Scan) -> None:
        """Put into the cache what takes effect at once, and set aside what has to wait."""
        for path, content in scan.contents.items():
            signature = scan.listing.files[path]
            if self._may_be_half_written(path, signature, content):
                self._waiting[path] = signature, content
            else:
                self._waiting.pop(path, None)
                self._signatures[path] = signature
                self._cache.replace_file(path, content)

    def _may_be_half_written(self, path: str, signature: Signature, content: FileContent) -> bool:
        """Return whether a file may have been read while a program was writing it."""
        known = self._signatures.get(path)
        if known is None:
            return not content.parsed
        if known.inode != signature.inode:  # renamed into place, so complete
            return False
        before = self._cache.objects_in(path) or {}
        return not content.parsed or any(key not in content.objects for key in before)

    def _apply_losses(self) -> None:
        """Put into the cache what has waited."""
        for path in self._missing:
            del self._signatures[path]
            self._cache.remove_file(path)
        self._missing = set()
        for path, (signature, content) in self._waiting.items():
            self._signatures[path] = signature
            self._cache.replace_file(path, content)
        self._waiting = {}

    def _files_below(self, path: str) -> list[str]:
        """Return the known files at or below a path."""
        return [file for file in self._signatures if _is_below(file, (path,))]

    def _stays(self, path: str, why: str, files: Iterable[str]) -> Problem:
        """Return the problem of a path that cannot be looked at."""
        count = sum(len(self._cache.objects_in(file) or ()) for file in files)
        rest = f"; {plural(count, 'object')} from there in use as before" if count else ""
        return Problem(shown_path(path), "", "", f"{why}{rest}")


def _is_below(path: str, places: tuple[str, ...]) -> bool:
    """Return whether a path is one of some places or lies below one."""
    return any(path == place or path.startswith(f"{place.rstrip('/')}/") for place in places)
