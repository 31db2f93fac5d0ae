"""The plug-in ``kubectl nfproxy``, with a kubectl that records its calls."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "deploy/kubectl/kubectl-nfproxy"

#: Answers as kubectl does: the pods of three nodes, one of them being replaced.
KUBECTL = r"""#!/bin/sh
python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" >>"$CALLS"
for word; do case $word in --*) ;; *) break ;; esac; done
case $word in
get)
    case "$*" in
    *"get pods"*) printf '%s\n' "node-1 kube-system nfproxy-a " \
        "node-2 kube-system nfproxy-old 2026-11-30T00:00:00Z" "node-2 kube-system nfproxy-b " ;;
    *"get nodes"*) printf 'node-1\nnode-2\n%s' "$MORE_NODES" ;;
    *" -- p12") printf 'node-2 10.244.2.12' ;;
    *" -- new") printf ' ' ;;
    *) echo 'Error from server (NotFound): pods not found' >&2; exit 1 ;;
    esac ;;
exec)
    case "$*" in
    *nfproxy-b*) code=$CODE_B ;;
    *) code=$CODE_A ;;
    esac
    echo "answer of $(printf '%s' "$*" | grep -o 'nfproxy-[ab]')"
    echo "a warning" >&2
    if [ "$code" = lost ]; then echo 'error: unable to upgrade connection' >&2; exit 1; fi
    [ "$code" = 0 ] || echo "command terminated with exit code $code" >&2
    exit "$code" ;;
