"""``nfproxy cleanup``: remove what is nfproxy's."""

from pathlib import Path

from support.objects.everything import everything
from support.processes.commands import Commands, write


def test_only_our_tables_go(commands: Commands, manifests: Path) -> None:
    """It says what it removed; tables of similar names stay; a second time there is nothing."""
    write(manifests / "all.json", *everything())
    commands.nft(commands.run("render", "-f", manifests).out)
    for table in ("ip nfproxy2", "inet nfproxy", "inet foo", "ip nf"):
        commands.nft(f"add table {table}")

    first = commands.run("cleanup")
    second = commands.run("cleanup")

    assert first == (0, "removed table ip nfproxy\nremoved table ip6 nfproxy\n", "")
    assert second == (0, "nothing to remove: there is no nfproxy table\n", "")
    assert sorted(commands.tables()) == ["inet foo", "inet nfproxy", "ip nf", "ip nfproxy2"]


def test_one_family_alone_goes_too(commands: Commands) -> None:
    """What is there is removed, also the second table of a change of layout that did not end."""
    commands.nft("add table ip6 nfproxy; add table ip6 nfproxy-next")

    removed = "removed table ip6 nfproxy\nremoved table ip6 nfproxy-next\n"
    assert commands.run("cleanup") == (0, removed, "")
    assert commands.tables() == []
