"""
Log lines of the daemon: text for people, JSON for collectors.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from nfproxy.config.process import Logging

_COMMITS_LEVEL, _DEBUG_LEVEL = 2, 4  # of -v: the levels at which kube-proxy says the like


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


def set_up(config: Logging, *, commits: bool) -> None:
    """
    Send log lines to standard error, as ``logging`` of the configuration says.

    With `commits` every commit gets a line also at verbosity 0.
    """
    formatter: logging.Formatter
    if config.format == "json":
        formatter = JSONFormatter()
    else:
        formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
        formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
        formatter.default_msec_format = "%s.%03d"
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    debug = config.verbosity >= _DEBUG_LEVEL
    logging.getLogger("nfproxy").setLevel(logging.DEBUG if debug else logging.INFO)
    if not commits and config.verbosity < _COMMITS_LEVEL:
        logging.getLogger("nfproxy.commits").setLevel(logging.WARNING)
