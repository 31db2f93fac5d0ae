"""
A directory of manifest files as a source.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable

from nfproxy.clock import monotonic_s
from nfproxy.errors import InputError
from nfproxy.kube.source import Report
from nfproxy.manifests.directory import ManifestDirectory
from nfproxy.manifests.scan import Scan, scan
from nfproxy.manifests.watching import Watch, targets
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName
from nfproxy.text import shown

_WITHOUT_WATCH_S = 10.0  # how often to look while inotify cannot be had


class ManifestSource:
    """
    Reads every ``.yaml``, ``.yml`` and ``.json`` file below `path`, and follows changes.

    `path` may also be one file. Of Nodes only the one called `node_name` is read. Every
    problem is given to `report` once when it arises, and again if it comes back.
    Implements :class:`~nfproxy.kube.source.Source`.
    """

    def __init__(
        self,
        path: str,
        node_name: str,
        report: Report,
        clock: Callable[[], float] = monotonic_s,
    ) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100 - links are to be followed anew each time
        self._node_name = node_name
        self._report = report
        self._clock = clock
        self._directory = ManifestDirectory(self._path, node_name)
        self._links: tuple[str, ...] = ()
        self._scanned_ns = 0
        self._watch = Watch()
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
        Return all objects there are.

        Raises InputError where the path does not exist or cannot be looked at: taking
        that for an empty cluster would delete what an earlier run programmed.
        """
        found = await self._scan(set())
        if found.error:
            raise InputError(f"{shown(self._path)}: {found.error}")
        return self._take(found, at_once=True)

    async def changes(self) -> AsyncIterator[Changes]:
        """Yield what changes in the files, each time all that has changed since the last."""
        suspects: set[str] = set()
        try:
            while True:
                aim = await asyncio.to_thread(targets, self._path, self._links)
                await self._watch.aim(aim)
                changes = self._take(await self._scan(suspects))
                if changes:
                    yield changes
                suspects = set()
                if aim == await asyncio.to_thread(targets, self._path, self._links):
                    suspects = await self._watch.wait(self._timeout_s())
        finally:
            await self._watch.close()

    async def _scan(self, suspects: set[str]) -> Scan:
        """Look at the files, in a thread: a large file takes seconds to parse."""
        found = await asyncio.to_thread(
            scan,
            self._path,
            self._directory.signatures,
            suspects,
            self._node_name,
            self._scanned_ns,
        )
        self._scanned_ns = found.started_ns
        self._links = tuple(found.listing.links)
        return found

    def _take(self, found: Scan, at_once: bool = False) -> Changes:
        """Take a scan into account, and report what is wrong that was not before."""
        changes = self._directory.take(found, self._clock(), at_once)
        problems = self._directory.problems
        if self._watch.error:
            text = (
                f"cannot be watched ({self._watch.error}), so changes are looked for every "
                f"{_WITHOUT_WATCH_S:.0f} s; see /proc/sys/fs/inotify"
            )
            problems = tuple(sorted({*problems, Problem(shown(self._path), "", "", text)}))
        before = set(self._problems)
        self._problems = problems
        for problem in problems:
            if problem not in before:
                self._report(problem)
        return changes

    def _timeout_s(self) -> float | None:
        """Return how long to wait for a change at most, None for ever."""
        due_s = self._directory.due_in(self._clock())
        if not self._watch.error:
            return due_s
        return _WITHOUT_WATCH_S if due_s is None else min(due_s, _WITHOUT_WATCH_S)
