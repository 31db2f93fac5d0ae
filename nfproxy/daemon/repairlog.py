"""
What other processes have done to the tables and nfproxy has not repaired yet, as the log says it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nfproxy.dataplane.notifications import Damage, ForeignChange
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.nft.schema import TABLE
from nfproxy.text import plural

log = logging.getLogger(__name__)

# A process that changes the tables several times a second must not fill the log: so many changes
# are logged one by one, further ones only this often.
_LOGGED_AT_ONCE = 5
_LOG_EVERY_S = 10.0


class RepairLog:
    """
    The foreign changes since the tables were last in step, and what the log says about them.

    Belongs to the event loop; times are monotonic seconds.
    """

    def __init__(self, families: Sequence[Family]) -> None:
        """Start in step; `families` are those that this node proxies."""
        self._families = frozenset(families)
        self._change: ForeignChange | None = None
        self._since_s = 0.0
        self._lines = _Lines()

    @property
    def knows_a_change(self) -> bool:
        """Whether the tables are known to differ from what they should hold."""
        return self._change is not None

    def changed(self, change: ForeignChange, delay_s: float | None, now_s: float) -> None:
        """Log a change that is repaired `delay_s` later; None: by a repair that is due already."""
        if self._change is None:
            self._since_s = now_s
            self._lines.begin(now_s)
        if change.damage is not Damage.UNKNOWN:
            self._change = self._change.followed_by(change) if self._change else change
        if delay_s is None or not self._lines.are_wanted:
            return
        if change.damage is Damage.UNKNOWN:
            log.info("%s; reading the tables%s", change.text, self._lines.skipped_text)
            return
        when = f"repairing in {delay_s:.2g} s, since it changes them repeatedly"
        level = logging.ERROR if change.damage >= Damage.RULES else logging.WARNING
        log.log(
            level,
            "%s%s; %s%s",
            change.text,
            self._consequence(change),
            when if delay_s >= 0.01 else "repairing now",
            self._lines.skipped_text,
        )

    def repair_failed(self, error: Exception, delay_s: float) -> None:
        """Log a repair that failed and is tried again `delay_s` later."""
        if self._lines.are_wanted:
            log.error("%s; the tables are not repaired yet, next try in %.2g s", error, delay_s)

    def repaired(self, operations: int, now_s: float) -> None:
        """Log that the tables are in step again, after so many operations."""
        change, self._change = self._change, None
        if change is None or not self._lines.are_wanted:
            return
        tables = " and ".join(f"{f.table} {TABLE}" for f in FAMILIES if f in change.families)
        log.info(
            "repaired table %s, %.0f ms after the change%s",
            tables,
            (now_s - self._since_s) * 1000,
            # 0: rules or chains alone, which are loaded as a whole and not counted.
            f": {plural(operations, 'element')} put right" if operations else "",
        )

    def _consequence(self, change: ForeignChange) -> str:
        if change.damage < Damage.RULES or not change.families & self._families:
            return ""
        families = [f for f in FAMILIES if f in change.families & self._families]
        over = "" if len(families) == len(self._families) else f" OVER {families[0].label}"
        if change.damage is Damage.TABLE:
            return f": NO SERVICE WORKS{over} ON THIS NODE until it is repaired"
        return f": SERVICES FAIL{over} ON THIS NODE until it is repaired"


class _Lines:
    """Which repairs are logged: each of the first few, then one now and then."""

    def __init__(self) -> None:
        self.are_wanted = True
        self._left = _LOGGED_AT_ONCE
        self._last_s = 0.0
        self._skipped = 0

    def begin(self, now_s: float) -> None:
        """A change is found: decide whether it and its repair are logged."""
        if now_s - self._last_s >= _LOG_EVERY_S * _LOGGED_AT_ONCE:
            self._left = _LOGGED_AT_ONCE
        self.are_wanted = self._left > 0 or now_s - self._last_s >= _LOG_EVERY_S
        if self.are_wanted:
            self._left -= self._left > 0
            self._last_s = now_s
        else:
            self._skipped += 1

    @property
    def skipped_text(self) -> str:
        """How many repairs were not logged; reading it forgets them."""
        skipped, self._skipped = self._skipped, 0
        return f" ({plural(skipped, 'earlier repair')} not logged)" if skipped else ""
