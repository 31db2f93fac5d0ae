"""Rules and connections inside a namespace: write them by hand, read them back."""

import json
from pathlib import Path
from typing import Any

from nfproxy.tools.lab import Host


def load(host: Host, text: str) -> None:
    """Load nft text. Raises CalledProcessError with nft's words."""
    host.namespace.run(["nft", "-f", "-"], input=text)


def flush(host: Host) -> None:
    """Remove all rules; connections that exist keep their translation."""
    host.namespace.run(["nft", "flush", "ruleset"])


def listing(host: Host, *what: str) -> str:
    """Return what `nft list` prints, by default for the whole ruleset."""
    return host.namespace.run(["nft", "list", *(what or ("ruleset",))]).stdout


def listing_json(host: Host, *what: str) -> list[dict[str, Any]]:
    """Return the objects of `nft -j list`."""
    out = host.namespace.run(["nft", "-j", "list", *(what or ("ruleset",))]).stdout
    objects: list[dict[str, Any]] = json.loads(out)["nftables"]
    return objects


def connections(host: Host) -> list[str]:
    """Return the lines of the namespace's conntrack table."""
    return host.namespace.call(Path("/proc/thread-self/net/nf_conntrack").read_text).splitlines()
