"""
The container image at work: run by crun as the DaemonSet's pod is, on objects from files.

How it runs in a cluster is the integration suite's to say (tests/kind).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.containers.image import BuiltImage, image_directory
from support.containers.pods import Kubelet, KubeletPod
from support.containers.spec import Image, Node
from support.objects.everything import everything
from support.processes.commands import NODE, Commands
from tools.nft_versions import Nft, versions

import nfproxy
from nfproxy.tools.lab import Lab

DAEMONSET = Path(__file__).parents[2] / "deploy/kustomize/base/daemonset.yaml"
POD = yaml.safe_load(DAEMONSET.read_text())["spec"]["template"]["spec"]
OBJECTS = {"objects.json": json.dumps({"apiVersion": "v1", "kind": "List", "items": everything()})}
FROM_FILES = ("--manifests=/etc/nfproxy", f"--hostname-override={NODE}")


def pod(*command: str, **security: Any) -> dict[str, Any]:
    """Return the DaemonSet's pod with other arguments, and with nothing but the objects' files."""
    made: dict[str, Any] = copy.deepcopy(POD)
    (main,) = made["containers"]
    made["initContainers"] = []
    made["volumes"] = [one for one in made["volumes"] if "configMap" in one]
    main["args"] = list(command)
    main["securityContext"].update(security)
    return made


class Runner:
    """Runs pods of the image in an empty network namespace."""

    def __init__(self, lab: Lab, scratch: Path, name: str = "node") -> None:
        image = BuiltImage(image_directory())
        self.namespace = lab.namespace(name)
        self.namespace.run(
            ["ip", "link", "set", "lo", "up"]
        )  # where it is asked whether it is ready
        self._kubelet = Kubelet(
            self.namespace,
            Node(NODE, ["127.0.0.1"]),
            scratch,
            image.root,
            Image(image.config["Entrypoint"], image.config["Env"]),
        )

    def start(self, made: dict[str, Any]) -> KubeletPod:
        """Start a pod."""
        return self._kubelet.start(made, {"nfproxy": OBJECTS}, None)

    def output(self, made: dict[str, Any]) -> str:
        """Run a pod's container to its end, and return what it printed."""
        started = self.start(made)
        try:
            started.wait_until(lambda: started.restarts > 0, "at its end")
            assert started.exit_codes()[0] == 0, started.output
            return started.output
        finally:
            started.delete()


@pytest.fixture(scope="module")
def runner(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """What runs the image."""
    return Runner(lab, tmp_path_factory.mktemp("pods"))


@pytest.fixture(scope="module")
def programmed(runner: Runner) -> Iterator[KubeletPod]:
    """A pod that has programmed all objects into the runner's namespace."""
    started = runner.start(pod("run", *FROM_FILES))
    try:
        started.wait_ready()
        yield started
    finally:
        started.delete()


def test_any_user_may_run_it(runner: Runner):
    """A user without any right reads all that --version and render need."""
    unprivileged = {"runAsUser": 65534, "runAsGroup": 65534, "capabilities": {"drop": ["ALL"]}}
    version = runner.output(pod("--version", **unprivileged))
    script = runner.output(pod("render", "-f", "/etc/nfproxy", *FROM_FILES[1:], **unprivileged))

    assert f"nfproxy, version {nfproxy.__version__}" in version
    assert "map frontends" in script


def _contents(commands: Commands) -> tuple[object, str]:
    """Return a namespace's elements, and the text of everything else in its tables."""
    terse = ["nft", "--terse", "--stateless", "list", "ruleset"]
    return commands.state(), commands.namespace.run(terse).stdout


def test_it_programs_what_this_working_tree_does(
    lab: Lab, runner: Runner, programmed: KubeletPod, tmp_path: Path
):
    """
    With CAP_NET_ADMIN alone, on a read-only root, by the image's own libnftables: the tables are
    the same as those of the repository's code with this machine's.
    """
    (tmp_path / "manifests").mkdir()
    for name, text in OBJECTS.items():
        (tmp_path / "manifests" / name).write_text(text)
    here = Commands(lab.namespace("here"), tmp_path)
    with here.daemon(tmp_path / "manifests"):
        expected = _contents(here)
    assert programmed.container is not None
    status = programmed.container.status()

    assert _contents(Commands(runner.namespace, tmp_path)) == expected
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (1 << 12, 1 << 12)
    assert " ERROR " not in programmed.output


@pytest.mark.parametrize("nft", versions(), ids=str)
def test_nft_of_the_host_reads_what_it_programmed(runner: Runner, programmed: KubeletPod, nft: Nft):
    """Whatever version it is: it lists both tables, and accepts its own listing."""
    listing = runner.namespace.run([nft.command, "list", "ruleset"]).stdout
    runner.namespace.run([nft.command, "--check", "-f", "-"], input=listing)

    assert programmed.ready()
    assert listing.count("map frontends {") == 2


def test_its_own_nft_is_trixie_s(runner: Runner):
    """For those who look at the ruleset from inside."""
    made = pod("-V")
    made["containers"][0]["command"] = ["nft"]

    assert "nftables v1.1.3" in runner.output(made)


def test_it_removes_what_it_programmed(lab: Lab, tmp_path: Path):
    """Ended, it leaves the tables; the clean-up is asked for, with the same rights."""
    runner = Runner(lab, tmp_path, "cleaned")
    commands = Commands(runner.namespace, tmp_path)
    started = runner.start(pod("run", *FROM_FILES))
    started.wait_ready()

    assert started.delete() == 0
    assert commands.tables() == ["ip nfproxy", "ip6 nfproxy"]

    runner.output(pod("cleanup"))
    assert commands.tables() == []
