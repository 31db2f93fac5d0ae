"""What ``nfproxy diff`` says in words: rules, values, whole tables, single Services."""

from pathlib import Path

import pytest
from support.processes.commands import Commands, endpoint_slice, node_object, service, write

RANGES = ["10.0.0.0/8", "192.0.2.0/24"]


@pytest.fixture
def loaded(commands: Commands, manifests: Path) -> Commands:
    """Tables of three Services: one with affinity, one with source ranges, one refused."""
    write(
        manifests / "all.json",
        node_object(),
        service("sticky", "10.96.0.5", sessionAffinity="ClientIP"),
        endpoint_slice("sticky", "10.244.1.5"),
        service(
            "api",
            "10.96.0.80",
            type="LoadBalancer",
            loadBalancerSourceRanges=RANGES,
            ports=[{"port": 80, "nodePort": 30081}],
            status={"loadBalancer": {"ingress": [{"ip": "203.0.113.80"}]}},
        ),
        endpoint_slice("api", "10.244.1.8"),
        service("orders", "10.96.0.20"),
    )
    commands.nft(commands.run("render", "-f", manifests).out)
    return commands


def rows(loaded: Commands, manifests: Path, *more: str) -> dict[str, list[str]]:
    """Return each row's cells, by what it is about."""
    out = loaded.run("diff", "-f", manifests, *more).out
    cells = [line.split("\t") for line in out.splitlines()]
    return {row[3]: row for row in cells if len(row) > 3}


def test_rules_that_differ_are_named(loaded: Commands, manifests: Path) -> None:
    """What is too much, and what is missing, as nft prints it; counts of packets are no news."""
    loaded.nft(
        "flush chain ip nfproxy reject-connection\n"
        "add rule ip nfproxy reject-connection counter packets 7 bytes 420 drop\n"
    )
    details = rows(loaded, manifests)["chain reject-connection"][4]
    assert "- counter drop" in details
    assert '+ counter name "refused-no-endpoints" reject' in details
    assert "packets" not in details


def test_rules_of_several_chains_are_named(loaded: Commands, manifests: Path) -> None:
    """Of each: nft lists one chain at a time."""
    details = [row[4] for row in rows(loaded, manifests, "--cluster-cidr=10.9.0.0/16").values()]
    chains = [one for one in details if "+ ip saddr != 10.9.0.0/16" in one]
    assert len(chains) > 1
    assert not any("other rules" in one for one in details)


def test_policies_are_named(loaded: Commands, manifests: Path) -> None:
    """That of the kernel, and that it should have."""
    loaded.nft("add chain ip nfproxy nat-output { policy drop; }\n")
    assert rows(loaded, manifests)["chain nat-output"][4] == "policy drop → accept"


def test_values_are_named_with_their_services(loaded: Commands, manifests: Path) -> None:
    """No name of a set stands for what its elements do."""
    listed = loaded.namespace.run(["nft", "list", "set", "ip", "nfproxy", "source-ranges"]).stdout
    one = next(
        part.strip(" {}\n\t")
        for part in listed.split("elements = ")[1].split(",")
        if "10.0.0.0" in part
    )
    loaded.nft(
        f"delete element ip nfproxy source-ranges {{ {one.split('}')[0]} }}\n"
        "delete element ip nfproxy cluster-ips { 10.96.0.20 }\n"
        "delete element ip nfproxy sticky-frontends { 10.96.0.5 . tcp . 80 }\n"
        "delete element ip nfproxy record-frontends-tcp { 10.96.0.5 . tcp . 80 }\n"
    )
    found = rows(loaded, manifests)
    allowed = found["allowed source 10.0.0.0/8"]
    assert (allowed[0], allowed[2]) == ("missing", "default/api")
    unknown = found["cluster IP 10.96.0.20"]
    assert (unknown[0], unknown[2]) == ("missing", "default/orders")
    assert "its other ports are not refused" in unknown[4]
    affinity = found["10.96.0.5:80/tcp"][4]
    assert "session affinity is not looked up" in affinity
    assert "session affinity is not recorded" in affinity


def test_a_missing_table_is_one_row(loaded: Commands, manifests: Path) -> None:
    """It says what that means; -v=1 and the data have the rest."""
    loaded.nft("delete table ip nfproxy\n")
    result = loaded.run("diff", "-f", manifests)
    said = "no Service works over IPv4 on this node (5 frontends)"
    assert result.out == f"missing\tIPv4\t-\ttable ip nfproxy\t{said}\n"
    assert len(loaded.run("diff", "-f", manifests, "-v=1").out.splitlines()) > 5
    assert len(loaded.run("diff", "-f", manifests, "-o", "json").data) > 5


def test_the_family_is_said_once(loaded: Commands, manifests: Path) -> None:
    """It has a column."""
    loaded.nft("delete element ip nfproxy node-ports { tcp . 30081 }\n")
    (row,) = rows(loaded, manifests).values()
    assert row[:4] == ["missing", "IPv4", "default/api", "node port 30081/tcp"]


@pytest.mark.parametrize("what", ["default/sticky", "10.96.0.5", "10.96.0.5:80"])
def test_one_service_can_be_asked_about(loaded: Commands, manifests: Path, what: str) -> None:
    """By name or address; others' differences are no part of the answer, nor of its script."""
    loaded.nft(
        "delete element ip nfproxy cluster-ips { 10.96.0.20 }\n"
        "delete element ip nfproxy frontends { 10.96.0.5 . tcp . 80 }\n"
    )
    assert list(rows(loaded, manifests, what)) == ["10.96.0.5:80/tcp"]
    assert loaded.run("diff", "-f", manifests, "default/api").code == 0
    loaded.nft(loaded.run("diff", "-f", manifests, what, "-o", "nft").out)
    assert loaded.run("diff", "-f", manifests, what).code == 0
    assert list(rows(loaded, manifests)) == ["cluster IP 10.96.0.20"]


def test_an_address_of_none_is_not_found(loaded: Commands, manifests: Path) -> None:
    """2, as nothing was compared; names that may be meant are named."""
    result = loaded.run("diff", "-f", manifests, "192.0.2.1:80")
    assert (result.code, result.out) == (2, "")
    assert "no Service answers at 192.0.2.1:80" in result.err
    assert "there is default/orders" in loaded.run("diff", "-f", manifests, "default/order").err
