"""``explain`` and ``services`` beside a daemon: its objects, its configuration, its word."""

import http.client
import json
from pathlib import Path

import pytest
from support.insight import SHOP, give_node_routes
from support.processes.commands import Commands, Result

CIDR = "--cluster-cidr=10.244.0.0/16"


@pytest.fixture
def shop(commands: Commands, manifests: Path) -> Path:
    """A directory with the cluster of mistakes, on a node with routes to its pods."""
    give_node_routes(commands.namespace)
    (manifests / "shop.yaml").write_text(SHOP.read_text("utf-8"))
    return manifests


def run(commands: Commands, *arguments: object) -> Result:
    """Run a command without any flag that names objects, configuration or node."""
    return commands.run(*arguments, node="")


def test_nothing_has_to_be_named_on_a_node(commands: Commands, shop: Path) -> None:
    """Objects, configuration and the node's name are those of the nfproxy that runs here."""
    with commands.daemon(shop, CIDR):
        works = run(commands, "explain", "shop/web", "-o", "json")
        fails = run(commands, "explain", "shop/catalog", "-o", "json")
        address = run(commands, "explain", "203.0.113.120:80")
        headless = run(commands, "explain", "shop/peers")
        unknown = run(commands, "explain", "shop/wbe")

    assert (works.code, fails.code, address.code) == (0, 1, 0)
    assert works.data["seen"]["objects"].startswith("the nfproxy (pid ")
    assert works.data["seen"]["node"] == "node-1"
    assert works.data["findings"] == []
    # What fails is looked up in the objects, too: the daemon keeps no targetPort.
    assert str(shop) in fails.data["seen"]["objects"]
    assert "named 'http-alt'" in fails.data["findings"][0]["message"]
    assert "an external IP of shop/mail" in address.out
    assert "team-b/mail2" in address.out
    assert "Headless" in headless.out
    assert (unknown.code, "is it shop/web?" in unknown.out) == (2, True)


def test_services_are_those_of_the_daemon(commands: Commands, shop: Path) -> None:
    """They are the same as from the objects, but for a targetPort that the daemon does not keep."""
    with commands.daemon(shop, CIDR):
        here = run(commands, "services")
        team = run(commands, "services", "-n", "team-b", "-o", "json")
    files = commands.run("services", "-f", shop, CIDR)

    assert (here.code, files.code) == (1, 1)
    assert _without_reasons(here.out) == _without_reasons(files.out)
    assert (team.data["total"], team.data["problems"]) == (1, 1)
    states = {tuple(line.split("\t")[-3:]) for line in here.out.splitlines()}
    # All since the start, with no error.
    assert [(state, error) for state, _, error in states] == [("in force", "-")]


def test_without_the_objects_the_daemon_s_word_counts(commands: Commands, shop: Path) -> None:
    """The files are gone: it says what it has not seen."""
    with commands.daemon(shop, CIDR):
        (shop / "shop.yaml").rename(shop.parent / "shop.yaml")
        shop.rename(shop.parent / "elsewhere")
        result = run(commands, "explain", "shop/search")

    assert result.code == 1
    assert "NoneReady" in result.out
    assert "not seen\tnames of pods" in result.out


def test_the_web_page_shows_them(commands: Commands, shop: Path) -> None:
    """To a browser on the node: the list with what fails first, and a Service with its reason."""
    with commands.daemon(shop, CIDR):
        listed = commands.namespace.call(_get, "/", "text/html")
        one = commands.namespace.call(_get, "/service?name=shop/search", "text/html")
        status = commands.namespace.call(_get, "/status", "text/html")
        as_json = commands.namespace.call(_get, "/?problems=1", "application/json")
        nothing = commands.namespace.call(_get, "/help", "text/html")

    assert (listed[0], one[0], status[0], as_json[0], nothing[0]) == (200, 200, 200, 200, 404)
    assert listed[1].index("shop/search:http") < listed[1].index("shop/web:http")
    assert "✓ in step" in listed[1]
    assert "NoneReady" in one[1]
    assert "programmed" in status[1]
    assert json.loads(as_json[1])["kind"] == "ServiceList"
    assert "/service" in nothing[1]
    # As `explain` on the node: what is in force, routes and connections.
    assert "kernel, 0 connections." in one[1]
    assert all(f">{title}</th>" in one[1] for title in ("New", "Route", "Open"))


def _get(path: str, accept: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", 10249, timeout=10)
    connection.request("GET", path, headers={"Accept": accept})
    reply = connection.getresponse()
    found = reply.status, reply.read().decode()
    connection.close()
    return found


def _without_reasons(listing: str) -> list[list[str]]:
    return [line.split("\t")[:6] for line in listing.splitlines()]
