"""``nfproxy diff``: desired state against the kernel."""

import re
from pathlib import Path

import pytest
import yaml
from support.objects.everything import everything
from support.processes.commands import (
    ORDINARY_USER,
    Commands,
    endpoint_slice,
    node_object,
    service,
    wait_until,
    write,
)

from nfproxy.dataplane.kernel import Kernel
from nfproxy.model.addresses import FAMILIES
from nfproxy.nft import schema
from nfproxy.tools.lab import Lab


@pytest.fixture(scope="module")
def rendered(namespaces_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What render prints for objects that fill every set."""
    scratch = tmp_path_factory.mktemp("rendered")
    path = write(scratch / "all.json", *everything())
    with Lab() as lab:
        return Commands(lab.namespace("anywhere"), scratch).run("render", "-f", path).out


@pytest.fixture
def loaded(commands: Commands, manifests: Path, rendered: str) -> Commands:
    """Tables that are as the manifests want them."""
    write(manifests / "all.json", *everything())
    commands.nft(rendered)
    return commands


def small(manifests: Path, *addresses: str) -> None:
    """Write one Service with these endpoints."""
    write(manifests / "all.json", node_object(), service(), endpoint_slice("web", *addresses))


def rows(commands: Commands, manifests: Path) -> list[dict[str, object]]:
    """Return the differences."""
    found = commands.run("diff", "-f", manifests, "-o", "json")
    data: list[dict[str, object]] = found.data
    assert found.code == (1 if data else 0)
    return data


def test_equal_is_nothing_to_say_and_0(loaded: Commands, manifests: Path) -> None:
    """As data it is an empty list, as a transaction it is empty."""
    for output, expected in (
        ("table", None),
        ("json", "[]\n"),
        ("yaml", "[]\n"),
        ("nft", ""),
    ):
        result = loaded.run("diff", "-f", manifests, "-o", output)
        assert result.code == 0
        if expected is not None:
            assert expected == result.out
    first = loaded.run("diff", "-f", manifests).out
    assert re.fullmatch(
        rf"equal: \d+ frontends, \d+ slots, as {re.escape(str(manifests))} says\n", first
    )


def test_rows_speak_of_services_and_endpoints(commands: Commands, manifests: Path) -> None:
    """An endpoint replaced, a Service added, another removed."""
    small(manifests, "10.244.1.5", "10.244.1.6")
    write(manifests / "old.json", service("old", "10.96.0.9"), endpoint_slice("old", "10.244.1.7"))
    commands.nft(commands.run("render", "-f", manifests).out)
    small(manifests, "10.244.1.6", "10.244.1.8")
    (manifests / "old.json").unlink()
    write(
        manifests / "new.json",
        service("new", "10.96.0.2", ports=[{"name": "http", "port": 8000}]),
        endpoint_slice("new", "10.244.1.5", ports=[{"name": "http", "port": 80}]),
    )

    found = {row["subject"]: row for row in rows(commands, manifests)}

    assert found["10.96.0.1:80/tcp"] == {
        "family": "IPv4",
        "service": "default/web",
        "subject": "10.96.0.1:80/tcp",
        "change": "differs",
        "details": ["- 10.244.1.5:8080", "+ 10.244.1.8:8080"],
    }
    added, removed = found["10.96.0.2:8000/tcp"], found["10.96.0.9:80/tcp"]
    assert (added["service"], added["change"]) == ("default/new:http", "missing")
    assert added["details"] == ["1 endpoint", "+ 10.244.1.5:80"]
    assert (
        removed["change"],
        removed["details"],
    ) == ("surplus", ["1 endpoint", "- 10.244.1.7:8080"])


def test_piped_it_is_plain_rows(commands: Commands, manifests: Path) -> None:
    """One line a row, columns parted by tabs; yaml says the same as json."""
    small(manifests)
    commands.nft(commands.run("render", "-f", manifests).out)
    small(manifests, "10.244.1.5")
    write(manifests / "new.json", service("new", "10.96.0.2"), endpoint_slice("new", "10.244.1.5"))
    result = commands.run("diff", "-f", manifests)
    data = commands.run("diff", "-f", manifests, "-o", "json").data
    lines = [line.split("\t") for line in result.out.splitlines()]

    assert result.code == 1
    assert len(lines) == len(data)
    assert {5} == {len(line) for line in lines}
    assert [
        "missing",
        "IPv4",
        "default/new",
        "10.96.0.2:80/tcp",
        "1 endpoint; + 10.244.1.5:8080",
    ] in lines
    assert data == yaml.safe_load(commands.run("diff", "-f", manifests, "-o", "yaml").out)


def test_slots_may_be_in_any_order(commands: Commands, manifests: Path) -> None:
    """The order of endpoints in slots has no meaning."""
    small(manifests, "10.244.1.5", "10.244.1.6")
    commands.nft(commands.run("render", "-f", manifests).out)
    commands.nft(
        "delete element ip nfproxy endpoints-tcp { 10.96.0.1 . 80 . 0, 10.96.0.1 . 80 . 1 }\n"
        "add element ip nfproxy endpoints-tcp { 10.96.0.1 . 80 . 0 : 10.244.1.6 . 8080 }\n"
        "add element ip nfproxy endpoints-tcp { 10.96.0.1 . 80 . 1 : 10.244.1.5 . 8080 }\n"
    )

    assert rows(commands, manifests) == []


#: Damage, and the subjects of the rows that must report it.
DAMAGE = {
    "rules": (
        "flush chain ip nfproxy services\n"
        "insert rule ip6 nfproxy nat-prerouting accept\n"
        "flush chain ip nfproxy cluster-tcp-3\n"
        "add rule ip nfproxy cluster-tcp-3 accept\n",
        {"chain services", "chain nat-prerouting", "chain cluster-tcp-3"},
    ),
    "one rule changed": (
        "flush chain ip nfproxy reject-connection\nadd rule ip nfproxy reject-connection drop\n",
        {"chain reject-connection"},
    ),
    "policy": (
        "add chain ip nfproxy nat-output { policy drop; }\n",
        {"chain nat-output"},
    ),
    "foreign base chain": (
        "add chain ip nfproxy strange { type nat hook prerouting priority -150; }\n"
        "add rule ip nfproxy strange accept\n",
        {"chain strange"},
    ),
    "a base chain by the name of a shape": (
        "add chain ip nfproxy cluster-tcp-77 { type nat hook prerouting priority -150; }\n",
        {"chain cluster-tcp-77"},
    ),
    "foreign chains that refer to each other": (
        "add chain ip nfproxy a-first\nadd chain ip nfproxy b-second\n"
        "add rule ip nfproxy b-second jump a-first\n"
        "add rule ip nfproxy reject-connection jump b-second\n"
        "add element ip nfproxy frontends { 192.0.2.2 . tcp . 80 : goto a-first }\n",
        {"chain a-first", "chain b-second", "chain reject-connection", "192.0.2.2:80/tcp"},
    ),
    "foreign set": (
        "add set ip nfproxy strangers { typeof ip saddr; }\n"
        "insert rule ip nfproxy services ip saddr @strangers drop\n",
        {"set strangers", "chain services"},
    ),
    "dormant": ("add table ip nfproxy { flags dormant; }\n", {"table ip nfproxy"}),
    "a family gone": ("delete table ip6 nfproxy\n", {"table ip6 nfproxy"}),
    "another layout": (
        "delete table ip6 nfproxy\n"
        "table ip6 nfproxy {\nmap frontends {\ntypeof ip6 daddr : verdict\n"
        "elements = { fd00::1 : drop }\n}\n}\n",
        {"table ip6 nfproxy"},
    ),
    "another hook": (
        "delete chain ip nfproxy nat-output\n"
        "add chain ip nfproxy nat-output { type filter hook output priority -100; }\n",
        {"table ip nfproxy"},
    ),
    "chain gone": (
        "delete element ip nfproxy frontends { 10.96.0.1 . tcp . 80 }\n"
        "flush chain ip nfproxy cluster-tcp-3\ndelete chain ip nfproxy cluster-tcp-3\n",
        {"chain cluster-tcp-3", "10.96.0.1:80/tcp"},
    ),
    "leftover slots": (
        "add element ip nfproxy endpoints-tcp { 10.96.0.1 . 80 . 3 : 10.244.1.99 . 1 }\n"
        "add element ip nfproxy endpoints-tcp { 10.96.0.1 . 80 . 700 : 10.244.1.99 . 1 }\n"
        "add element ip nfproxy endpoints-udp { 10.96.0.77 . 80 . 0 : 10.244.1.99 . 1 }\n",
        {"10.96.0.1:80/tcp", "10.96.0.77:80/udp", "endpoints-tcp: 10.96.0.1 . 80 . 700"},
    ),
    "elements too many": (
        "add element ip nfproxy frontends { 192.0.2.1 . tcp . 80 : drop }\n"
        "add element ip nfproxy frontends { 192.0.2.1 . 47 . 80 : accept }\n"
        "add element ip nfproxy node-ports { udp . 30099 : goto reject-connection }\n"
        "add element ip nfproxy node-port-addresses { 192.0.2.0/24 }\n"
        "add element ip6 nfproxy node-port-addresses { 2001:db8:ffff::/48 }\n"
        "add element ip nfproxy cluster-ips { 192.0.2.1 }\n"
        "add element ip6 nfproxy service-cidrs { ffff::/16 }\n"
        "add element ip nfproxy source-ranges { 192.0.2.7 . 1 . 2 . 32 }\n"
        "add element ip nfproxy guarded-frontends { 10.96.0.1 . tcp . 80 : drop }\n"
        "add element ip nfproxy sticky-frontends { 10.96.0.1 . tcp . 80 : drop }\n"
        "add element ip nfproxy sticky-node-ports { tcp . 30080 : drop }\n"
        "add element ip nfproxy record-frontends-tcp { 10.96.0.1 . tcp . 80 : drop }\n"
        "add element ip nfproxy record-node-ports-udp { udp . 30080 : drop }\n"
        "add element ip nfproxy node-port-endpoints-sctp { 30555 . 0 : 10.1.1.1 . 80 }\n",
        {
            "192.0.2.1:80/tcp",
            "node port 30099/udp",
            "node port addresses 192.0.2.0/24",
            "node port addresses 2001:db8:ffff::/48",
            "cluster IP 192.0.2.1",
            "ServiceCIDR ffff::/16",
            "10.96.0.1:80/tcp",
            "node port 30080/tcp",
            "node port 30555/sctp",
        },
    ),
}


def check_mended(commands: Commands, manifests: Path) -> None:
    """Apply the transaction that diff gives, and see that nothing differs any more."""
    mend = commands.run("diff", "-f", manifests, "-o", "nft")
    assert mend.code == 1
    commands.nft(mend.out)
    after = commands.run("diff", "-f", manifests)
    assert after.code == 0
    assert "equal: " in after.out


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_seen_and_the_transaction_mends_it(
    loaded: Commands, manifests: Path, damage: str
) -> None:
    """What `-o nft` prints, `nft -f -` applies, and the next diff is empty."""
    text, subjects = DAMAGE[damage]
    loaded.nft(text)

    found = {row["subject"] for row in loaded.run("diff", "-f", manifests, "-o", "json").data}

    assert subjects <= found
    check_mended(loaded, manifests)


def one_element_of_each_set() -> str:
    """Return the text that deletes an element of every set and map that has any."""
    kernel = Kernel()
    try:
        text = ""
        for family in FAMILIES:
            for name in schema.SCHEMAS:
                key = min((k for k, _ in kernel.elements(family, name)), default=None)
                if key is not None:
                    element = schema.format_element(schema.SCHEMAS[name], key, None, family)
                    text += f"delete element {family.table} nfproxy {name} {{ {element} }}\n"
        return text
    finally:
        kernel.close()


def test_an_element_missing_from_any_set_is_seen_and_mended(
    loaded: Commands, manifests: Path
) -> None:
    """
    The manifests fill every set of both families, and one element goes from each.

    Of sixteen maps for the first digits of lists' numbers they fill one or more.
    """
    text = loaded.namespace.call(one_element_of_each_set)
    emptied = set(re.findall(r"delete element (ip6? nfproxy \S+?)(?:-[0-9a-f])? \{", text))
    assert len(emptied) == 2 * len({re.sub("-[0-9a-f]$", "", name) for name in schema.SCHEMAS})
    loaded.nft(text)
    check_mended(loaded, manifests)


def test_a_missing_set_is_seen_and_mended(commands: Commands, manifests: Path) -> None:
    """Even one that is not needed now."""
    small(manifests, "10.244.1.5")
    script = commands.run("render", "-f", manifests).out
    commands.nft(script)
    commands.nft("flush chain ip nfproxy record-affinity\ndelete map ip nfproxy endpoints-sctp\n")
    subjects = [row["subject"] for row in rows(commands, manifests)]
    assert {"set endpoints-sctp", "chain record-affinity"} <= set(subjects)
    check_mended(commands, manifests)


def test_all_damage_at_once_is_mended(loaded: Commands, manifests: Path) -> None:
    """No part of the transaction prevents another."""
    apart = {"another layout", "another hook", "a family gone", "dormant"}
    loaded.nft("".join(text for name, (text, _) in DAMAGE.items() if name not in apart))
    check_mended(loaded, manifests)


def test_another_configuration_is_a_difference(loaded: Commands, manifests: Path) -> None:
    """A flag that changes rules shows in the chains; its transaction brings it into force."""
    flags = ("--masquerade-all", "--nodeport-addresses", "192.168.0.0/16,fd00::/8")
    mend = loaded.run("diff", "-f", manifests, *flags, "-o", "nft")
    assert mend.code == 1
    loaded.nft(mend.out)
    assert loaded.run("diff", "-f", manifests, *flags).code == 0
    assert loaded.run("diff", "-f", manifests).code == 1


@pytest.mark.parametrize(
    ("arguments", "prefix", "message"),
    [
        (["-f", "/nonexistent/x.yaml"], (), "/nonexistent/x.yaml: No such file or directory"),
        (["-f", "MANIFESTS"], ORDINARY_USER, "CAP_NET_ADMIN is missing"),
        (["-f", "MANIFESTS", "--cluster-cidr", "nonsense"], (), "--cluster-cidr: 'nonsense'"),
        (["-f", "MANIFESTS", "--config", "/nonexistent"], (), "/nonexistent"),
        (["-f", "MANIFESTS", "--no-such-flag"], (), "no such option"),
        (["-f", "MANIFESTS", "default/wob"], (), "there is no Service default/wob"),
        ([], (), "name manifests with -f, or an API server"),
    ],
    ids=["file", "privileges", "value", "config", "flag", "service", "nothing"],
)
def test_failing_is_2(
    commands: Commands,
    manifests: Path,
    arguments: list[str],
    prefix: tuple[str, ...],
    message: str,
) -> None:
    """Never 1, which means different; the message says what is wrong."""
    small(manifests, "10.244.1.5")
    words = [str(manifests) if word == "MANIFESTS" else word for word in arguments]
    result = commands.run("diff", *words, prefix=prefix)

    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "Traceback" not in result.err


def test_diff_changes_nothing(loaded: Commands, manifests: Path) -> None:
    """diff commits no transaction in the namespace that it reads."""
    loaded.nft("flush chain ip nfproxy services")
    before = loaded.generation()
    loaded.run("diff", "-f", manifests)
    loaded.run("diff", "-f", manifests, "-o", "nft")
    assert loaded.generation() == before


def test_what_idle_chains_of_affinity_use_is_no_difference(
    commands: Commands, manifests: Path
) -> None:
    """They stay for some minutes, and the maps of remembered clients with them."""
    sticky = service(sessionAffinity="ClientIP")
    write(manifests / "all.json", node_object(), sticky, endpoint_slice("web", "10.244.1.5"))
    with commands.daemon(manifests):
        small(manifests, "10.244.1.5")
        wait_until(lambda: rows(commands, manifests) == [])

    assert rows(commands, manifests) == []
    assert "clients-" in commands.namespace.run(["nft", "list", "ruleset"]).stdout
