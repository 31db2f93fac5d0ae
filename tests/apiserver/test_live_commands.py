"""``render`` and ``diff`` with the objects of an API server, before the switch to nfproxy."""

from pathlib import Path

import pytest
from support.processes.apidaemon import Site
from support.processes.commands import endpoint_slice, node_object, service, write

CIDR = "--cluster-cidr=10.244.0.0/16"


def test_render_prints_the_same_as_from_files(site: Site, tmp_path: Path) -> None:
    """The output is equal to the byte, and the node is not changed."""
    objects = (node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    site.api.apply(*objects)
    for number, one in enumerate(objects):
        write(tmp_path / "manifests" / f"{number}.json", one)
    live = site.commands.run("render", "--kubeconfig", site.kubeconfig, CIDR)
    files = site.commands.run("render", "-f", tmp_path / "manifests", CIDR)

    assert (live.code, live.out) == (0, files.out)
    assert "10.244.1.5" in live.out
    assert site.commands.tables() == []


def test_diff_shows_what_would_change(site: Site) -> None:
    """
    The exit status is 1 before, 0 with a daemon on the node, and 1 for a change it has not seen.
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
def test_an_unreachable_api_server_is_an_error_within_seconds(site: Site, command: str) -> None:
    """The error is one line with what to check; diff's exit status is 2."""
    site.api.refuse()
    result = site.commands.run(command, "--kubeconfig", site.kubeconfig)

    assert result.code == 2
    assert "refuses connections; check that the API server runs there" in result.err
    (line,) = [text for text in result.err.splitlines() if "refuses" in text]
    assert line.count("127.0.0.1:") == 1, "the address is said once"
    assert "trying again" not in result.err
    assert result.out == ""
