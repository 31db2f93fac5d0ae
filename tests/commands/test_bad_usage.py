"""
Whatever is on a command line: one plain line says what is wrong, with the right exit status.

No traceback, no control character, no hanging; 2 where a command could not find out.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.insight import SHOP
from support.processes.commands import ORDINARY_USER, ROOT, Commands

from nfproxy.tools.lab import Lab

HOSTILE = "\x1b[31mred\x07"
LONG = "x" * 5000

#: A kubeconfig of a server that does not listen.
KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
users: [{name: u, user: {}}]
"""

#: Words that name no Service, address or port; each is refused before anything is read.
_NO_QUESTION = (
    *("10.96.0.10:0", "10.96.0.10:65536", "10.96.0.10:http", "10.96.0.10:80/icmp", "10.96.0.999"),
    *("fe80::1%eth0", "[fe80::1%eth0]:80", "[fd00::1", "10.96.0.0/16", ":", ":0", ":65536", ":-1"),
    *("/", "a/b/c", "shop/", "<b>x</b>/y", HOSTILE, LONG, "*"),
)
_FILES = ("nowhere.yaml", "binary.yaml", "empty.yaml", "no-files", "nothing.yaml", "name.yaml")
_SERVERS = (
    "--kubeconfig nowhere",
    "--kubeconfig binary.yaml",
    "--kubeconfig nothing.yaml",
    "--master nonsense:::",
)
_FLAGS = (
    "--nonsense",
    f"--{HOSTILE}",
    "-o nonsense",
    f"-o {HOSTILE}",
    "--config nowhere",
    f"--config {HOSTILE}",
    "--config binary.yaml",
    f"--hostname-override {HOSTILE}",
    "--cluster-cidr 10.0.0.0/99",
    "--bind-address fe80::1%eth0",
    "--v=-1",
)
_GOOD = "-f shop.yaml"

#: For commands that take options alone.
_WITHOUT_WORDS = (
    *("extra", "shop/web", "-- extra", "--nope", f"--{HOSTILE}", HOSTILE, LONG, "--help=1"),
    *("-o nonsense", "-o", "-o json -o nonsense", "--output=", "-ojsn", "--config nowhere", "-s"),
)


def _on_objects(start: str, files: int, flags: int) -> list[str]:
    """Return bad command lines of a command that reads objects, with the first few of each kind."""
    return [
        *(f"{start} -f {file}" for file in _FILES[:files]),
        *(f"{start} {server}" for server in _SERVERS[:files]),
        *(f"{start} {_GOOD} {flag}" for flag in _FLAGS[:flags]),
    ]


