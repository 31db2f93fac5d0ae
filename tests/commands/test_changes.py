"""``nfproxy changes``: what changed on a node, why, and how fast."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.commands import (
    Commands,
    Daemon,
    endpoint_slice,
    eventually,
    node_object,
    service,
    wait_until,
    write,
)


@pytest.fixture
def daemon(commands: Commands, manifests: Path) -> Iterator[Daemon]:
    """One Service with an endpoint, programmed."""
    commands.namespace.run(["ip", "link", "set", "lo", "up"])
    write(manifests / "node.json", node_object())
    write(manifests / "web.json", service(), endpoint_slice("web", "10.244.1.5"))
    with commands.daemon(manifests) as started:
        started.wait_for("serving metrics")
        yield started


def rows(commands: Commands, *arguments: str, err: str = "") -> list[list[str]]:
    """Return the lines of the listing, split, without times."""
    done = commands.run("changes", *arguments, node="")
    assert (done.code, done.err) == (0, err)
    return [line.split("\t")[1:4] for line in done.out.splitlines()]


def test_a_change_of_endpoints_is_listed_with_its_slice(
    commands: Commands, manifests: Path, daemon: Daemon
) -> None:
    """And logged, with the time until it was in force."""
    write(manifests / "web.json", service(), endpoint_slice("web", "10.244.1.6"))
    change = "10.96.0.1:80/tcp: + 10.244.1.6:8080, - 10.244.1.5:8080"
    expected = ["default/web", change, "EndpointSlice web-ipv4"]
    eventually(expected, lambda: rows(commands)[-1])

    assert rows(commands)[0][1] == "nfproxy started: 1 Service, 1 frontend"
    assert rows(commands, "default/web") == rows(commands, "web") == [expected]
    assert rows(commands, "10.244.1.6:8080", "--since=1h") == [expected]
    among = "among 2 changes that nfproxy remembers"
    none = f"nfproxy: no change of other/web {among}; there are changes of default/web\n"
    assert rows(commands, "other/web", err=none) == []
    none = (
        f"nfproxy: no change of 10.9.9.9 {among}; `nfproxy explain 10.9.9.9` says what there is\n"
    )
    assert rows(commands, "10.9.9.9", err=none) == []
    daemon.wait_for(f"default/web {change} (EndpointSlice web-ipv4), in force after ")


def test_what_another_process_did_is_listed_with_its_repair(
    commands: Commands, daemon: Daemon
) -> None:
    """By process and process id."""
    commands.namespace.run(["nft", "delete", "table", "ip", "nfproxy"])
    daemon.wait_for("repaired table")
    wait_until(lambda: len(rows(commands)) > 1)
    done = commands.run("changes", node="").out.splitlines()[-1].split("\t")

    assert done[1:3] == ["-", "deleted table ip nfproxy"]
    assert done[3].startswith("nft (pid ")
    assert done[3].endswith("), not us")
    assert done[4].startswith("repaired, ")


def test_the_same_as_data(commands: Commands, manifests: Path, daemon: Daemon) -> None:
    """With numbers, so that programs can go on from one."""
    write(manifests / "web.json", service(), endpoint_slice("web", "10.244.1.5", "10.244.1.6"))
    wait_until(lambda: len(rows(commands)) > 1)
    page = commands.run("changes", "-o", "json", node="").data

    assert (page["kind"], page["forgotten"]) == ("ChangeRecords", 0)
    assert page["records"][1]["added"] == ["10.244.1.6:8080"]
    assert [record["number"] for record in page["records"]] == [1, 2]


def test_follow_prints_changes_as_they_come(
    commands: Commands, manifests: Path, daemon: Daemon
) -> None:
    """Until the daemon ends."""
    follower = commands.namespace.start(
        commands.argv("changes", "--follow", node=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert follower.stdout is not None
    assert "nfproxy started" in follower.stdout.readline()
    write(manifests / "web.json", service(), endpoint_slice("web", "10.244.1.7"))
    assert "+ 10.244.1.7:8080" in follower.stdout.readline()
    daemon.end()
    assert "is nfproxy running here?" in follower.stdout.readline()
    assert follower.wait(20) == 2


def test_without_a_daemon_nothing_is_known(commands: Commands) -> None:
    """Exit status 2: it could not find out."""
    done = commands.run("changes", node="")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("nfproxy: error: no nfproxy runs here")


def test_what_another_process_deleted_is_named_by_service(
    commands: Commands, daemon: Daemon
) -> None:
    """In the log, and in the list; sets and maps are nfproxy's own matter."""
    commands.nft("delete element ip nfproxy endpoints-tcp { 10.96.0.1 . 80 . 0 }")
    daemon.wait_for(") deleted slot 0 of default/web in table ip nfproxy; repairing now")
    daemon.wait_for("repaired table")
    wait_until(lambda: len(rows(commands)) > 1)

    what = "deleted slot 0 of default/web in table ip nfproxy"
    assert rows(commands)[-1][:2] == rows(commands, "web")[-1][:2] == ["default/web", what]
    none = "nfproxy: no change of default/other among 2 changes that nfproxy remembers; "
    none += "`nfproxy explain default/other` says what there is\n"
    assert rows(commands, "default/other", err=none) == []
