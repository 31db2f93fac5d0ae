"""
kube-proxy: whether it runs, and what it has left, as ``nfproxy cleanup --kube-proxy`` finds it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nfproxy.tools.preflight.facts import Leftovers
from nfproxy.tools.takeover.leftovers import items
from nfproxy.tools.takeover.removal import Removing
from nfproxy.tools.takeover.running import proxies_running


def read_leftovers() -> Leftovers:
    """Return what there is to remove, without removing it. Raises NfproxyError."""
    with Removing(lambda _: None) as removing:
        found = removing.find()
    counts: Counter[tuple[str, str]] = Counter()
    for item in items(found):
        counts[item.where, item.kind] += item.count
    return Leftovers(
        tuple((where, f"{n} {kind}{'s' * (n > 1)}") for (where, kind), n in counts.items()),
        found.unknown,
    )


def read_running(proc: Path) -> str:
    """Return where a kube-proxy runs, in words, "" for nowhere that can be seen."""
    return proxies_running(proc).kube_proxy
