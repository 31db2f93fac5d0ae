"""``nfproxy run --manifests``: follow files, end, come back."""

import signal
from pathlib import Path

import pytest
from support.kernel.othertables import FOREIGN, OLDER, OTHER_LAYOUT
from support.objects.everything import everything
from support.processes.commands import (
    Commands,
    endpoint_slice,
    errors_in,
    eventually,
    node_object,
    service,
    wait_until,
    write,
)

WEB = "10.96.0.1:80/tcp"


def start_files(manifests: Path) -> None:
    """Write a Node, a Service and its endpoints, each to a file."""
    write(manifests / "node.json", node_object())
    write(manifests / "web.yaml", service())
    write(manifests / "web-endpoints.yaml", endpoint_slice("web", "10.244.1.5", "10.244.1.6"))


def test_what_the_files_say_is_programmed(commands: Commands, manifests: Path) -> None:
    """Both families get a table, and the Service its endpoints."""
    start_files(manifests)
    with commands.daemon(manifests) as daemon:
        assert commands.tables() == ["ip nfproxy", "ip6 nfproxy"]
        assert commands.frontends() == {WEB: ("10.244.1.5:8080", "10.244.1.6:8080")}
        assert not errors_in(daemon.log)


def test_each_change_is_one_transaction(commands: Commands, manifests: Path) -> None:
    """An endpoint that replaces another costs two elements and one commit, whatever else exists."""
    start_files(manifests)
    path = manifests / "web-endpoints.yaml"
    with commands.daemon(manifests) as daemon:
        before = commands.generation()
        write(path, endpoint_slice("web", "10.244.1.5", "10.244.1.7"))
        eventually(
            {WEB: ("10.244.1.5:8080", "10.244.1.7:8080")},
            commands.frontends,
        )
        daemon.wait_for("synced default/web: 2 changes in")
        assert commands.generation() == before + 1


def test_files_are_followed_however_they_change(commands: Commands, manifests: Path) -> None:
    """Editing in place, renaming over, adding, a directory below, and deleting all count."""
    start_files(manifests)
    path = manifests / "web-endpoints.yaml"
    with commands.daemon(manifests) as daemon:
        path.write_text(path.read_text().replace("10.244.1.6", "10.244.1.7"))
        eventually({WEB: ("10.244.1.5:8080", "10.244.1.7:8080")}, commands.frontends)

        write(path, endpoint_slice("web", "10.244.1.8"))
        eventually({WEB: ("10.244.1.8:8080",)}, commands.frontends)

        write(manifests / "more" / "b.yml", service("b", "10.96.0.2"))
        eventually({WEB: ("10.244.1.8:8080",), "10.96.0.2:80/tcp": ()}, commands.frontends)
        write(manifests / "more" / "b-endpoints.json", endpoint_slice("b", "10.244.1.9"))
        eventually(
            {WEB: ("10.244.1.8:8080",), "10.96.0.2:80/tcp": ("10.244.1.9:8080",)},
            commands.frontends,
        )

        (manifests / "more" / "b.yml").unlink()
        eventually({WEB: ("10.244.1.8:8080",)}, commands.frontends)
        assert not errors_in(daemon.log)


def test_a_broken_file_keeps_what_was_good(commands: Commands, manifests: Path) -> None:
    """It is reported with its name; others go on being followed, and mending it is enough."""
    start_files(manifests)
    path = manifests / "web-endpoints.yaml"
    with commands.daemon(manifests) as daemon:
        good = commands.frontends()
        path.write_text("{broken: [")
        daemon.wait_for(str(path))
        write(manifests / "b.yaml", service("b", "10.96.0.2"))
        eventually({**good, "10.96.0.2:80/tcp": ()}, commands.frontends)

        write(path, endpoint_slice("web", "10.244.1.9"))
        eventually({WEB: ("10.244.1.9:8080",), "10.96.0.2:80/tcp": ()}, commands.frontends)


