"""Log lines on standard error: their formats, their level, and how many may come."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import msgspec

from nfproxy.cli.floods import FloodFilter
from nfproxy.config.componentbase import Logging

_COMMITS = "nfproxy.commits"
_COMMITS_LEVEL, _DEBUG_LEVEL = 2, 4  # of -v: the levels at which kube-proxy logs the same


class TextFormatter(logging.Formatter):
    """Lines whose times are local, and name their offset: ``2026-11-30T05:43:35.382+01:00``."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return a record's time; Z stands for UTC."""
        text = (
            datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        )
        return text.replace("+00:00", "Z")


class JSONFormatter(logging.Formatter):
    """One JSON object a line, with the keys of Kubernetes components: ts, level, logger, msg."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON."""
        row: dict[str, Any] = {
            "ts": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            row["err"] = self.formatException(record.exc_info)
        return msgspec.json.encode(row).decode()


def set_up_logging(config: Logging, *, commits: bool) -> None:
    """
    Send log lines to standard error, in the format and at the level of `config`.

    With `commits` every commit gets a line, even at verbosity 0.
    """
    formatter: logging.Formatter
    if config.format == "json":
        formatter = JSONFormatter()
    else:
        formatter = TextFormatter("%(asctime)s %(levelname)s %(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    handler.addFilter(FloodFilter(_COMMITS))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    debug = config.verbosity >= _DEBUG_LEVEL
    logging.getLogger("nfproxy").setLevel(logging.DEBUG if debug else logging.INFO)
    if not commits and config.verbosity < _COMMITS_LEVEL:
        logging.getLogger(_COMMITS).setLevel(logging.WARNING)
