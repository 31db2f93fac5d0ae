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

    Never raises: lowering it takes CAP_SYS_RESOURCE, which a container is not given; the kubelet
    sets it for pods of priority class system-node-critical. So a failure is worth a debug line.
    """
    for left in reversed(range(_TRIES)):
        try:
            path.write_text(f"{value}\n", "ascii")
        except OSError as error:
            if not left:
                log.debug(
                    "cannot set the OOM score adjustment to %d: %s; it stays at what %s says; "
                    "lowering it takes the capability SYS_RESOURCE",
                    value,
                    error.strerror,
                    path,
                )
        else:
            return
