"""libnftables and the host's nft, judged."""

import pytest

from nfproxy.dataplane.libnftables import CRASHED, TIMED_OUT
from nfproxy.errors import NfproxyError
from nfproxy.tools.preflight import nft as subject
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.hostnft import HostNft
from nfproxy.tools.preflight.nft import TableListing
from nfproxy.tools.preflight.trial import Trial

WORKS = Trial("namespace", library="1.1.3", host_nft="")


NFT = HostNft(("/usr/sbin/nft",), "1.0.6")


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("1.0.6", Level.OK),
        ("1.1.3", Level.OK),
        ("1.1", Level.OK),
        ("1.0.5", Level.FAIL),
        ("0.9.8", Level.FAIL),
        ("", Level.WARN),
    ],
)
def test_the_version_of_libnftables(version: str, level: Level) -> None:
    """1.0.6 is the oldest version that passes."""
    assert level is subject.judge_library(Trial("namespace", library=version)).level


@pytest.mark.parametrize(
    ("listing", "level"),
    [
        (TableListing(), Level.OK),
        (TableListing(listed=False), Level.OK),
        (TableListing(NfproxyError("libnftables ended with SIGSEGV", code=CRASHED)), Level.FAIL),
        (
            TableListing(NfproxyError("libnftables did not finish within 4 s", code=TIMED_OUT)),
            Level.WARN,
        ),
        (TableListing(NfproxyError("libnftables refused the script: no")), Level.FAIL),
    ],
)
def test_whether_libnftables_reads_what_is_here(listing: TableListing, level: Level) -> None:
    """A crash is a failure: each change of the program would crash as well."""
    assert level is subject.judge_others_tables(listing).level


@pytest.mark.parametrize(
    ("nft", "trial", "level", "words"),
    [
        (NFT, WORKS, Level.OK, "1.0.6 reads what libnftables 1.1.3 writes"),
        (NFT, Trial("namespace", host_nft="it crashes"), Level.FAIL, "cannot read"),
        (NFT, Trial("validation", "no SYS_ADMIN"), Level.WARN, "no SYS_ADMIN"),
        (NFT, Trial("namespace", refused="no"), Level.WARN, "could not be loaded"),
        (
            HostNft(NFT.command, "1.0.6", "signal 11", crashed=True),
            WORKS,
            Level.FAIL,
            "crashes on the tables",
        ),
        (HostNft(NFT.command, "1.0.6", "no such file"), WORKS, Level.WARN, "no such file"),
        (HostNft(trouble="no chroot"), WORKS, Level.WARN, "no chroot"),
        (HostNft(is_hidden=True), WORKS, Level.SKIP, "files are not here"),
        (HostNft(), WORKS, Level.OK, "no nft on the host"),
    ],
)
def test_whether_the_hosts_nft_reads_ours(
    nft: HostNft, trial: Trial, level: Level, words: str
) -> None:
    """A host whose nft crashes can no longer change its firewall."""
    finding = subject.judge_host_nft(nft, trial)

    assert level is finding.level
    assert words in finding.found