#: By command: what is refused with 2, and with 1 where 2 would be an answer's.
REFUSED: dict[str, list[str]] = {
    "explain": [
        *_on_objects("explain", 6, 11),
        *(f"explain {_GOOD} -- {word}" for word in _NO_QUESTION),
        "explain shop/web",
        f"explain {_GOOD}",
        f"explain {_GOOD} shop/web shop/api",
        f"explain {_GOOD} shop/web --node nope",
        f"explain {_GOOD} shop/web --node node-1 --all-nodes",
        f"explain {_GOOD} shop/web --probe --all-nodes",
        f"explain {_GOOD} shop/web --from=",
        f"explain {_GOOD} shop/web --from 10.0.0.999",
        f"explain {_GOOD} shop/web --from 10.244.0.0/16",
        f"explain {_GOOD} shop/web --from shop/nope",
        f"explain {_GOOD} shop/web --from <b>",
        f"explain {_GOOD} shop/web --from {HOSTILE}",
    ],
    "services": [
        *_on_objects("services", 6, 3),
        "services",
        f"services {_GOOD} -n nope",
        f"services {_GOOD} -n {HOSTILE}",
        f"services {_GOOD} --node nope",
        f"services {_GOOD} --sort nope",
        f"services {_GOOD} extra",
        *(f"services {_GOOD} --watch={word}" for word in ("-1", "0", "x", "nan", "inf", "")),
        f"services {_GOOD} --watch 1 -o json",
        f"services {_GOOD} --watch 1 --node node-2",
    ],
    "trace": [
        *_on_objects("trace shop/web", 2, 3),
        "trace shop/web",
        *(f"trace {_GOOD} -- {word}" for word in ("nope/web", "shop/web:nope", ":0")),
        *(f"trace {_GOOD} shop/web --seconds={word}" for word in ("0", "nan", "1e9")),
        *(f"trace {_GOOD} shop/web --count={word}" for word in ("-5", "1.5")),
        *(f"trace {_GOOD} shop/web --from={word}" for word in ("", "::1", "shop/nope", "<b>")),
    ],
    "render": [
        *_on_objects("render", 4, 3),
        "render",
        f"render {_GOOD} -f nowhere.yaml",
        *(f"render {_GOOD} -- {word}" for word in ("shop/nope", "shop/web:nope", "10.96.9.9")),
    ],
    "diff": [
        *_on_objects("diff", 2, 3),
        "diff",
        *(f"diff {_GOOD} -- {word}" for word in ("shop/nope", "shop/web:nope", "10.96.9.9")),
    ],
    "changes": [
        "changes",
        "changes extra words",
        "changes -o nonsense",
        "changes -o json --follow",
        *(f"changes --since={word}" for word in ("-1h", "x", "1", "99999999999h", "nan")),
        f"changes -n {HOSTILE} web",
        *(f"changes -- {word}" for word in _NO_QUESTION[:6]),
    ],
    "status": [f"status {words}" for words in (*_WITHOUT_WORDS, "--strict=yes", "-f shop.yaml")],
    "report": ["report --nope", f"report --{HOSTILE}", "report" + " shop/web" * 21],
    "preflight": [
        "preflight extra",
        "preflight -o nonsense",
        *(f"preflight --node-port-range={word}" for word in ("x", "5-1", "0-70000", "", HOSTILE)),
        f"preflight --{HOSTILE}",
    ],
    "cleanup": [
        "cleanup extra",
        "cleanup -o nonsense",
        "cleanup -o json",
        "cleanup --drain 1s",
        *(f"cleanup --kube-proxy --drain={word}" for word in ("x", "-1s", "1", "", HOSTILE)),
    ],
    "demo": [f"demo {words}" for words in (*_WITHOUT_WORDS, "-o yaml", "--keep=yes", "-k")],
    "run": ["run extra", "run --nope", f"run --{HOSTILE}", "run --sync-period 1s"],
    "": [
        *("nope", "-x", "--nope", HOSTILE, "explian x", "Explain x", "status-page"),
        *("--version=1", "-V", "--helpp", "RUN", "", "-", "--", "-- --", "-o json", "-f shop.yaml"),
        *("--config nowhere status", "stat us", LONG, "\u202eabc", "status;", "../status", "x=1"),
    ],
}

#: What fails with 1: commands that do something, and answer nothing.
FAILED: dict[str, list[str]] = {
    "run": [
        "run",
        "run --manifests nowhere",
        f"run --manifests {HOSTILE}",
        "run --kubeconfig nowhere",
        "run --kubeconfig nothing.yaml",
        "run --config nowhere",
        "run --config empty.yaml",
        f"run --config {HOSTILE}",
        f"run --manifests no-files --hostname-override {HOSTILE}",
        "run --manifests no-files --metrics-bind-address 127.0.0.1:99999",
        "run --manifests no-files --detect-local-mode nope",
        "run --manifests no-files --iptables-masquerade-bit 99",
    ],
    "report": [
        *(f"report -- {word}" for word in _NO_QUESTION[:6]),
        "report -o nowhere/report.tar.gz",
        "report -o no-files",
        "report -o binary.yaml/report.tar.gz",
        f"report -o {HOSTILE}/report.tar.gz",
    ],
}


