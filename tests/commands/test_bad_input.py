"""Whatever is in the manifests: a clear message, everything else in force, nothing lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.processes.commands import (
    ORDINARY_USER,
    Commands,
    Result,
    endpoint_slice,
    errors_in,
    eventually,
    node_object,
    service,
    wait_until,
    write,
)

from nfproxy.tools.lab import Lab

GOOD = "10.96.0.100:80/tcp"
NODE_PORT = {"type": "NodePort"}
YOUNG = "2026-02-01T00:00:00Z"
LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def objects(*items: object) -> Callable[[Path], object]:
    """Return a function that writes objects to a file."""
    return lambda path: write(path, *items)


def data(content: bytes) -> Callable[[Path], object]:
    """Return a function that writes bytes to a file."""
    return lambda path: path.write_bytes(content)


def without(item: dict[str, object], *keys: str) -> dict[str, object]:
    """Return an object without some of its fields."""
    return {key: value for key, value in item.items() if key not in keys}


#: File name, what is in it, and what the message about it must hold besides the file's name.
BAD: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "address.yaml": (
        objects(service("address", "10.96.0.999")),
        ("Service default/address: spec.clusterIPs[0]: '10.96.0.999' is not an IP address",),
    ),
    "endpoint.yaml": (
        objects(endpoint_slice("good", "10.244.1.500", "10.244.1.6", name="endpoint")),
        ("EndpointSlice default/endpoint: endpoints[0].addresses[0]: '10.244.1.500'",),
    ),
    "external.yaml": (
        objects(service("external", "10.96.0.24", externalIPs=["nonsense"])),
        ("Service default/external: spec.externalIPs[0]: 'nonsense' is not an IP address",),
    ),
    "port.yaml": (
        objects(service("port", "10.96.0.11", port=70000)),
        ("Service default/port: spec.ports[0].port: 70000 is not a port (1 to 65535)",),
    ),
    "slice-port.yaml": (
        objects(endpoint_slice("good", "10.244.1.9", name="slice-port", port=-1)),
        ("EndpointSlice default/slice-port: ports[0].port: -1 is not a port",),
    ),
    "missing.yaml": (
        objects(without(endpoint_slice("good", "10.244.1.9", name="missing"), "addressType")),
        ("EndpointSlice default/missing: addressType: is missing",),
    ),
    "no-spec.yaml": (
        objects(without(service("no-spec"), "spec")),
        ("Service default/no-spec: spec: is missing",),
    ),
    "no-name.yaml": (
        objects({**service("x", "10.96.0.66"), "metadata": {}}),
        ("metadata.name: is missing",),
    ),
    "type.yaml": (
        objects(service("type", "10.96.0.12", ports="80")),
        ("Service default/type: spec.ports: is a string, not a list",),
    ),
    "text-port.yaml": (
        objects(service("text-port", "10.96.0.13", port="http")),
        ("Service default/text-port: spec.ports[0].port: is a string, not a whole number",),
    ),
    "kind.yaml": (
        objects({**service("kind"), "kind": "Servise"}),
        ("Servise default/kind: kind Servise of apiVersion v1 is not known",),
    ),
    "names.yaml": (
        objects(*(service(name, "10.96.1.1") for name in ('a"b', "c\nd", "e;f", "../x"))),
        (
            "metadata.name: 'a\"b' is not a valid name",
            r"metadata.name: 'c\nd' is not a valid name",
            "metadata.name: 'e;f' is not a valid name",
            "metadata.name: '../x' is not a valid name",
        ),
    ),
    "port-name.yaml": (
        objects(
            service("inject", "10.96.0.14", ports=[{"name": 'a";\nflush ruleset', "port": 80}])
        ),
        ("Service default/inject: spec.ports[0].name: ",),
    ),
    "younger.yaml": (
        objects(
            service("younger", "10.96.0.20", created=YOUNG), endpoint_slice("younger", "10.244.1.7")
        ),
        (
            "Service default/younger: spec.clusterIPs: 10.96.0.20:80/tcp belongs to the older "
            "Service default/older in ",
        ),
    ),
    "younger-port.yaml": (
        objects(
            service(
                "younger-port",
                "10.96.0.22",
                created=YOUNG,
                ports=[{"port": 80, "nodePort": 30001}],
                **NODE_PORT,
            )
        ),
        (
            "Service default/younger-port: spec.ports[].nodePort: node port 30001/tcp (IPv4) "
            "belongs to the older Service default/older-port in ",
        ),
    ),
    "same-port.yaml": (
        objects(
            service(
                "same-port",
                "10.96.0.23",
                ports=[
                    {"name": "a", "port": 80, "nodePort": 30002},
                    {"name": "b", "port": 81, "nodePort": 30002},
                ],
                **NODE_PORT,
            )
        ),
        ("Service default/same-port: spec.ports[1].nodePort: 30002 is that of an earlier port",),
    ),
    "binary.yaml": (data(bytes(range(256)) * 50), ("is not UTF-8 text",)),
    "binary.json": (data(bytes(range(256)) * 50), ("holds text that is not UTF-8",)),
    "truncated.json": (data(b'{"kind": "Service"'), ("is not valid JSON: ends too early, line 1",)),
    "tab.yaml": (data(b"a:\n\t- b\n"), ("not valid YAML", "line 2")),
    "deep.yaml": (data(b"a: " + b"[" * 100_000), ("nested more than",)),
    "laughs.yaml": (data(LAUGHS.encode()), ("aliases stand for more than",)),
    "huge.yaml": (data(b"a: b\n" * (20 << 20)), ("is larger than 32 MiB",)),
    "empty.yaml": (data(b""), ("holds no object of a kind that nfproxy reads",)),
    "list.yaml": (data(b"- a\n- b\n"), ("document 1: is not an object",)),
    "a\nb.yaml": (data(b"hello\n"), ("document 1: is not an object",)),
}


def write_all(directory: Path) -> None:
    """Write what is good, and beside it everything that is bad."""
    write(directory / "node.json", node_object())
    write(directory / "good.yaml", service("good", "10.96.0.100"))
    write(directory / "good-slice.yaml", endpoint_slice("good", "10.244.1.5"))
    write(directory / "older.yaml", service("older", "10.96.0.20"))
    write(directory / "older-slice.yaml", endpoint_slice("older", "10.244.1.8"))
    ports = [{"port": 80, "nodePort": 30001}]
    write(directory / "older-port.yaml", service("older-port", "10.96.0.21", ports=ports))
    for name, (make, _) in BAD.items():
        make(directory / name)


#: What is in force for all that; every other frontend has lost only what was wrong in it.
FRONTENDS = {
    GOOD: ("10.244.1.5:8080", "10.244.1.6:8080"),
    "10.96.0.20:80/tcp": ("10.244.1.8:8080",),
    "10.96.0.21:80/tcp": (),
    "10.96.0.22:80/tcp": (),
    "10.96.0.23:80/tcp": (),
    "10.96.0.23:81/tcp": (),
    "10.96.0.24:80/tcp": (),
    "node port 30001/tcp (IPv4)": (),
    "node port 30002/tcp (IPv4)": (),
}


def shown(path: Path) -> str:
    """Return a path as messages have it."""
    return str(path) if str(path).isprintable() else repr(str(path))


def lines_about(text: str, path: Path) -> list[str]:
    """Return the lines that begin with a file's name, behind what a log puts in front."""
    return [line for line in text.splitlines() if f" {shown(path)}: " in line]


