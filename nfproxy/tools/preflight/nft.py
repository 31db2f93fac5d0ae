"""libnftables and the host's nft: can each read what the other, and other software, wrote?"""

from __future__ import annotations

from typing import NamedTuple

from nfproxy.dataplane.libnftables import CRASHED, TIMED_OUT, load_text
from nfproxy.errors import DataplaneError, MissingFeatureError, NfproxyError
from nfproxy.text import shorten
from nfproxy.tools.preflight.examine import Check, FactSource
from nfproxy.tools.preflight.findings import Finding, fail, ok, skip, warn
from nfproxy.tools.preflight.hostnft import HIDDEN, HOST_NFT, MOUNT_IT, HostNft
from nfproxy.tools.preflight.kernel import TRY_AS_ROOT, version_numbers
from nfproxy.tools.preflight.ruleset import RULESET
from nfproxy.tools.preflight.trial import ENABLED_FAMILIES, TRIAL, Trial, sample_script

OLDEST_LIBRARY = (1, 0, 6)

_CRASHES = (
    "a newer nft has written tables here that crash an older one: upgrade the older of the two "
    "(nftables and libnftables 1.1.3 read them), or remove the tables that it wrote"
)

_LISTED_CHAINS = 2000  # more than that takes libnftables seconds and hundreds of megabytes
_LIST_S = 4.0
_LIMIT_S = 13.0


class TableListing(NamedTuple):
    """
    How libnftables of this process copes with the tables that are here.

    `trouble` is None where it works. `untracked` are the lines of rules that leave connections
    untracked. `listed` is False where there are too many chains to list.
    """

    trouble: NfproxyError | None = None
    untracked: tuple[str, ...] = ()
    listed: bool = True


def read_listing(script: str, chains: int) -> TableListing:
    """
    Let libnftables validate a script and list the tables, in a child process that may crash.

    Changes nothing. Does not list more than 2000 `chains`.
    """
    try:
        load_text(script, check=True, timeout_s=2 * _LIST_S)
        if chains > _LISTED_CHAINS:
            return TableListing(listed=False)
        text = load_text("list ruleset", timeout_s=_LIST_S)
    except (DataplaneError, MissingFeatureError) as error:
        return TableListing(error)
    marks = ("notrack", 'xt target "CT"')
    lines = (line.strip() for line in text.splitlines())
    return TableListing(untracked=tuple(line for line in lines if any(m in line for m in marks)))


LISTING = FactSource(
    "others' tables",
    lambda _, families, ruleset: read_listing(sample_script(families), len(ruleset.chains)),
    (ENABLED_FAMILIES, RULESET),
    _LIMIT_S,
)


def judge_library(trial: Trial) -> Finding:
    """libnftables older than 1.0.6 does not know what the templates say."""
    oldest = ".".join(map(str, OLDEST_LIBRARY))
    version = version_numbers(trial.library, 3)
    if not version:
        return warn("the version of libnftables is unknown", f"use libnftables {oldest} or newer")
    if version < OLDEST_LIBRARY:
        return fail(f"libnftables {trial.library}", f"install libnftables {oldest} or newer")
    return ok(f"libnftables {trial.library}")


def judge_others_tables(listing: TableListing) -> Finding:
    """libnftables has to work in a network namespace with the tables of other software."""
    if listing.trouble is None:
        return ok(
            "libnftables reads the tables that are here"
            if listing.listed
            else "libnftables works beside the tables that are here (too many to list them all)"
        )
    what = f"with the tables that are here, {listing.trouble.what}"
    if listing.trouble.code == CRASHED:  # each change of the program would crash as well
        return fail(what, _CRASHES)
    if listing.trouble.code == TIMED_OUT:
        return warn(
            what,
            "`nft list ruleset` shows what takes so long; nfproxy's changes may be slow as well",
        )
    remedy = listing.trouble.remedy or "`nft list ruleset` on the node shows what is there"
    return fail(listing.trouble.what, remedy)


def judge_host_nft(nft: HostNft, trial: Trial) -> Finding:
    """The host's nft has to read nfproxy's tables and all others: the host's firewall uses it."""
    if nft.is_hidden:
        return skip(HIDDEN, MOUNT_IT)
    if not nft.command:
        if nft.trouble:
            return warn(
                f"the host's nft was not looked at: {nft.trouble}",
                "mount the host's / read-only, and name it with --host-root",
            )
        return ok("there is no nft on the host that would have to read nfproxy's tables")
    name = f"the host's nft {nft.version}".rstrip()
    if nft.crashed:
        return fail(f"{name} crashes on the tables that are here: {nft.trouble}", _CRASHES)
    if nft.trouble:
        text = shorten(nft.trouble, 200)
        return warn(f"{name} cannot be called: {text}", "run `nft list ruleset` on the node")
    if trial.host_nft is None:
        why = trial.obstacle or "nfproxy's program could not be loaded"
        return warn(f"{name} was not tried on nfproxy's tables: {why}", TRY_AS_ROOT)
    if trial.host_nft:
        return fail(
            f"{name} cannot read nfproxy's tables (libnftables {trial.library}): "
            f"{shorten(trial.host_nft, 200)}",
            "upgrade nftables on the host: 1.0.6 and newer read them",
        )
    return ok(f"{name} reads what libnftables {trial.library} writes")


CHECKS = (
    Check("libnftables", judge_library, (TRIAL,)),
    Check("others-tables", judge_others_tables, (LISTING,)),
    Check("host-nft", judge_host_nft, (HOST_NFT, TRIAL)),
)
