"""The kernel modules of the packet filter: which are loaded, and how to be rid of them."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

_OF_THE_PACKET_FILTER = re.compile(r"nf_|nft_|nfnetlink|x_tables|xt_|ip6?_?tables?|ip_set|ip_vs")
_WAIT_S = 60.0


def loaded() -> set[str]:
    """Return the modules of the packet filter that are loaded."""
    names = (line.split()[0] for line in Path("/proc/modules").read_text().splitlines())
    return {name for name in names if _OF_THE_PACKET_FILTER.match(name)}


def unload() -> None:
    """
    Unload them all, so that the packet filter is as after a boot.

    Nothing may use them; network namespaces that are gone are waited for.
    Raises AssertionError when some stay.
    """
    deadline = time.monotonic() + _WAIT_S
    while left := loaded():
        # those that others need stay for now
        subprocess.run(["rmmod", *left], capture_output=True, check=False)
        if loaded() == left:
            assert time.monotonic() < deadline, f"in use: {sorted(left)}"
            time.sleep(0.1)
