"""``nfproxy services``: the list, its exit status, and a check of manifests."""

from pathlib import Path

import pytest
from support.insight import SHOP
from support.processes.commands import Commands, endpoint_slice, node_object, service, write

CIDR = "--cluster-cidr=10.244.0.0/16"


def test_every_service_port_has_a_row(commands: Commands) -> None:
    """With its answer, counts, level, codes and reason."""
    result = commands.run("services", "-f", SHOP, CIDR)
    rows = [line.split("\t") for line in result.out.splitlines()]

    assert (result.code, result.err) == (1, "")
    assert ["shop/web:http", "80, 30080", "yes", "2/2", *9 * "-"] in rows
    assert rows == sorted(rows)


def test_problems_alone_and_one_namespace(commands: Commands) -> None:
    """What works for all clients is left out; other namespaces do not count."""
    problems = commands.run("services", "--problems", "-f", SHOP, CIDR)
    team = commands.run("services", "-n", "team-b", "-f", SHOP, CIDR)
    worst = commands.run("services", "--problems", "--sort", "worst", "-f", SHOP, CIDR)

    assert "shop/web" not in problems.out
    assert (team.code, team.out.count("\n")) == (1, 1)
    levels = [line.split("\t")[4] for line in worst.out.splitlines()]
    assert levels == sorted(levels, key=("fail", "warn", "note").index)


@pytest.mark.parametrize("options", [(), ("--problems",)])
def test_nothing_wrong_is_0(commands: Commands, tmp_path: Path, options: tuple[str, ...]) -> None:
    """With or without a table."""
    path = write(tmp_path / "m.json", node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    result = commands.run("services", *options, "-f", path, CIDR)

    assert (result.code, result.err, bool(result.out)) == (0, "", not options)


def test_it_checks_manifests(commands: Commands, tmp_path: Path) -> None:
    """In a pipeline, where the host is no node: one wrong name, and status 1 with its code."""
    piece = endpoint_slice("web", "10.244.1.5", ports=[{"name": "http", "port": 80}])
    path = write(tmp_path / "m.json", service(internalTrafficPolicy="Local"), piece)
    result = commands.run("services", "--problems", "-f", path, node="")

    assert (result.code, result.err) == (1, "")
    assert result.out.split("\t")[4:6] == ["fail", "PortNameDiffers"]


def test_a_service_of_which_nothing_can_be_used_has_a_row(
    commands: Commands, tmp_path: Path
) -> None:
    """A cluster IP that is none leaves no Service to plan."""
    bad = service("bad", "10.96.0.300"), service("good"), endpoint_slice("good", "10.244.1.5")
    path = write(tmp_path / "m.json", node_object(), *bad)
    result = commands.run("services", "--problems", "-f", path, CIDR)

    assert (result.code, result.err) == (1, "")
    assert result.out.startswith("default/bad\t-\tnot served\t0/0\tfail\tInvalidField\t")


def test_json_has_all_codes(commands: Commands) -> None:
    """The total too, where only a part is shown."""
    found = commands.run("services", "--problems", "-f", SHOP, CIDR, "-o", "json").data

    assert (found["kind"], found["total"], found["problems"]) == ("ServiceOverview", 11, 7)
    codes = {row["name"]: row["codes"] for row in found["services"]}
    assert codes["orders"] == ["NoSlices"]


def test_without_any_source_it_could_not_find_out(commands: Commands) -> None:
    """Status 2."""
    result = commands.run("services", prefix=("env", "-u", "KUBECONFIG", "HOME=/none"))

    assert (result.code, result.out) == (2, "")
