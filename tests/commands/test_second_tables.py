"""Commands where tables ``nfproxy-next`` serve: a change of layout goes on, or did not end."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from support.processes.commands import (
    Commands,
    endpoint_slice,
    node_object,
    service,
    write,
)


@pytest.fixture
def serving(commands: Commands, manifests: Path) -> Path:
    """One Service, which tables of the second name serve; those of the first are gone."""
    commands.namespace.run(["ip", "link", "set", "lo", "up"])
    write(manifests / "node.json", node_object())
    write(manifests / "web.json", service(), endpoint_slice("web", "10.244.1.5"))
    with commands.daemon(manifests) as daemon:
        daemon.wait_for("ready ")
    for family in ("ip", "ip6"):
        table = commands.namespace.run(["nft", "list", "table", family, "nfproxy"]).stdout
        commands.nft(table.replace("nfproxy {", "nfproxy-next {", 1))
        commands.nft(f"delete table {family} nfproxy")
    return manifests


def test_what_serves_is_said_and_read(commands: Commands, serving: Path, tmp_path: Path) -> None:
    """Without nfproxy each command says that a change did not end, and none that nothing works."""
    status = commands.run("status", node="")
    assert "ip nfproxy-next and ip6 nfproxy-next are in force" in status.out
    assert "none of nfproxy's is there" not in status.out

    explained = commands.run("explain", "web", "-f", serving, "-o", "json").data
    (row,) = explained["ports"][0]["frontends"]
    assert row["inKernel"] == {"state": "equal", "endpoints": ["10.244.1.5:8080"]}
    assert [one["code"] for one in explained["findings"] if one["level"] == "warn"] == [
        "LayoutChange",
        "NobodyRuns",
    ]
    alone = commands.run("explain", "10.96.0.1:80", node="").out
    assert "10.244.1.5:8080" in alone

    found = commands.run("diff", "-f", serving)
    assert found.code == 1
    assert "not in force: ip nfproxy-next is, in its place" in found.out
    assert "no Service works" not in found.out

    commands.run("report", "-o", tmp_path / "report.tar.gz", node="")
    with tarfile.open(tmp_path / "report.tar.gz") as tar:
        names = tar.getnames()
    assert {"table-ip-next.nft", "table-ip6-next.nft"} <= {Path(name).name for name in names}


def test_what_diff_prints_ends_it(commands: Commands, serving: Path) -> None:
    """The transaction makes the usual tables and removes the others."""
    commands.nft(commands.run("diff", "-f", serving, "-o", "nft").out)

    assert commands.run("diff", "-f", serving).code == 0
    assert commands.tables() == ["ip nfproxy", "ip6 nfproxy"]


def test_a_return_to_an_older_version_leaves_them(commands: Commands, serving: Path) -> None:
    """Both are in force then: that is bad, and there is a command for it."""
    with commands.daemon(serving) as daemon:
        daemon.wait_for("ready ")
        table = commands.namespace.run(["nft", "list", "table", "ip", "nfproxy"]).stdout
        commands.nft(table.replace("nfproxy {", "nfproxy-next {", 1))
        status = commands.run("status", node="")
        explained = commands.run("explain", "web", node="").out

    assert status.code == 1
    assert "ip nfproxy-next is in force beside the tables" in status.out
    assert "nft delete table ip nfproxy-next" in status.out
    assert "warn\tLayoutChange" in explained
