"""``nfproxy diff`` beside what other processes have put into nfproxy's tables."""

import re
from pathlib import Path

import pytest
from support.objects.everything import everything
from support.processes.commands import (
    Commands,
    endpoint_slice,
    node_object,
    service,
    write,
)

#: What another process adds, and the row that names it. IDLE is a chain that nfproxy once used.
STRANGERS = {
    "a chain": ("add chain ip nfproxy theirs", "chain theirs"),
    "a chain with rules": ("add rule ip nfproxy theirs counter drop", "chain theirs"),
    "a chain with an anonymous set": (
        "add rule ip nfproxy theirs tcp dport { 80, 443 } drop",
        "chain theirs",
    ),
    "a chain that a map leads to": (
        "add map ip nfproxy theirs-map { typeof ip saddr : verdict; "
        "elements = { 192.0.2.1 : jump theirs }; }",
        "map theirs-map",
    ),
    "a chain in use": ("add rule ip nfproxy IDLE jump theirs", "chain theirs"),
    "a set in use": (
        "add set ip nfproxy theirs-set { typeof ip saddr; }\n"
        "add rule ip nfproxy IDLE ip saddr @theirs-set drop",
        "set theirs-set",
    ),
    "a set by a name like ours": (
        "add set ip nfproxy list-theirs { typeof ip saddr; }",
        "set list-theirs",
    ),
    "a map": ("add map ip6 nfproxy theirs { typeof ip6 saddr : mark; }", "map theirs"),
    "a counter": ("add counter ip nfproxy theirs-counter", "counter theirs-counter"),
    "a counter in use": (
        "add counter ip nfproxy theirs-counter\n"
        "add rule ip nfproxy IDLE counter name theirs-counter",
        "counter theirs-counter",
    ),
    "a quota": ("add quota ip nfproxy theirs { over 1 mbytes; }", "quota theirs"),
    "a limit": ("add limit ip nfproxy theirs { rate 5/second; }", "limit theirs"),
    "an idle chain renamed": ("rename chain ip nfproxy IDLE theirs-now", "chain theirs-now"),
}
IDLE = "affinity-0123456789abcdef-cluster"
EQUAL = re.compile(r"equal: \d+ frontends, \d+ slots, as .* says\n\Z")


@pytest.fixture
def tables(commands: Commands, manifests: Path) -> Commands:
    """Tables that are as the manifests want them, and a chain that idles."""
    write(manifests / "all.json", *everything())
    commands.nft(commands.run("render", "-f", manifests).out)
    commands.nft(f"add chain ip nfproxy {IDLE}\nadd rule ip nfproxy {IDLE} return")
    return commands


@pytest.mark.parametrize("kind", STRANGERS)
def test_what_others_add_is_named_and_no_difference(
    tables: Commands, manifests: Path, kind: str
) -> None:
    """It has a row with the command that removes it; exit status 0 and an empty transaction."""
    text, subject = STRANGERS[kind]
    tables.nft(("add chain ip nfproxy theirs\n" + text).replace("IDLE", IDLE))
    found = tables.run("diff", "-f", manifests, "-o", "json")
    named = {row["subject"]: row for row in found.data}

    assert found.code == 0
    assert {row["change"] for row in found.data} == {"foreign"}
    assert subject in named
    assert not any("__set" in row["subject"] for row in found.data)
    family = "ip6" if named[subject]["family"] == "IPv6" else "ip"
    word, name = subject.split()
    assert f"nft delete {word} {family} nfproxy {name}" in str(named[subject]["details"])
    assert EQUAL.search(tables.run("diff", "-f", manifests).out)
    assert tables.run("diff", "-f", manifests, "-o", "nft").out == ""


def test_what_differs_beside_it_is_mended(tables: Commands, manifests: Path) -> None:
    """The transaction leaves alone what is in use, and so the kernel does not refuse it."""
    tables.nft(
        f"add chain ip nfproxy theirs\nadd rule ip nfproxy {IDLE} jump theirs\n"
        "insert rule ip nfproxy services jump theirs\n"
    )
    mend = tables.run("diff", "-f", manifests, "-o", "nft")
    assert mend.code == 1
    tables.nft(mend.out)
    after = tables.run("diff", "-f", manifests)

    assert after.code == 0
    assert after.out.count("foreign\t") == 1


def test_beside_a_daemon_it_is_equal_again(commands: Commands, manifests: Path) -> None:
    """
    The daemon removes what nothing uses, and names the rest once; diff names it, too.

    A chain of an older nfproxy, which no frontend uses, keeps theirs in use until it is removed.
    """
    write(manifests / "all.json", node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    with commands.daemon(manifests) as daemon:
        older = f"affinity-{0xFF:016x}-cluster"
        commands.nft(
            "add chain ip nfproxy theirs\nadd counter ip nfproxy unused\n"
            f"add chain ip nfproxy {older}\nadd rule ip nfproxy {older} jump theirs\n"
        )
        daemon.wait_for("chain ip nfproxy theirs is another process's and in use")
        found = commands.run("diff", "-f", manifests, "-o", "json")

        assert found.code == 0
        assert [row["subject"] for row in found.data] == ["chain theirs"]
        assert daemon.log.count("is another process's and in use") == 1
