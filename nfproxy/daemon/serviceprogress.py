"""Whether the kernel has the last version of each Service, since when, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from nfproxy.clock import unix_s
from nfproxy.insight.overview import LastVersion
from nfproxy.kube.timestamps import timestamp
from nfproxy.model.service import ObjectName
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.syncreport import Report

#: Most Services share a moment, that of the start.
_text = lru_cache(maxsize=256)(timestamp)


class ServiceProgress:
    """
    What became of each Service's last change.

    A Service that has not changed since the start costs nothing. `committed` runs in the worker
    thread, `failed` in the event loop, `of` in any.
    """

    def __init__(self) -> None:
        """Nothing is in force yet."""
        self._begun = 0  # Unix time at which everything was programmed for the first time
        self._since: dict[ObjectName, int] = {}
        self._refused: Mapping[ObjectName, str] = {}
        self._error = ""

    def committed(self, planner: Planner, report: Report) -> None:
        """Take over what a commit put in force, and what the kernel refused."""
        at = int(unix_s())
        self._error = ""
        if report.left_out or self._refused:
            texts = {one.service: one.text for one in report.refused}
            self._refused = {
                name: texts.get(name) or self._refused.get(name, "the kernel refuses a part of it")
                for name, _ in report.left_out
            }
        if not self._begun:
            self._begun = 0 if report.left else at
            return
        for name in report.finished.services:
            if name in planner.services:
                self._since[name] = at
            else:
                self._since.pop(name, None)

    def failed(self, error: Exception) -> None:
        """A sync failed: what waits goes on waiting."""
        self._error = str(error)

    def of(self, name: ObjectName, *, waits: bool) -> LastVersion:
        """Return what is known of a Service; `waits` says that a change of it is not in force."""
        if refused := self._refused.get(name):
            return LastVersion(is_held=False, error=refused)
        if waits or not self._begun:
            return LastVersion(is_held=False, error=self._error)
        return LastVersion(is_held=True, since=_text(self._since.get(name, self._begun)))
