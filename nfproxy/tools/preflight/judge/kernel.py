"""
The kernel, libnftables, the host's nft: can they hold the program, and read what the others write?
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nfproxy.model.addresses import Family
from nfproxy.text import shorten
from nfproxy.tools.preflight.facts import HostNft, Listing, Process, Trial
from nfproxy.tools.preflight.findings import Verdict, fail, ok, warn

OLDEST_KERNEL = (5, 13)
OLDEST_LIBRARY = (1, 0, 6)

_NET_ADMIN = 12

#: Up to the first colon that is not in parentheses, and after it.
_COLON = re.compile(r"((?:\([^()]*\)|[^():]|:(?! ))+): (.*)", re.DOTALL)

CRASHES = (
    "a newer nft has written tables here that crash an older one: upgrade the older of the two "
    "(nftables and libnftables 1.1.3 read them), or remove the tables that it wrote"
)
TRY_IT = "run it as root, or in a container with the capability SYS_ADMIN (kubectl debug node/…)"


def privileges(process: Process) -> Verdict:
    """Without CAP_NET_ADMIN nothing can be programmed."""
    filtered = "a seccomp filter is in place" if process.seccomp else "no seccomp filter"
    if not process.capabilities >> _NET_ADMIN & 1:
        return fail(
            f"the capability CAP_NET_ADMIN is missing, {filtered}",
            "run as root, or give the container securityContext.capabilities.add: [NET_ADMIN]",
        )
    if process.trouble:
        text, remedy = _divided(process.trouble)
        hint = "; if the seccomp profile is not RuntimeDefault, use that" if process.seccomp else ""
        return fail(text, f"{remedy or 'load nf_tables'}{hint}")
    return ok(f"CAP_NET_ADMIN, nf_tables can be reached, {filtered}")


def version(release: str, trial: Trial | None) -> Verdict:
    """Older kernels than those that are tested may do, but then trying is what tells."""
    number = numbers(release, 2)
    oldest = ".".join(map(str, OLDEST_KERNEL))
    if len(number) < 2:
        return warn(f"kernel release {shorten(release)!r} says no version", f"Linux {oldest}")
    if number >= OLDEST_KERNEL:
        return ok(f"Linux {release}")
    if trial is not None and trial.place and not trial.refused:
        return warn(
            f"Linux {release} is older than {oldest}, though the program can be loaded",
            f"use Linux {oldest} or newer: nfproxy is not tested on older ones",
        )
    return fail(f"Linux {release}", f"use Linux {oldest} or newer")


def program(trial: Trial, families: Sequence[Family]) -> list[Verdict]:
    """The program of the daemon, tried; what the kernel lacks is named with the module."""
    if not trial.place:
        return [warn(f"nfproxy's program was not tried: {trial.obstacle}", TRY_IT)]
    if not trial.refused:
        labels = " and ".join(family.label for family in families)
        how = (
            "loaded into a network namespace of its own, and read back"
            if trial.place == "namespace"
            else "accepted by the kernel, which validated it without loading it"
        )
        return [ok(f"nfproxy's program for {labels} was {how}")]
    if not trial.missing:
        return [fail(trial.refused, "report it, with the version of the kernel and of libnftables")]
    return [_missing(text) for text in trial.missing]


def _missing(text: str) -> Verdict:
    what, remedy = _divided(text)
    return fail(what, remedy or text)


def _divided(text: str) -> tuple[str, str]:
    """Divide "lacks this (what was said: no): modprobe that"; the remedy may be ""."""
    match = _COLON.fullmatch(text)
    return (match[1], match[2]) if match else (text, "")


def library(trial: Trial) -> Verdict:
    """Older versions than what is tested do not know what the templates say."""
    oldest = ".".join(map(str, OLDEST_LIBRARY))
    number = numbers(trial.library, 3)
    if not number:
        return warn("the version of libnftables is not known", f"libnftables {oldest} or newer")
    if number < OLDEST_LIBRARY:
        return fail(f"libnftables {trial.library}", f"install libnftables {oldest} or newer")
    return ok(f"libnftables {trial.library}")


def reads_others(listing: Listing) -> Verdict:
    """Our libnftables has to work beside the tables that others have made."""
    if not listing.trouble:
        return ok(
            "libnftables reads the tables that are here"
            if listing.listed
            else "libnftables works beside the tables that are here (too many to list them all)"
        )
    if "ended with" in listing.trouble:
        return fail(f"with the tables that are here, {listing.trouble}", CRASHES)
    if "did not finish" in listing.trouble:
        return warn(
            f"with the tables that are here, {listing.trouble}",
            "`nft list ruleset` shows what takes so long; nfproxy's changes may be slow as well",
        )
    return fail(listing.trouble, "`nft list ruleset` on the node shows what is there")


def read_by_host(nft: HostNft, trial: Trial) -> list[Verdict]:
    """The host's own nft has to read our tables, and those of others: firewalls depend on it."""
    if not nft.command:
        if nft.trouble:
            return [
                warn(
                    f"the host's nft was not looked at: {nft.trouble}",
                    "mount the host's / read-only, and name it with --host-root",
                )
            ]
        return [ok("there is no nft on the host that would have to read nfproxy's tables")]
    name = f"the host's nft {nft.version}".rstrip()
    if nft.trouble and "signal" in nft.trouble:
        return [fail(f"{name} crashes on the tables that are here: {nft.trouble}", CRASHES)]
    if nft.trouble:
        text = shorten(nft.trouble, 200)
        return [warn(f"{name} cannot be called: {text}", "run `nft list ruleset` on the node")]
    if trial.host_nft is None:
        why = trial.obstacle or "nfproxy's program could not be loaded"
        return [warn(f"{name} was not tried on nfproxy's tables: {why}", TRY_IT)]
    if trial.host_nft:
        return [
            fail(
                f"{name} cannot read nfproxy's tables (libnftables {trial.library}): "
                f"{shorten(trial.host_nft, 200)}",
                "upgrade nftables on the host: 1.0.6 and newer read them",
            )
        ]
    return [ok(f"{name} reads what libnftables {trial.library} writes")]


def families(enabled: Iterable[Family], node: Iterable[Family]) -> Verdict:
    """An IPv6 address of the Node is of no use where the kernel has IPv6 switched off."""
    here = tuple(enabled)
    labels = " and ".join(family.label for family in here)
    lacking = [family.label for family in node if family not in here]
    if lacking:
        return fail(
            f"the kernel has {labels} alone, the Node {' and '.join(lacking)} as well",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0 (and no ipv6.disable=1 at boot)",
        )
    return ok(f"the kernel has {labels}")


def numbers(text: str, count: int) -> tuple[int, ...]:
    """Return the numbers a version begins with, `count` at most: "v6.1.0-13" is (6, 1)."""
    match = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", text.strip())
    return tuple(int(part) for part in match[1].split(".")[:count]) if match else ()
