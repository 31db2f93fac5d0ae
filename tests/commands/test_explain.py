"""``nfproxy explain``: the command, its exit status, and what it does with bad input."""

import json
from pathlib import Path

import pytest
import yaml
from support.insight import SHOP
from support.processes.commands import (
    ORDINARY_USER,
    Commands,
    endpoint_slice,
    node_object,
    service,
    write,
)

CIDR = "--cluster-cidr=10.244.0.0/16"


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("shop/web", 0, "works"),
        ("shop/audit", 0, "outside clients are DROPPED"),
        ("shop/jobs", 0, "works, LOOK AT THIS"),
        ("shop/catalog", 1, "REFUSES every connection"),
        ("10.96.0.77:80", 1, "DROPS every connection"),
        ("shop/wbe", 2, "THERE IS NO SUCH SERVICE"),
    ],
)
def test_the_exit_status_and_the_first_line(
    commands: Commands, what: str, code: int, said: str
) -> None:
    """0 nothing fails, 1 something does, 2 it could not find out."""
    result = commands.run("explain", what, "-f", SHOP, CIDR)

    assert (result.code, result.err) == (code, "")
    assert said in result.out.splitlines()[0]


@pytest.mark.parametrize(
    ("what", "client", "code", "said"),
    [
        ("203.0.113.80:80", "192.168.77.100", 1, "of shop/api:http, on node-1: DROPPED"),
        ("203.0.113.80:80", "10.1.2.3", 0, "of shop/api:http, on node-1: works"),
        ("shop/web", "shop/p11", 0, "10.244.1.11 (pod shop/p11) → 10.96.0.10:80/tcp"),
        ("shop/audit", "8.8.8.8", 1, "of shop/audit:http, on node-1: DROPPED"),
        ("shop/orders", "10.244.1.50", 1, "REFUSED"),
    ],
)
def test_one_client(commands: Commands, what: str, client: str, code: int, said: str) -> None:
    """`--from` follows its packets: the verdict is that on this client."""
    result = commands.run("explain", what, "--from", client, "-f", SHOP, CIDR)

    assert (result.code, result.err) == (code, "")
    assert said in result.out.splitlines()[0]
    assert any(line.startswith("step\t1\t") for line in result.out.splitlines())


def test_strict_counts_what_is_worth_a_look(commands: Commands) -> None:
    """And never a note."""
    codes = [
        commands.run("explain", what, "--strict", "-f", SHOP, CIDR).code
        for what in ("shop/jobs", "shop/audit")
    ]

    assert codes == [1, 0]


def test_json_and_yaml_are_the_same_document(commands: Commands) -> None:
    """With the codes, and with what it rests on."""
    document, text = (
        commands.run("explain", "shop/catalog", "-f", SHOP, CIDR, "-o", form).out
        for form in ("json", "yaml")
    )
    found = json.loads(document)
    other = yaml.safe_load(text)
    for one in (found, other):
        assert one["seen"].pop("at").endswith("Z")

    assert found == other
    assert (found["kind"], found["verdict"]) == ("Explanation", "refused")
    assert found["findings"][0]["code"] == "PortNotInSlices"
    assert found["seen"]["objects"] == str(SHOP)


def test_another_node_and_all_nodes(commands: Commands) -> None:
    """The plan is computed for each Node object."""
    here, there, every = (
        commands.run("explain", "shop/logs", "-f", SHOP, CIDR, *more)
        for more in ((), ("--node", "node-2"), ("--all-nodes",))
    )

    assert (here.code, there.code, every.code) == (1, 0, 1)
    rows = [line.split("\t")[1:5] for line in every.out.splitlines() if line.startswith("node\t")]
    assert rows == [
        ["node-1", "shop/logs:http IPv4", "0/1", "dropped"],
        ["node-2", "shop/logs:http IPv4", "1/1", "endpoints"],
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("10.96.0.1:x",), "'x' is not a port"),
        (("a b",), "is not a valid name"),
        (("shop/web", "--node", "node-3"), "'node-1'"),
        (("shop/web", "--node", "node-1", "--all-nodes"), "exclude each other"),
        (("shop/web", "--cluster-cidr", "x"), "cluster-cidr"),
        (("shop/web", "--from", "shop/absent"), "name the client by its address"),
        (("shop/web", "--from", "10.0.0.1", "--all-nodes"), "exclude each other"),
    ],
)
def test_wrong_usage_is_2(commands: Commands, arguments: tuple[str, ...], said: str) -> None:
    """In one line with what to write."""
    result = commands.run("explain", *arguments, "-f", SHOP)

    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_without_any_source_it_could_not_find_out(commands: Commands) -> None:
    """No file, no API server, no nfproxy here."""
    result = commands.run("explain", "shop/web", prefix=("env", "-u", "KUBECONFIG", "HOME=/none"))

    assert (result.code, result.out) == (2, "")
    assert "name manifests with -f" in result.err


def test_it_needs_no_rights(commands: Commands) -> None:
    """For objects, an ordinary user's are enough."""
    result = commands.run("explain", "shop/web", "-f", SHOP, CIDR, prefix=ORDINARY_USER)

    assert (result.code, result.err) == (0, "")


def test_unreadable_files_are_reported_and_findings_are_not_said_twice(
    commands: Commands, tmp_path: Path
) -> None:
    """Problems of files are warnings; those of the Service are findings."""
    bad = service(externalIPs=["203.0.113.900"])
    write(tmp_path / "m" / "a.json", node_object(), bad, endpoint_slice("web", "10.244.1.5"))
    (tmp_path / "m" / "b.yaml").write_text("{")
    result = commands.run("explain", "web", "-f", tmp_path / "m", "--cluster-cidr=10.244.0.0/16")

    assert result.code == 2
    assert "b.yaml" in result.err
    assert "203.0.113.900" not in result.err
    assert "warn\tInvalidField" in result.out


def test_objects_from_standard_input(commands: Commands) -> None:
    """As kubectl prints them."""
    result = commands.run("explain", "shop/web", "-f", "-", CIDR, input=SHOP.read_text("utf-8"))

    assert result.code == 0


def test_help_shows_the_configuration_s_flags_on_demand(commands: Commands) -> None:
    """They are accepted either way."""
    short = commands.run("explain", "--help", node="").out
    long = commands.run("explain", "--help-config", node="").out

    assert "--masquerade-all" not in short
    assert "--masquerade-all" in long
    assert max(map(len, long.splitlines())) <= 80