@pytest.fixture(scope="module")
def commands(
    namespaces_allowed: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Commands]:
    """Commands in a namespace without nfproxy, in a directory of bad files."""
    directory = tmp_path_factory.mktemp("files")
    (directory / "shop.yaml").write_bytes(SHOP.read_bytes())
    (directory / "binary.yaml").write_bytes(bytes(range(256)) * 50)
    (directory / "empty.yaml").touch()
    (directory / "nothing.yaml").write_text("a: b\n")
    (directory / "name.yaml").write_text(
        'apiVersion: v1\nkind: Service\nmetadata: {name: "x\\u001b[31m", namespace: d}\n'
        "spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n"
    )
    (directory / "kubeconfig").write_text(KUBECONFIG)
    (directory / "no-files").mkdir()
    (directory / "no-files/readme.txt").write_text("nothing for nfproxy\n")
    with Lab() as lab, pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setenv("HOME", str(directory))
        patch.delenv("KUBECONFIG", raising=False)
        yield Commands(lab.namespace("anywhere"), directory)


def complaints(commands: Commands, line: str, status: int) -> Iterator[str]:
    """Yield what is wrong with the end of a command."""
    done = commands.run(*line.split(" "), node="")
    lines = done.err.splitlines()
    if done.code != status:
        yield f"status {done.code}"
    if not lines or not lines[-1].startswith("nfproxy: error: "):
        yield "no error line"
    if sum("nfproxy: error: " in one for one in lines) > 1 or "Traceback" in done.err:
        yield "more than one error"
    if any(not c.isprintable() for c in (done.err + done.out).replace("\n", "").replace("\t", "")):
        yield "control characters"
    if any(len(one) > 400 for one in lines):
        yield "a long line"


@pytest.mark.parametrize(
    ("lines", "status"),
    [pytest.param(lines, 2, id=name or "none") for name, lines in REFUSED.items()]
    + [pytest.param(lines, 1, id=f"{name}-fails") for name, lines in FAILED.items()],
)
def test_one_line_says_what_is_wrong(commands: Commands, lines: list[str], status: int) -> None:
    """On standard error, last, whatever came before."""
    bad = {line[:80]: found for line in lines if (found := [*complaints(commands, line, status)])}
    assert bad == {}


def test_a_server_that_does_not_answer(commands: Commands) -> None:
    """No command says that all is well."""
    for line in ("explain shop/web", "services", "trace shop/web"):
        assert [*complaints(commands, f"{line} --kubeconfig kubeconfig", 2)] == []


def test_an_unknown_service_is_an_answer(commands: Commands) -> None:
    """With near names, and a status that is no success."""
    done = commands.run("explain", "-f", "shop.yaml", "nope/web")
    assert done.code == 2
    assert "there is no Service nope/web; is it shop/web?" in done.out


def test_what_cannot_be_probed_is_said(commands: Commands) -> None:
    """The endpoints of another node are not asked from here."""
    words = ("explain", "-f", "shop.yaml", "shop/web", "--probe", "--node=node-2")
    done = commands.run(*words)
    assert done.code == 0
    assert "not seen\twhat --probe asks: this machine is not the node" in done.out


def test_an_ordinary_user(commands: Commands) -> None:
    """Says what is missing."""
    for words in (("trace", "-f", "shop.yaml", "shop/web"), ("status",)):
        done = commands.run(*words, prefix=ORDINARY_USER, node="")
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
        assert done.err.startswith("nfproxy: error: ")


def test_an_interrupt(commands: Commands) -> None:
    """Ends a command that waits, without a word."""
    process = commands.namespace.start(
        _real("services", "--watch", "1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.stderr is not None
    assert process.stderr.read() == ""


def _real(*words: str) -> list[str]:
    """Return the command line of a process of its own, on good manifests."""
    start = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-m", "nfproxy"]
    return [*start, *words, "-f", "shop.yaml", "--hostname-override", "node-1"]