def test_a_directory_that_vanishes_changes_nothing(commands: Commands, manifests: Path) -> None:
    """Everything stays while it is gone; when it is back, it is followed again."""
    start_files(manifests)
    aside = manifests.with_name("aside")
    with commands.daemon(manifests) as daemon:
        good = commands.state()
        manifests.rename(aside)
        daemon.wait_for("in use as before")
        assert commands.state() == good

        write(aside / "web-endpoints.yaml", endpoint_slice("web", "10.244.1.9"))
        aside.rename(manifests)
        eventually({WEB: ("10.244.1.9:8080",)}, commands.frontends)
        assert daemon.alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(
    commands: Commands, manifests: Path, number: signal.Signals
) -> None:
    """It ends with status 0 and says so, and what is programmed stays."""
    start_files(manifests)
    with commands.daemon(manifests) as daemon:
        state = commands.state()
        assert daemon.end(number) == 0
        assert "stopping; installed rules stay" in daemon.log
        assert not errors_in(daemon.log)
    assert commands.state() == state


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_next_start_takes_over(
    commands: Commands, manifests: Path, number: signal.Signals
) -> None:
    """It finds everything in place: no element is written. What changed meanwhile is."""
    for number_of_file, item in enumerate(everything()):
        write(manifests / f"{number_of_file}.json", item)
    with commands.daemon(manifests) as daemon:
        state = commands.state()
        daemon.end(number)
    assert commands.state() == state

    with commands.daemon(manifests) as daemon:
        assert "kernel tables already match" in daemon.log
        assert "synced" not in daemon.log
        assert commands.state() == state
        daemon.end(number)

    write(manifests / "3.json", endpoint_slice("web", "10.244.1.5", "10.244.1.6", "10.244.1.9"))
    with commands.daemon(manifests) as daemon:
        # Two slots hold another endpoint now: each is deleted and added.
        assert ": 4 changes in" in daemon.log
        assert not errors_in(daemon.log)


@pytest.mark.parametrize(
    "before", [OLDER, OTHER_LAYOUT, FOREIGN], ids=["older", "another layout", "foreign changes"]
)
def test_it_starts_over_any_tables(commands: Commands, manifests: Path, before: str) -> None:
    """Whatever is there is made what it should be, elements and all."""
    write(manifests / "all.json", *everything())
    script = commands.run("render", "-f", manifests).out
    if before == FOREIGN:
        commands.nft(script)
    commands.nft(before)
    with commands.daemon(manifests) as daemon:
        assert not errors_in(daemon.log)
        started = commands.state()
    commands.nft(script)

    assert started == commands.state()


def test_a_second_one_says_that_there_is_a_first(commands: Commands, manifests: Path) -> None:
    """Two put back each other's rules for ever."""
    with commands.daemon(manifests) as first, commands.daemon(manifests) as second:
        log = second.wait_for(f"nfproxy runs here already (process {first.process.pid})")
    assert "end one of them" in log


def test_a_signal_during_the_first_reading_ends_it(commands: Commands, manifests: Path) -> None:
    """Nothing is programmed then."""
    write(manifests / "many.yaml", *(service(f"s{i}", f"10.96.1.{i}") for i in range(250)))
    text = (manifests / "many.yaml").read_text()
    (manifests / "slow.yaml").write_text("\n---\n".join([text] * 20))
    with commands.daemon(manifests, ready=False) as daemon:
        daemon.wait_for("objects from")
        assert daemon.end() == 0
        assert "stopping" in daemon.log
        assert not errors_in(daemon.log)
    assert commands.tables() == []


def test_ipv6_that_is_switched_off_has_its_table(commands: Commands, manifests: Path) -> None:
    """It may be switched on at any time. `diff` compares the same tables."""
    for number, item in enumerate(everything()):
        write(manifests / f"{number}.json", item)
    commands.namespace.set_sysctls({"ipv6/conf/all/disable_ipv6": "1"})
    with commands.daemon(manifests) as daemon:
        assert commands.tables() == ["ip nfproxy", "ip6 nfproxy"]
        write(manifests / "11.json", endpoint_slice("six", "fd00:10:244:1::9"))
        write(manifests / "3.json", endpoint_slice("web", "10.244.1.9"))
        eventually(("10.244.1.9:8080",), lambda: commands.frontends()[WEB])
        six = "[fd00:10:96::4]:80/tcp"
        eventually(("fd00:10:244:1::9:8080",), lambda: commands.frontends()[six])
        assert commands.run("diff", "-f", manifests).code == 0
        assert not errors_in(daemon.log)


def test_a_changed_node_is_taken_over(commands: Commands, manifests: Path) -> None:
    """Node ports move to the Node's new address, without a restart."""
    start_files(manifests)
    with commands.daemon(manifests):
        changed = node_object()
        changed["status"]["addresses"][0]["address"] = "192.168.77.99"
        write(manifests / "node.json", changed)
        shared = ("IPv4", "node-port-addresses", bytes([192, 168, 77, 99] * 2).hex())
        wait_until(lambda: shared in commands.state()["shared"])
        assert shared in commands.state()["shared"]
        assert commands.run("diff", "-f", manifests).code == 0
