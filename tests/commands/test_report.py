"""``nfproxy report``: an archive for a report."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from support.processes.commands import (
    ORDINARY_USER,
    Commands,
    endpoint_slice,
    node_object,
    service,
    write,
)


def unpack(path: Path) -> dict[str, str]:
    """Return the texts of an archive by file name."""
    with tarfile.open(path) as tar:
        files = {name: tar.extractfile(name) for name in tar.getnames()}
        assert len({Path(name).parent for name in files}) == 1
        return {Path(name).name: file.read().decode() for name, file in files.items() if file}


def test_a_node_s_report(commands: Commands, manifests: Path, tmp_path: Path) -> None:
    """Everything that the troubleshooting page lists, with the Service that was asked about."""
    commands.namespace.run(["ip", "link", "set", "lo", "up"])
    write(manifests / "node.json", node_object())
    write(manifests / "web.json", service(), endpoint_slice("web", "10.244.1.5"))
    path = tmp_path / "report.tar.gz"
    with commands.daemon(manifests) as daemon:
        daemon.wait_for("serving metrics")
        done = commands.run("report", "default/web", "-o", path, node="")
    files = unpack(path)

    assert (done.code, done.out) == (0, "")
    assert f"wrote {path}" in done.err
    assert "it names Services, pods and nodes" in done.err
    assert path.stat().st_mode & 0o777 == 0o600
    assert files["version.txt"].startswith("nfproxy 0.")
    assert json.loads(files["status.json"])["kind"] == "NodeStatus"
    assert json.loads(files["explain-1.json"])["kind"] == "Explanation"
    assert "10.244.1.5" in files["render-1.yaml"]
    assert json.loads(files["diff.json"]) == []
    assert json.loads(files["preflight.json"])["node"] == "node-1"
    assert json.loads(files["services.json"])["total"] == 1
    assert json.loads(files["changes.json"])["records"]
    assert json.loads(files["daemon.json"])["configuration"]["mode"] == "nftables"
    assert "\nnfproxy_services 1" in files["metrics.txt"]
    assert "10.96.0.1" in files["table-ip.nft"]
    assert "log.txt" in files["README.txt"].partition("Could not be collected:")[2]


def test_the_log_may_be_beside_it(commands: Commands, tmp_path: Path) -> None:
    """The plug-in for kubectl brings it, so it is not missing."""
    path = tmp_path / "report.tar.gz"
    done = commands.run("report", "--without-log", "-o", path, node="")

    assert "log.txt" not in done.err
    readme = unpack(path)["README.txt"]
    assert "log.txt" not in readme
    assert "The log is in a file of its own" in readme


def test_without_a_daemon_and_rights_it_says_what_is_missing(
    commands: Commands, tmp_path: Path
) -> None:
    """The archive is written all the same."""
    path = tmp_path / "report.tar.gz"
    done = commands.run("report", "-o", path, node="", prefix=ORDINARY_USER)
    files = unpack(path)

    assert done.code == 0
    assert "nfproxy: not collected: metrics.txt: no nfproxy runs here\n" in done.err
    assert {"version.txt", "preflight.json", "README.txt"} <= set(files)
    assert "status.json: nfproxy: error: no nfproxy" in files["README.txt"]


def test_an_archive_that_cannot_be_written(commands: Commands, tmp_path: Path) -> None:
    """Nor is anything written through a link that another user laid."""
    link = tmp_path / "link.tar.gz"
    link.symlink_to(tmp_path / "elsewhere")
    done = commands.run("report", "-o", link, node="", prefix=ORDINARY_USER)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(f"nfproxy: error: {link}: ")
    assert not (tmp_path / "elsewhere").exists()
    assert "not a valid name" in commands.run("report", "not a service!", node="").err