@pytest.fixture(scope="module")
def rendered(
    namespaces_allowed: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """A directory with everything bad in it, and what render said of it."""
    scratch = tmp_path_factory.mktemp("bad")
    directory = scratch / "manifests"
    directory.mkdir()
    write_all(directory)
    with Lab() as lab:
        commands = Commands(lab.namespace("anywhere"), scratch)
        return directory, commands.run("render", "-f", directory, "-o", "json", "--allow-empty")


@pytest.mark.parametrize("name", BAD)
def test_the_message_names_file_object_and_field(rendered: tuple[Path, Result], name: str) -> None:
    """On one line of standard error each."""
    directory, result = rendered
    lines = lines_about(result.err, directory / name)
    for expected in BAD[name][1]:
        assert [line for line in lines if expected in line], result.err


def test_only_bad_files_are_spoken_of(rendered: tuple[Path, Result]) -> None:
    """No complaint about what is good; every line is a warning."""
    directory, result = rendered
    lines = [line for line in result.err.splitlines() if str(directory) in line]
    about_bad = [line for name in BAD for line in lines_about(result.err, directory / name)]

    assert result.code == 0
    assert sorted(set(lines)) == sorted(set(about_bad))
    assert all(line.startswith("nfproxy: warning: ") for line in result.err.splitlines())


def test_what_is_good_is_rendered(rendered: tuple[Path, Result]) -> None:
    """Every Service has lost only what was wrong in it."""
    found = {
        frontend["frontend"]: tuple(slot["endpoint"] for slot in frontend["slots"])
        for each in rendered[1].data["services"]
        for frontend in each["frontends"]
    }
    assert found == FRONTENDS


def test_the_daemon_says_the_same_and_goes_on(commands: Commands, manifests: Path) -> None:
    """Everything good is programmed, each message logged once, and changes are followed."""
    write_all(manifests)
    with commands.daemon(manifests) as daemon:
        assert commands.frontends() == FRONTENDS
        log = daemon.log
        for name, (_, messages) in BAD.items():
            for message in messages:
                assert len([x for x in lines_about(log, manifests / name) if message in x]) == 1
        assert not errors_in(log)

        write(manifests / "good-slice.yaml", endpoint_slice("good", "10.244.1.15"))
        eventually(("10.244.1.15:8080", "10.244.1.6:8080"), lambda: commands.frontends().get(GOOD))
        assert daemon.alive


def test_a_conflict_is_logged_when_it_arises_and_ends_with_its_cause(
    commands: Commands, manifests: Path
) -> None:
    """The older Service keeps the frontend; when it goes, the younger one gets it."""
    write(manifests / "node.json", node_object())
    write(manifests / "older.yaml", service("older", "10.96.0.20"))
    with commands.daemon(manifests) as daemon:
        younger = service("younger", "10.96.0.20", created=YOUNG)
        write(manifests / "younger.yaml", younger, endpoint_slice("younger", "10.244.1.7"))
        daemon.wait_for("belongs to the older Service default/older")
        assert commands.frontends() == {"10.96.0.20:80/tcp": ()}

        (manifests / "older.yaml").unlink()
        eventually({"10.96.0.20:80/tcp": ("10.244.1.7:8080",)}, commands.frontends)
        write(manifests / "older.yaml", service("older", "10.96.0.20"))
        daemon.wait_for("belongs to the older Service default/older", times=2)
        eventually({"10.96.0.20:80/tcp": ()}, commands.frontends)


@pytest.mark.parametrize("name", ["port.yaml", "type.yaml", "binary.yaml", "laughs.yaml"])
def test_a_good_object_that_turns_bad_stays_in_force(
    commands: Commands, manifests: Path, name: str
) -> None:
    """Its last good version does; an item that is wrong costs only itself."""
    write(manifests / "node.json", node_object())
    path = write(manifests / "web.yaml", service("web"), endpoint_slice("web", "10.244.1.5"))
    item = {
        "port.yaml": service("web", ports=[{"port": 80}, {"name": "b", "port": 70000}]),
        "type.yaml": service("web", ports="80"),
    }.get(name)
    with commands.daemon(manifests) as daemon:
        good = commands.frontends()
        if item:
            write(path, item, endpoint_slice("web", "10.244.1.5"))
        else:
            BAD[name][0](path)
        wait_until(lambda: lines_about(daemon.log, path))
        assert lines_about(daemon.log, path)
        write(manifests / "after.yaml", service("after", "10.96.0.2"))
        eventually({**good, "10.96.0.2:80/tcp": ()}, commands.frontends)
        assert daemon.alive


def test_a_file_that_may_not_be_read_is_named(commands: Commands, manifests: Path) -> None:
    """The others count all the same."""
    write(manifests / "node.json", node_object())
    write(manifests / "good.yaml", service("good", "10.96.0.100"))
    secret = write(manifests / "secret.yaml", service("secret"))
    secret.chmod(0)
    words = ("render", "-f", manifests, "-o", "json")
    refused = commands.run(*words, prefix=ORDINARY_USER)
    result = commands.run(*words, "--allow-empty", prefix=ORDINARY_USER)

    assert (refused.code, refused.out) == (2, "")

    assert f"{secret}: cannot be read: Permission denied" in result.err
    assert [each["name"] for each in result.data["services"]] == ["good"]


def test_an_empty_directory_is_an_empty_cluster(commands: Commands, manifests: Path) -> None:
    """Tables without frontends, for render and for run, which goes on to follow it."""
    assert commands.run("render", "-f", manifests, "--allow-empty").code == 0
    with commands.daemon(manifests) as daemon:
        assert "0 Services" in daemon.log
        assert commands.frontends() == {}
        assert commands.run("diff", "-f", manifests).code == 0
        write(manifests / "good.yaml", service("good", "10.96.0.100"))
        eventually({GOOD: ()}, commands.frontends)


def test_too_much_on_standard_input_is_refused(commands: Commands) -> None:
    """It is not read to its end."""
    words = " ".join(commands.argv("render", "-f", "-", "-o", "json"))
    done = commands.namespace.run(["bash", "-c", f"yes 'a: b' | {words}"], check=False)

    assert "standard input: is larger than 32 MiB" in done.stderr
