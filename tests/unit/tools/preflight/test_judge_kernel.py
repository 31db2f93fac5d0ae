"""
The kernel, libnftables and the host's nft, judged.
"""

import pytest

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.tools.preflight.facts import HostNft, Listing, Process, Trial
from nfproxy.tools.preflight.findings import Level, Verdict
from nfproxy.tools.preflight.judge import kernel

NET_ADMIN = 1 << 12
WORKS = Trial("namespace", library="1.1.3", host_nft="")
NFT = HostNft(("/usr/sbin/nft",), "1.0.6")


def levels(verdicts: list[Verdict]) -> list[Level]:
    """Return the levels of some verdicts."""
    return [verdict.level for verdict in verdicts]


def test_net_admin_is_needed_and_enough() -> None:
    """
    The one capability; a seccomp filter is mentioned, and blamed only for what does not work.
    """
    assert kernel.privileges(Process(NET_ADMIN, seccomp=True)).level is Level.OK
    lacking = kernel.privileges(Process(~NET_ADMIN & ((1 << 40) - 1), seccomp=False))
    assert (lacking.level, lacking.remedy.split(": ")[-1]) == (Level.FAIL, "[NET_ADMIN]")


def test_what_keeps_nf_tables_away_is_said() -> None:
    """
    With the remedy that comes along and, under a seccomp filter, a hint to that.
    """
    trouble = "the kernel has no nf_tables (Protocol not supported): modprobe nf_tables"
    plain = kernel.privileges(Process(NET_ADMIN, seccomp=False, trouble=trouble))
    filtered = kernel.privileges(Process(NET_ADMIN, seccomp=True, trouble=trouble))

    assert (plain.level, plain.remedy) == (Level.FAIL, "modprobe nf_tables")
    assert "RuntimeDefault" in filtered.remedy


@pytest.mark.parametrize(
    ("text", "found", "remedy"),
    [
        (
            "it lacks maps for IPv4: modprobe it (a: b)",
            "it lacks maps for IPv4",
            "modprobe it (a: b)",
        ),
        (
            "libnftables cannot be loaded (libnftables.so.1: no such file): install libnftables1",
            "libnftables cannot be loaded (libnftables.so.1: no such file)",
            "install libnftables1",
        ),
        ("nobody knows (a (b): c", "nobody knows (a (b): c", "nobody knows (a (b): c"),
    ],
)
def test_what_was_said_in_between_is_no_remedy(text: str, found: str, remedy: str) -> None:
    """
    A colon in parentheses is a library's, or the kernel's.
    """
    (verdict,) = kernel.program(Trial("namespace", refused="x", missing=(text,)), FAMILIES)
    assert (verdict.found, verdict.remedy) == (found, remedy)


@pytest.mark.parametrize(
    ("release", "trial", "level"),
    [
        ("5.13.0", None, Level.OK),
        ("6.1.0-13-amd64", None, Level.OK),
        ("6.18.44-fc-v669", None, Level.OK),
        ("10.0-rc1", None, Level.OK),
        ("5.4.0-150-generic", None, Level.FAIL),
        ("5.4.0-150-generic", WORKS, Level.WARN),
        ("5.4.0", Trial("namespace", refused="no"), Level.FAIL),
        ("5.4.0", Trial("", "not tried"), Level.FAIL),
        ("linux", WORKS, Level.WARN),
    ],
)
def test_the_kernel_version(release: str, trial: Trial | None, level: Level) -> None:
    """
    What is older than 5.13 passes only where the program could be loaded.
    """
    assert level is kernel.version(release, trial).level


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (WORKS, [Level.OK]),
        (Trial("validation", "no SYS_ADMIN"), [Level.OK]),
        (Trial("", "no SYS_ADMIN"), [Level.WARN]),
        (Trial("namespace", refused="refused"), [Level.FAIL]),
        (Trial("namespace", refused="refused", missing=("a: b", "c: d")), [Level.FAIL] * 2),
    ],
)
def test_the_program(trial: Trial, expected: list[Level]) -> None:
    """
    A line for each feature that is missing, one where it is not known which.
    """
    assert expected == levels(kernel.program(trial, FAMILIES))


def test_a_missing_feature_is_divided_from_its_remedy() -> None:
    """
    The text is that of the daemon's start.
    """
    text = "this kernel lacks the fib expression for IPv4: modprobe nft_fib_ipv4 (CONFIG: x)"
    (verdict,) = kernel.program(Trial("namespace", refused="x", missing=(text,)), FAMILIES)

    assert verdict.found == "this kernel lacks the fib expression for IPv4"
    assert verdict.remedy == "modprobe nft_fib_ipv4 (CONFIG: x)"


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
    """
    1.0.6 is the oldest.
    """
    assert level is kernel.library(Trial("namespace", library=version)).level


@pytest.mark.parametrize(
    ("listing", "level"),
    [
        (Listing(), Level.OK),
        (Listing(listed=False), Level.OK),
        (Listing("libnftables ended with SIGSEGV, as an older one can"), Level.FAIL),
        (Listing("libnftables did not finish within 4 s"), Level.WARN),
        (Listing("libnftables refused the script: no"), Level.FAIL),
    ],
)
def test_whether_libnftables_reads_what_is_here(listing: Listing, level: Level) -> None:
    """
    A crash is a failure: each change of the program would crash as well.
    """
    assert level is kernel.reads_others(listing).level


@pytest.mark.parametrize(
    ("nft", "trial", "level", "words"),
    [
        (NFT, WORKS, Level.OK, "1.0.6 reads what libnftables 1.1.3 writes"),
        (NFT, Trial("namespace", host_nft="it crashes"), Level.FAIL, "cannot read"),
        (NFT, Trial("validation", "no SYS_ADMIN"), Level.WARN, "no SYS_ADMIN"),
        (NFT, Trial("namespace", refused="no"), Level.WARN, "could not be loaded"),
        (HostNft(NFT.command, "1.0.6", "signal 11"), WORKS, Level.FAIL, "crashes on the tables"),
        (HostNft(NFT.command, "1.0.6", "no such file"), WORKS, Level.WARN, "no such file"),
        (HostNft(trouble="a container"), WORKS, Level.WARN, "a container"),
        (HostNft(), WORKS, Level.OK, "no nft on the host"),
    ],
)
def test_whether_the_hosts_nft_reads_ours(
    nft: HostNft, trial: Trial, level: Level, words: str
) -> None:
    """
    A host whose nft crashes has no firewall any more.
    """
    (verdict,) = kernel.read_by_host(nft, trial)

    assert level is verdict.level
    assert words in verdict.found


def test_ipv6_that_is_switched_off_matters_where_the_node_has_it() -> None:
    """
    A Node without IPv6 addresses needs none.
    """
    assert kernel.families([Family.IPV4], []).level is Level.OK
    assert kernel.families([Family.IPV4], [Family.IPV4]).level is Level.OK
    assert kernel.families(FAMILIES, FAMILIES).level is Level.OK
    lacking = kernel.families([Family.IPV4], FAMILIES)
    assert lacking.level is Level.FAIL
    assert "disable_ipv6=0" in lacking.remedy
