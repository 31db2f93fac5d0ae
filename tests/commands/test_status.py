"""``nfproxy status``: whether a node is all right."""

from __future__ import annotations

from pathlib import Path

from support.processes.commands import (
    ORDINARY_USER,
    Commands,
    endpoint_slice,
    eventually,
    node_object,
    service,
    write,
)


def levels(commands: Commands) -> dict[str, str]:
    """Return the level of each row."""
    done = commands.run("status", node="")
    assert done.err == ""
    rows = [line.split("\t") for line in done.out.splitlines()]
    return {row[1]: row[0] for row in rows}


def start(commands: Commands, manifests: Path) -> None:
    """Make one Service with an endpoint."""
    commands.namespace.run(["ip", "link", "set", "lo", "up"])
    write(manifests / "node.json", node_object())
    write(manifests / "web.json", service(), endpoint_slice("web", "10.244.1.5"))


def test_a_node_that_is_all_right(commands: Commands, manifests: Path) -> None:
    """Every row is ok, and the first line says since when."""
    start(commands, manifests)
    with commands.daemon(manifests) as daemon:
        daemon.wait_for("serving metrics")
        done = commands.run("status", node="")
        data = commands.run("status", "-o", "json", "--strict", node="").data

    assert (done.code, done.err) == (0, "")
    first, *rows = [line.split("\t") for line in done.out.splitlines()]
    assert first[:2] == ["ok", "node-1"]
    assert "in step since" in first[2]
    found = {row[1]: row[2] for row in rows}
    assert found["programmed"].startswith("IPv4 1 frontend, 1 slot; IPv6 0 frontends")
    assert found["files"].endswith(": 1 Service, 1 EndpointSlice")
    assert found["connections"].endswith(" tracked; 0 unanswered for a second")
    assert found["services"] == "every Service port has an endpoint here"
    assert {row[0] for row in rows} == {"ok"}
    assert data["kind"] == "NodeStatus"
    assert data["since"]


def test_what_is_wrong_is_a_row(commands: Commands, manifests: Path) -> None:
    """A Service without an endpoint fails; what another process did is worth a look."""
    start(commands, manifests)
    with commands.daemon(manifests) as daemon:
        daemon.wait_for("serving metrics")
        write(manifests / "web.json", service())
        eventually("fail", lambda: levels(commands)["services"])
        commands.namespace.run(["nft", "delete", "table", "ip", "nfproxy"])
        daemon.wait_for("repaired table")
        eventually("warn", lambda: levels(commands)["changed by others"])
        done = commands.run("status", node="")

    assert done.code == 1
    assert "1 refuses everything: no endpoint\tnfproxy services --problems" in done.out
    assert "last by nft (pid " in done.out
    assert "deleted table ip nfproxy; repaired after " in done.out


def test_without_a_daemon_it_says_what_the_kernel_holds(
    commands: Commands, manifests: Path
) -> None:
    """Installed rules go on; without the right to read them it cannot find out."""
    start(commands, manifests)
    assert levels(commands)["tables"] == "fail"
    with commands.daemon(manifests):
        pass
    done = commands.run("status", node="")

    assert done.code == 1
    assert levels(commands) | {"connections": "ok"} == {
        done.out.split("\t")[1]: "fail",
        "nfproxy": "fail",
        "tables": "ok",
        "connections": "ok",
    }
    commands.nft("add table ip nfproxy-next")
    left = "a change of the tables' layout did not end: ip nfproxy-next is not in force"
    assert left in commands.run("status", node="").out
    commands.nft("add table ip nfproxy { flags dormant; }")
    assert "the kernel does not use them: ip nfproxy." in commands.run("status", node="").out
    explained = commands.run("explain", "web", "-f", manifests, "-o", "json").out
    assert "is dormant" in explained
    refused = commands.run("status", node="", prefix=ORDINARY_USER)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(
        "nfproxy: error: no nfproxy of root's or of this user's runs here"
    )
