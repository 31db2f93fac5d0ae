"""A directory of manifest files as a source of objects."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from nfproxy.clock import monotonic_s
from nfproxy.errors import InputError
from nfproxy.kube.source import Report
from nfproxy.manifests.directory import ManifestDirectory
from nfproxy.manifests.scan import Scan, scan
from nfproxy.manifests.watching import Targets, Watch, targets
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName
from nfproxy.text import shown_path

_WITHOUT_WATCH_S = 10.0  # between two scans while inotify is not available


class ManifestSource:
    """
    Reads every ``.yaml``, ``.yml`` and ``.json`` file below `path`, and follows changes.

    `path` may also be one file. Of Nodes only the one called `node_name` is read. Every problem is
    given to `report` when it arises, and again if it comes back. Use from the event loop, within
    ``async with``. Implements :class:`~nfproxy.kube.source.Source`.
    """

    def __init__(
        self,
        path: str,
        node_name: str,
        report: Report,
    ) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100 - links are followed again at each scan
        self._node_name = node_name
        self._report = report
        self._directory = ManifestDirectory(self._path, node_name)
        self._links: tuple[str, ...] = ()
        self._scanned_ns = 0
        self._watch = Watch()
        self._targets: Targets | None = None
        self._suspects: set[str] = set()  # files that an event named since the last scan
        self._problems: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong now, sorted, each once."""
        return self._problems

    def source_file(self, service: ObjectName) -> str:
        """Return the file a Service is in, "" for none."""
        return self._directory.source_file(service)

    async def load(self) -> Changes:
        """
        Return all objects.

        Raises InputError where the path does not exist or cannot be looked at: an empty answer
        would delete what an earlier run programmed.
        """
        found = await self._scan()
        if found.error:
            raise InputError(f"{shown_path(self._path)}: {found.error}")
        self._apply(found, at_once=True)
        return self._directory.take()

    async def changed(self) -> None:
        """Return when there may be something to take."""
        while True:
            if self._targets is not None and self._targets == await self._find_targets():
                # The last scan came after these were watched, so events show all that came later.
                self._suspects = await self._watch.wait(self._timeout_s())
            self._targets = await self._find_targets()
            await self._watch.aim(self._targets)
            self._apply(await self._scan())
            if self._directory.has_changes:
                return

    @property
    def take(self) -> Callable[[], Changes]:
        """The function that returns what has changed since its last call, or since `load`."""
        return self._directory.take

    async def aclose(self) -> None:
        """Stop watching; idempotent."""
        await self._watch.close()

    async def __aenter__(self) -> ManifestSource:
        """Return the source; its watch ends with the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop watching."""
        await self.aclose()

    async def _find_targets(self) -> Targets:
        return await asyncio.to_thread(targets, self._path, self._links)

    async def _scan(self) -> Scan:
        """Look at the files, in a thread: a large file takes seconds to parse."""
        found = await asyncio.to_thread(
            scan,
            self._path,
            self._directory.signatures,
            self._suspects,
            self._node_name,
            self._scanned_ns,
        )
        self._suspects = set()
        self._scanned_ns = found.started_ns
        self._links = tuple(found.listing.links)
        return found

    def _apply(self, found: Scan, at_once: bool = False) -> None:
        """Take a scan into account, and report what is wrong that was not before."""
        self._directory.apply(found, monotonic_s(), at_once)
        problems = self._directory.problems
        if self._watch.error:
            text = (
                f"cannot be watched ({self._watch.error}), so changes are looked for every "
                f"{_WITHOUT_WATCH_S:.0f} s; see /proc/sys/fs/inotify"
            )
            problems = tuple(sorted({*problems, Problem(shown_path(self._path), "", "", text)}))
        before = set(self._problems)
        self._problems = problems
        for problem in problems:
            if problem not in before:
                self._report(problem)

    def _timeout_s(self) -> float | None:
        """Return how long to wait for a change at most, None for ever."""
        due_s = self._directory.due_in(monotonic_s())
        if not self._watch.error:
            return due_s
        return _WITHOUT_WATCH_S if due_s is None else min(due_s, _WITHOUT_WATCH_S)
