"""``nfproxy render``: the dry run."""

import json
import random
import re
import sys
from pathlib import Path

import pytest
import yaml
from support.kernel.othertables import FOREIGN, OLDER, OTHER_LAYOUT
from support.objects.everything import everything
from support.processes.commands import (
    ORDINARY_USER,
    ROOT,
    Commands,
    endpoint_slice,
    node_object,
    service,
    write,
)

NO_SOCKETS = (sys.executable, str(ROOT / "tests/support/processes/without_sockets.py"), "all")


@pytest.mark.parametrize(
    "before",
    ["", "our own", "add table ip nfproxy", OLDER, OTHER_LAYOUT, FOREIGN],
    ids=["nothing", "our own", "empty table", "older", "another layout", "foreign changes"],
)
def test_the_script_works_on_any_state(commands: Commands, manifests: Path, before: str) -> None:
    """`nft -f -` applies it whatever is there, and the result is what diff wants."""
    write(manifests / "all.json", *everything())
    script = commands.run("render", "-f", manifests)
    assert script.code == 0
    if before in ("our own", FOREIGN):
        commands.nft(script.out)
    if before != "our own":
        commands.nft(before)

    commands.nft(script.out)

    assert commands.run("diff", "-f", manifests).code == 0


def test_the_order_of_objects_and_files_makes_no_difference(
    commands: Commands, tmp_path: Path
) -> None:
    """The same objects give the same bytes, in every format."""
    objects = everything()
    outputs = set()
    for seed in range(3):
        random.Random(seed).shuffle(objects)
        directory = tmp_path / f"shuffled-{seed}"
        half = len(objects) // 2
        write(directory / "a.json", *objects[:half])
        write(directory / "b" / "c.yaml", *objects[half:])
        outputs.add(
            tuple(commands.run("render", "-f", directory, "-o", o).out for o in ("nft", "json"))
        )
    assert len(outputs) == 1
    assert "add element ip6 nfproxy endpoints-tcp" in next(iter(outputs))[0]


def test_files_directories_and_standard_input_add_up(commands: Commands, tmp_path: Path) -> None:
    """-f may be repeated; naming something twice changes nothing."""
    objects = everything()
    whole = write(tmp_path / "whole.json", *objects)
    part = write(tmp_path / "part" / "a.yml", *objects[:4])
    other = write(tmp_path / "other.json", *objects[4:8])
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects[8:]})

    expected = commands.run("render", "-f", whole)
    arguments = ["-f", part.parent, "-f", "-", "-f", other, "-f", other]
    pieces = commands.run("render", *arguments, input=listed)

    assert (expected.out, 0) == (pieces.out, pieces.code)


def test_neither_root_nor_kernel_is_needed(commands: Commands, manifests: Path) -> None:
    """A process without capabilities that may not open a single socket gets the same script."""
    write(manifests / "all.json", *everything())
    plain = commands.run("render", "-f", manifests)
    confined = commands.run("render", "-f", manifests, prefix=(*ORDINARY_USER, *NO_SOCKETS))

    assert confined == plain


@pytest.mark.parametrize("prefix", [(), ORDINARY_USER], ids=["root", "ordinary user"])
def test_check_asks_libnftables_and_changes_nothing(
    commands: Commands, manifests: Path, prefix: tuple[str, ...]
) -> None:
    """The script is printed as without it; an ordinary user gets a namespace for the check."""
    write(manifests / "all.json", *everything())
    plain = commands.run("render", "-f", manifests)
    checked = commands.run("render", "-f", manifests, "--check", prefix=prefix)

    assert (checked.code, checked.out) == (0, plain.out)
    assert "libnftables accepts the script" in checked.err
    assert ("private network namespace" in checked.err) == bool(prefix)
    assert commands.tables() == []


def test_the_data_says_who_serves_and_who_does_not(commands: Commands, manifests: Path) -> None:
    """Every frontend with its slots, and for each endpoint left out the reason."""
    unready = {"ready": False, "serving": False, "terminating": True}
    write(
        manifests / "all.json",
        node_object(),
        service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}]),
        endpoint_slice("web", "10.244.1.5", "10.244.1.6"),
        endpoint_slice("web", "10.244.2.7", name="gone", conditions=unready),
    )
    data = commands.run("render", "-f", manifests, "-o", "json").data
    (web,) = data["services"]
    frontends = {f["frontend"]: f for f in web["frontends"]}
    (port,) = web["ports"]

    assert {"10.96.0.1:80/tcp", "node port 30080/tcp (IPv4)"} == frontends.keys()
    assert frontends["10.96.0.1:80/tcp"]["slots"] == [
        {"slot": 0, "endpoint": "10.244.1.5:8080"},
        {"slot": 1, "endpoint": "10.244.1.6:8080"},
    ]
    assert port["endpoints"]["cluster"]["used"] == [
        {"endpoint": "10.244.1.5:8080", "state": "ready"},
        {"endpoint": "10.244.1.6:8080", "state": "ready"},
    ]
    assert port["endpoints"]["cluster"]["leftOut"] == [
        {
            "endpoint": "10.244.2.7:8080",
            "state": "terminating",
            "reason": "terminating and no longer serving",
        }
    ]
    assert list(frontends) == ["10.96.0.1:80/tcp", "node port 30080/tcp (IPv4)"]
    assert frontends["10.96.0.1:80/tcp"]["answer"] == {
        "pods": "2 endpoints",
        "outside": "2 endpoints",
    }
    assert data == yaml.safe_load(commands.run("render", "-f", manifests, "-o", "yaml").out)


