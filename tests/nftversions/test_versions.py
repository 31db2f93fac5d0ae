"""The versions of nft that the other tests here compare."""

import itertools
import subprocess
from collections import Counter

import pytest
from tools.nft_versions import Nft, versions

TABLE = """\
table ip sample {
    set addresses {
        typeof ip daddr
        elements = { 10.96.0.1 }
    }
    map frontends {
        typeof ip daddr . meta l4proto . th dport : verdict
        elements = { 10.96.0.1 . tcp . 80 : goto web, 10.96.0.1 . udp . 53 : drop }
    }
    map endpoints-tcp {
        typeof ip daddr . tcp dport . numgen inc mod 65536 : ip daddr . tcp dport
        elements = { 10.96.0.1 . 80 . 0 : 10.244.0.2 . 8080 }
    }
    chain web {
        dnat ip to ip daddr . tcp dport . numgen random mod 1 map @endpoints-tcp
    }
    chain nat-prerouting {
        type nat hook prerouting priority -100; policy accept;
        ip daddr . meta l4proto . th dport vmap @frontends
        ip daddr @addresses reject comment "no such port"
    }
}
"""


def in_one_namespace(script: str, *commands: str, text: str = "") -> str:
    """Run a shell script in a new network namespace; `commands` are its $1, $2 ..."""
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script, "sh", *commands],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def words(listing: str) -> Counter[str]:
    """Return the words of a listing, as their order and layout may differ."""
    return Counter(listing.replace(",", " ").split())


def test_there_are_several_versions():
    """Tests across versions have at least two to compare, each once."""
    found = [nft.version for nft in versions()]

    assert len(found) >= 2
    assert sorted(set(found)) == sorted(found)


@pytest.mark.parametrize("nft", versions(), ids=str)
def test_each_command_runs_and_has_its_version(nft: Nft):
    """It reaches the kernel's tables in a new namespace."""
    printed = in_one_namespace(
        '"$1" --version; "$1" -f -; "$1" list tables', nft.command, text=TABLE
    )

    assert f"nftables v{nft.version}" in printed
    assert "table ip sample" in printed


@pytest.mark.parametrize(
    ("writer", "reader"), list(itertools.permutations(versions(), 2)), ids=lambda nft: str(nft)
)
def test_one_version_reads_and_changes_tables_of_another(writer: Nft, reader: Nft):
    """
    All versions of nft understand sets and maps declared with `typeof`.

    The reader adds to the writer's table, and both then list the same, up to the order of elements.
    """
    script = """
        "$1" -f -
        "$2" add element ip sample addresses '{ 10.96.0.2 }'
        "$1" list ruleset
        echo ----
        "$2" list ruleset
    """
    printed = in_one_namespace(script, writer.command, reader.command, text=TABLE)
    written, read = (words(listing) for listing in printed.split("----"))

    assert words("10.96.0.2 10.96.0.1 . tcp . 80 : goto web") <= read
    assert written == read
