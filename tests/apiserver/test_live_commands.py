"""
``render`` and ``diff`` of what an API server tells: asked before anything is switched over.
"""

from pathlib import Path

import pytest
from support.processes.apidaemon import Site
from support.processes.commands import endpoint_slice, node_object, service, write

CIDR = "--cluster-cidr=10.244.0.0/16"


def test_render_prints_the_same_as_from_files(site: Site, tmp_path: Path) -> None:
    """
    To the byte, whoever tells of the objects, and without touching the node.
    """
    objects = (node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    site.api.apply(*objects)
    for number, one in enumerate(objects):
        write(tmp_path / "manifests" / f"{number}.json", one)
    live = site.commands.run("render", "--kubeconfig", site.kubeconfig, CIDR)
    files = site.commands.run("render", "-f", tmp_path / "manifests", CIDR)

    assert (live.code, live.out) == (0, files.out)
    assert "10.244.1.5" in live.out
    assert site.commands.tables() == []


def test_diff_tells_what_would_change(site: Site) -> None:
    """
    Exit status 1 before, 0 with a daemon on the node, and 1 for what it has not been told.
    """
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    arguments = (
        "diff",
        "--kubeconfig",
        site.kubeconfig,
        "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48",
    )
    before = site.commands.run(*arguments)
    with site.daemon():
        programmed = site.commands.run(*arguments)

    site.api.apply(endpoint_slice("web", "10.244.1.6"))
    changed = site.commands.run(*arguments)

    assert (before.code, programmed.code, changed.code) == (1, 0, 1)
    assert "- 10.244.1.5:8080; + 10.244.1.6:8080" in changed.out


@pytest.mark.parametrize("command", ["render", "diff"])
def test_an_api_server_that_cannot_be_asked_is_said_within_seconds(
    site: Site, command: str
) -> None:
    """
    In one line with what to check; diff's status for that is 2.
    """
    site.api.refuse()
    result = site.commands.run(command, "--kubeconfig", site.kubeconfig)

    assert result.code == (2 if command == "diff" else 1)
    assert "refuses connections; check that the API server runs there" in result.err
    assert "trying again" not in result.err
    assert result.out == ""