def test_a_policy_shows_in_the_answer(commands: Commands, manifests: Path) -> None:
    """In words, so that no reader has to know the names of chains; IPv6 only where the node has."""
    node = node_object()
    del node["status"]["addresses"][1]
    write(
        manifests / "all.json",
        node,
        service(
            type="NodePort",
            externalTrafficPolicy="Local",
            ports=[{"port": 80, "nodePort": 30080}],
        ),
        endpoint_slice("web", "10.244.2.7", node="node-2"),
        service("orders", "10.96.0.20"),
    )
    data = commands.run("render", "-f", manifests, "-o", "json").data
    answers = {f["frontend"]: f["answer"] for s in data["services"] for f in s["frontends"]}
    assert answers == {
        "10.96.0.1:80/tcp": {"pods": "1 endpoint", "outside": "1 endpoint"},
        "node port 30080/tcp (IPv4)": {"pods": "1 endpoint", "outside": "dropped"},
        "10.96.0.20:80/tcp": {"pods": "refused", "outside": "refused"},
    }
    assert list(data["node"]["nodePortAddresses"]) == ["IPv4"]


def test_some_services_can_be_rendered(commands: Commands, manifests: Path) -> None:
    """The script of one has nothing of others, and says so; a wrong name is an error."""
    write(
        manifests / "all.json",
        node_object(),
        service(),
        endpoint_slice("web", "10.244.1.5"),
        service("orders", "10.96.0.20"),
    )
    one = commands.run("render", "-f", manifests, "default/web")
    assert "10.96.0.1" in one.out
    assert "10.96.0.20" not in one.out
    assert "without 1 Service of" in one.err
    data = commands.run("render", "-f", manifests, "10.96.0.20:80", "-o", "yaml")
    assert [row["name"] for row in yaml.safe_load(data.out)["services"]] == ["orders"]
    wrong = commands.run("render", "-f", manifests, "default/wbe")
    assert (wrong.code, wrong.out) == (2, "")
    assert "there is no Service default/wbe; there is default/web" in wrong.err


def test_a_summary_is_short(commands: Commands, manifests: Path) -> None:
    """It is what a terminal gets; a pipe gets the script."""
    write(manifests / "all.json", node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    out = commands.run("render", "-f", manifests, "-o", "summary").out
    assert f"1 Service, 1 frontend, of {manifests}" in out
    assert re.search(r"default/web +10\.96\.0\.1:80/tcp +clusterIP +1 endpoint", out)
    assert re.search(r"The script has [\d,]+ lines: -o nft prints it, or a pipe\.", out)


def test_a_pipe_that_closes_early_makes_no_noise(commands: Commands, manifests: Path) -> None:
    """`| head -1` gets its line, and nothing is said."""
    objects = [service(f"s{i}", f"10.96.{i // 250}.{i % 250 + 1}") for i in range(1000)]
    write(manifests / "all.json", node_object(), *objects)
    words = " ".join(commands.argv("render", "-f", manifests, "--cluster-cidr", "10.244.0.0/16"))
    done = commands.namespace.run(["bash", "-c", f"{words} | head -1"])

    assert done.stdout == "add table ip nfproxy\n"
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


@pytest.mark.parametrize("mode", ["BridgeInterface", "InterfaceNamePrefix"])
@pytest.mark.parametrize("name", ["abcdefghijklmno", "_.@+=,~#%!^-", "0"])
def test_nft_takes_every_interface_name_that_is_accepted(
    commands: Commands, manifests: Path, mode: str, name: str
) -> None:
    """As long as the kernel has them, and with all that may be in them."""
    write(manifests / "web.json", service())
    flag = "--pod-bridge-interface" if mode == "BridgeInterface" else "--pod-interface-name-prefix"
    given = (f"--detect-local-mode={mode}", f"{flag}={name}")
    result = commands.run("render", "-f", manifests, "--check", *given)

    assert result.code == 0, result.err
