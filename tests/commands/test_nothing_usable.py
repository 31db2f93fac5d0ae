"""Manifests without anything to program: said, and never turned into an empty ruleset unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.processes.commands import Commands, endpoint_slice, service

CASES = {
    "empty directory": {},
    "empty file": {"a.yaml": ""},
    "comments": {"a.yaml": "# nothing\n---\n"},
    "other kinds": {"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"},
    "Endpoints": {
        "a.yaml": "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\n"
        "subsets: [{addresses: [{ip: 10.244.1.5}], ports: [{port: 80}]}]\n"
    },
    "no kind": {"a.json": '{"metadata": {"name": "web"}}'},
    "a list of nothing": {"a.json": '{"apiVersion": "v1", "kind": "List", "items": []}'},
    "broken": {"a.yaml": "a: b: c\n"},
    "headless": {"a.json": json.dumps(service("web", "None"))},
}


def write(directory: Path, files: dict[str, str]) -> Path:
    directory.mkdir()
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize("files", CASES.values(), ids=CASES)
def test_render_of_nothing_usable_prints_no_ruleset(
    commands: Commands, tmp_path: Path, files: dict[str, str]
) -> None:
    """It exits 2: piped into nft its script would empty the node."""
    manifests = write(tmp_path / "manifests", files)
    result = commands.run("render", "-f", manifests)
    assert (result.code, result.out) == (2, "")
    assert "there is no Service to proxy" in result.err
    assert "--allow-empty" in result.err
    allowed = commands.run("render", "-f", manifests, "--allow-empty")
    assert allowed.code == 0
    assert "table ip nfproxy" in allowed.out


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("other kinds", "a.yaml: holds no object of a kind that nfproxy reads"),
        ("comments", "a.yaml: holds no object of a kind that nfproxy reads"),
        ("a list of nothing", "a.json: holds no object of a kind that nfproxy reads"),
    ],
)
def test_what_a_file_lacks_is_said(
    commands: Commands, tmp_path: Path, case: str, words: str
) -> None:
    """Beside a file with a Service, too; that one is used."""
    manifests = write(tmp_path / "manifests", CASES[case])
    (manifests / "web.json").write_text(json.dumps(service()))
    result = commands.run("render", "-f", manifests)
    assert result.code == 0
    assert words in result.err
    assert "10.96.0.1" in result.out


@pytest.mark.parametrize("case", ["no kind", "broken", "empty file", "Endpoints"])
def test_a_file_of_which_nothing_can_be_used_is_no_success(
    commands: Commands, tmp_path: Path, case: str
) -> None:
    """It may be any object's new version, so what its neighbours hold is not all."""
    manifests = write(tmp_path / "manifests", CASES[case])
    (manifests / "web.json").write_text(json.dumps(service()))
    slices = endpoint_slice("web", "10.244.1.5")
    (manifests / "slice.json").write_text(json.dumps(slices))

    script = commands.run("render", "-f", manifests)
    compared = commands.run("diff", "-f", manifests)
    allowed = commands.run("render", "-f", manifests, "--allow-empty")
    asked = commands.run("explain", "default/web", "-f", manifests)
    listed = commands.run("services", "-f", manifests)

    for result in (script, compared):
        assert (result.code, result.out) == (2, "")
        assert "gives no usable object; mend or leave out the file" in result.err
    assert (allowed.code, "10.96.0.1" in allowed.out) == (0, True)
    assert (asked.code, "gives no usable object" in asked.out) == (2, True)
    assert (listed.code, "default/web" in listed.out) == (2, True)


NO_FILE = "holds no file that nfproxy reads (.yaml, .yml, .json)"


@pytest.mark.parametrize("file", ["", "web.yaml.gz", ".web.yaml", "web/README.md"])
def test_a_directory_without_a_file_to_read_is_said(
    commands: Commands, tmp_path: Path, file: str
) -> None:
    """A volume that is not mounted, or files of another ending: the node gets no Service."""
    manifests = tmp_path / "manifests"
    (manifests / "web").mkdir(parents=True)
    if file:
        (manifests / file).write_text(json.dumps(service()))
    rendered = commands.run("render", "-f", manifests)
    assert f"warning: {manifests}: {NO_FILE}" in rendered.err
    with commands.daemon(manifests) as daemon:
        assert f"WARNING {manifests}: {NO_FILE}" in daemon.log
        (manifests / "web.json").write_text(json.dumps(service()))
        daemon.wait_for("synced default/web")
        assert daemon.log.count(NO_FILE) == 1
