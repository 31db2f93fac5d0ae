"""
How ready the kernel is to end this process when memory runs out.
"""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)

_TRIES = 2  # as kube-proxy


def set_oom_score_adj(value: int, *, path: Path = Path("/proc/self/oom_score_adj")) -> None:
    """
    Set the process's OOM score adjustment (``oomScoreAdj``, -1000 to 1000).

    Never raises: lowering it takes CAP_SYS_RESOURCE, and all works without. A failure is logged.
    """
    for left in reversed(range(_TRIES)):
        try:
            path.write_text(f"{value}\n", "ascii")
        except OSError as error:
            if not left:
                log.warning(
                    "cannot set the OOM score adjustment to %d: %s; to leave it as it is, set "
                    "oomScoreAdj to what %s says, else give nfproxy the capability SYS_RESOURCE",
                    value,
                    error.strerror,
                    path,
                )
        else:
            return
