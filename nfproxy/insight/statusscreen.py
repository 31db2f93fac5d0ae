"""The screen that ``nfproxy status`` prints, as values; `nodestatus` says what its rows say."""

from __future__ import annotations

import enum

import msgspec

from nfproxy.insight.daemonstatus import API_VERSION

#: Where the daemon serves it, to clients on loopback addresses.
NODE_PATH = "/node"

#: The subject of the row about Services.
SERVICES = "services"


class Mark(enum.StrEnum):
    """How a row of the status is: all right, worth a look, or connections fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class StatusRow(msgspec.Struct, frozen=True, rename="camel"):
    """One subject: how it is, what was found, and the command or place to look at, or ""."""

    level: Mark
    subject: str
    found: str
    look: str = ""


class StatusScreen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    The whole screen. Fields are only added.

    `since` is when the tables came to hold what they should, RFC 3339; "" while they do not.
    `version`, `pid` and `started` are the daemon's, empty where none answers. `at` is now.
    """

    api_version: str = API_VERSION
    kind: str = "NodeStatus"
    node: str
    version: str = ""
    pid: int = 0
    started: str = ""
    since: str = ""
    at: str = ""
    rows: tuple[StatusRow, ...] = ()

    @property
    def level(self) -> Mark:
        """The worst level of a row."""
        found = {row.level for row in self.rows}
        return next((level for level in (Mark.FAIL, Mark.WARN) if level in found), Mark.OK)


def age_text(seconds: float) -> str:
    """Return a duration with its two largest units: ``14 s``, ``12 min``, ``3 d 4 h``."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h"
    return f"{days} d" + (f" {hours % 24} h" if hours % 24 else "")