logs) echo "a log line" ;;
esac
"""


class Ended(NamedTuple):
    """How the plug-in ended, and what it called."""

    code: int
    out: str
    err: str
    calls: list[list[str]]


class Plugin:
    """Runs the plug-in in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            "PATH": f"{directory}/bin:/usr/bin:/bin",
            "CALLS": f"{directory}/calls",
            "CODE_A": "0",
            "CODE_B": "0",
            "MORE_NODES": "",
        }
        (directory / "bin").mkdir()
        self.program("kubectl", KUBECTL)

    def program(self, name: str, text: str) -> None:
        """Put a program into the PATH."""
        path = self.directory / "bin" / name
        path.write_text(text, "utf-8")
        path.chmod(0o755)

    def __call__(self, *arguments: str, **environment: str) -> Ended:
        calls = Path(self.environment["CALLS"])
        calls.write_text("")
        done = subprocess.run(
            ["sh", str(PLUGIN), *arguments],
            env=self.environment | environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = calls.read_text("utf-8").splitlines()
        return Ended(done.returncode, done.stdout, done.stderr, [json.loads(x) for x in lines])


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    """The plug-in, with a kubectl that knows two nodes."""
    return Plugin(tmp_path)


def command(call: list[str]) -> list[str]:
    """Return the pod of an exec, and what runs there."""
    at = call.index("--")
    return [call[at - 1], *call[at + 1 :]]


def executed(ended: Ended) -> list[list[str]]:
    """Return what ran in pods."""
    return [command(call) for call in ended.calls if "exec" in call]


@pytest.mark.parametrize("place", ["front", "middle", "end"])
def test_on_a_node(plugin: Plugin, place: str) -> None:
    """The option may be anywhere; a pod that is being deleted is not asked."""
    words = {
        "front": ["--on", "node-2", "explain", "shop/web", "--probe"],
        "middle": ["explain", "--on=node-2", "shop/web", "--probe"],
        "end": ["explain", "shop/web", "--probe", "--on", "node-2"],
    }[place]
    ended = plugin(*words)

    assert (ended.code, ended.out) == (0, "answer of nfproxy-b\n")
    assert ended.err == "a warning\n"
    assert executed(ended) == [["nfproxy-b", "nfproxy", "explain", "shop/web", "--probe"]]


@pytest.mark.parametrize("code", ["1", "2", "130"])
def test_the_exit_status_is_the_command_s(plugin: Plugin, code: str) -> None:
    """kubectl's own line about it is left out."""
    ended = plugin("diff", "--on", "node-1", CODE_A=code)
    assert (ended.code, ended.err) == (int(code), "a warning\n")


def test_what_kubectl_cannot_do_is_not_found_out(plugin: Plugin) -> None:
    """Status 1 is an answer of nfproxy's, and this is none."""
    ended = plugin("diff", "--on", "node-1", CODE_A="lost")
    assert ended.code == 2
    assert "unable to upgrade connection" in ended.err


def test_from_a_pod(plugin: Plugin) -> None:
    """Its node, and its address as the client."""
    for name in ("explain", "trace"):
        assert executed(plugin(name, "shop/web", "--from-pod", "shop/p12")) == [
            ["nfproxy-b", "nfproxy", name, "shop/web", "--from=10.244.2.12"]
        ]
        for words in (["--from", "shop/p12"], ["--from=shop/p12"], ["--from", "10.244.2.12"]):
            assert executed(plugin(name, "shop/web", "--on", "node-1", *words)) == [
                ["nfproxy-a", "nfproxy", name, "shop/web", "--from=10.244.2.12"]
            ]
    assert plugin("explain", "shop/web", "--on", "node-1", "--from", "shop/gone").code == 2
    assert executed(plugin("status", "--from-pod=shop/p12")) == [["nfproxy-b", "nfproxy", "status"]]
    assert plugin("explain", "shop/web", "--from-pod", "shop/new").code == 2
    assert plugin("explain", "shop/web", "--from-pod", "shop/gone").code == 2


def test_on_all_nodes(plugin: Plugin) -> None:
    """A heading for each node in order, progress, and the worst status."""
    ended = plugin("services", "--problems", "--all-nodes", CODE_A="1")

    assert ended.code == 1
    assert ended.out == "== node-1\nanswer of nfproxy-a\n== node-2\nanswer of nfproxy-b\n"
    assert "kubectl nfproxy: 2 of 2 nodes answered\n" in ended.err
    assert "node-1: a warning\n" in ended.err
    assert sorted(executed(ended)) == [
        [pod, "nfproxy", "services", "--problems"] for pod in ("nfproxy-a", "nfproxy-b")
    ]


def test_a_node_without_a_pod_is_named(plugin: Plugin) -> None:
    """It is not as if it were all right; headings stay out of data."""
    ended = plugin(
        "status", "-o", "json", "--all-nodes", MORE_NODES="node-3\n", NFPROXY_PARALLEL="1"
    )
    assert ended.code == 2
    assert ended.out == "answer of nfproxy-a\nanswer of nfproxy-b\n"
    assert "node-3: no nfproxy pod runs here\n" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--on", "-o"],
        ["status", "--on", "node-1;id"],
        ["status", "--on", "node-9"],
        ["status", "--on"],
        ["status"],
        ["run", "--on", "node-1"],
        ["--on", "node-1", "--version"],
        ["explain", "a/b", "--from-pod", "shop/-x"],
        ["explain", "a/b", "--from-pod", "shop/$(id)"],
        ["explain", "a/b", "--from-pod", "p12"],
        ["explain", "a/b", "--on", "node-1", "--all-nodes"],
        ["explain", "a/b", "--on", "node-1", "--from-pod", "shop/p12"],
        ["cleanup", "--all-nodes"],
        ["demo", "--on=node-1"],
        ["status", "--on="],
        ["status", "--on", "NODE-1"],
        ["status", "--on", "node-1\nnode-2"],
        ["status", "--on", "*"],
        ["status", "--from-pod", "shop/"],
        ["status", "--from-pod", "/p12"],
        ["status", "--from-pod", "shop/p12/x"],
        ["explain", "a/b", "--on", "node-1", "--from", "shop/new"],
        ["explain", "a/b", "--from-pod"],
        ["report", "-o", "a.tar.gz", "--all-nodes"],
        ["report", "--on", "node-1", "-o"],
        ["trace", "a/b"],
        ["status", "--context"],
        ["--on", "node-1", "--", "status"],
    ],
)
def test_what_cannot_be_meant_is_refused(plugin: Plugin, words: list[str]) -> None:
    """With a message, and without a command in any pod."""
    ended = plugin(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("kubectl nfproxy: ")
    assert executed(ended) == []


def test_hostile_arguments_stay_one_word(plugin: Plugin) -> None:
    """Nothing is expanded or split, in options of kubectl's neither."""
    words = ["a b", "$(touch made)", "`id`", "it's", "*", "", "; exit 3", "two\nlines", "\\"]
    context = "it's $(touch made) *"
    ended = plugin("explain", *words, "--context", context, "--on", "node-1", "--", "--on", "x")

    assert executed(ended) == [["nfproxy-a", "nfproxy", "explain", *words, "--", "--on", "x"]]
    assert {call[0] for call in ended.calls} == {f"--context={context}"}
    assert not (plugin.directory / "made").exists()


def test_without_a_node_a_nfproxy_of_this_machine_is_asked(plugin: Plugin) -> None:
    """Else the first pod; what it says of other nodes is no secret."""
    ended = plugin("explain", "shop/web")
    assert executed(ended) == [["nfproxy-a", "nfproxy", "explain", "shop/web"]]
    assert "as node node-1 sees it" in ended.err

    plugin.program("nfproxy", '#!/bin/sh\necho "here: $*"\nexit 1\n')
    ended = plugin("explain", "shop/web")
    assert (ended.code, ended.out, ended.calls) == (1, "here: explain shop/web\n", [])


def test_a_report_is_brought_here(plugin: Plugin) -> None:
    """With the pod's log beside it."""
    ended = plugin("report", "--on", "node-2")
    assert ended.code == 0
    assert executed(ended) == [["nfproxy-b", "nfproxy", "report", "--without-log", "--output=-"]]
    directory = plugin.directory
    assert (directory / "nfproxy-report-node-2.tar.gz").read_text() == "answer of nfproxy-b\n"
    assert (directory / "nfproxy-report-node-2.log").read_text() == "a log line\n"

    plugin("report", "-o", "mine.tar.gz", "--on", "node-1")
    assert (directory / "mine.tar.gz").exists()
    plugin("report", "--all-nodes")
    assert (directory / "nfproxy-report-node-1.tar.gz").exists()


def test_shellcheck_finds_nothing() -> None:
    """Where it is installed."""
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([checker, str(PLUGIN)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_no_temporary_file_stays(plugin: Plugin, tmp_path: Path) -> None:
    """However it ends."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for words in (["status", "--on", "node-1"], ["status", "--on", "x"], ["diff", "--all-nodes"]):
        plugin(*words, TMPDIR=str(scratch))
    assert list(scratch.iterdir()) == []


def test_the_manifest_is_what_krew_wants() -> None:
    """Its name is the file's, and the release's archive has all files."""
    path = ROOT / "deploy/kubectl/nfproxy.yaml"
    text = path.read_text("utf-8").replace("VERSION", "v0.1.0").replace("SHA256", "0" * 64)
    manifest = yaml.safe_load(text)

    assert manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2"
    assert manifest["kind"] == "Plugin"
    assert manifest["metadata"]["name"] == path.stem
    spec = manifest["spec"]
    assert re.fullmatch(r"v\d+\.\d+\.\d+", spec["version"])
    assert re.fullmatch(r"[\w-]+", path.stem)
    assert re.fullmatch(r"[^\r\n]{1,50}", spec["shortDescription"])
    assert not spec["shortDescription"].endswith(".")
    (platform,) = spec["platforms"]
    assert platform["bin"] == PLUGIN.name
    assert os.access(PLUGIN, os.X_OK)
    assert re.fullmatch(r"[a-f0-9]{64}", platform["sha256"])
    selected = platform["selector"]["matchExpressions"]
    assert {each["key"] for each in selected} <= {"os", "arch"}
    assert selected
    assert all(each["from"] and each["to"] for each in platform["files"])

    release = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
    assert platform["uri"].rpartition("/")[2] in release
    for file in platform["files"]:
        found = [ROOT / file["from"], PLUGIN.with_name(file["from"])]
        assert any(each.exists() for each in found)
        assert file["from"] in release


def test_the_release_s_archive_and_manifest_fit(tmp_path: Path) -> None:
    """The commands of the workflow, run on this tree."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text("utf-8"))
    script = next(step["run"] for step in workflow["jobs"]["plugin"]["steps"] if "run" in step)
    tree = tmp_path / "tree"
    shutil.copytree(PLUGIN.parent, tree / "deploy/kubectl")
    shutil.copy(ROOT / "LICENSE", tree)
    environment = {"PATH": os.environ["PATH"], "VERSION": "0.1.0"}
    subprocess.run(["bash", "-ec", script], cwd=tree, env=environment, check=True)

    archive = tree / "dist/kubectl-nfproxy.tar.gz"
    with tarfile.open(archive) as opened:
        assert sorted(opened.getnames()) == ["LICENSE", "kubectl-nfproxy"]
    platform = yaml.safe_load((tree / "dist/nfproxy.yaml").read_text("utf-8"))["spec"]["platforms"]
    assert platform[0]["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert platform[0]["uri"].endswith("/v0.1.0/kubectl-nfproxy.tar.gz")
