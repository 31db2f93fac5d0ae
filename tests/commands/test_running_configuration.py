"""Commands on a node work with the configuration of the nfproxy that runs there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes.commands import (
    ORDINARY_USER,
    Commands,
    Daemon,
    endpoint_slice,
    node_object,
    service,
    wait_until,
    write,
)

PODS = "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"
NODE_PORTS = "--nodeport-addresses=192.168.77.0/24,fd77::/64"


@pytest.fixture
def objects(manifests: Path) -> Path:
    """One Service with an endpoint."""
    write(manifests / "all.json", node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    return manifests


@pytest.fixture(autouse=True)
def _addresses(commands: Commands) -> None:
    commands.namespace.run(["ip", "link", "set", "lo", "up"])
    commands.namespace.run(["ip", "address", "add", "192.168.77.11/24", "dev", "lo"])


def source(daemon: Daemon) -> str:
    """What a command says on standard error."""
    what = "nfproxy: with the configuration of the nfproxy that runs here"
    return f"{what} (pid {daemon.process.pid}, node node-1)\n"


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--metrics-bind-address=192.168.77.11:10249",),
        ("--metrics-bind-address=0.0.0.0",),
        ("--metrics-bind-address=[::1]:10249",),
        ("--metrics-bind-address=127.0.0.1:11249",),
        ("--metrics-bind-address=192.168.77.11:11249",),
    ],
    ids=" ".join,
)
def test_without_flags_diff_does_not_cry_wolf(
    commands: Commands, objects: Path, flags: tuple[str, ...]
) -> None:
    """Configuration, node name and files are those of the daemon, wherever metrics are served."""
    with commands.daemon(objects, PODS, NODE_PORTS, *flags) as daemon:
        daemon.wait_for("serving")
        wait_until(lambda: commands.run("diff", node="").code == 0)
        found = commands.run("diff", node="")

    assert (found.out[:7], found.err, found.code) == ("equal: ", source(daemon), 0)


def test_a_configuration_file_counts_as_the_daemon_read_it(
    commands: Commands, objects: Path, tmp_path: Path
) -> None:
    """A change of the file that the daemon has not taken over makes no difference."""
    path = tmp_path / "config.yaml"
    text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    path.write_text(
        f"{text}clusterCIDR: 10.244.0.0/16,fd00:10:244::/48\nmetricsBindAddress: 127.0.0.1:11249\n"
    )
    with commands.daemon(objects, f"--config={path}") as daemon:
        daemon.wait_for("serving metrics")
        found = commands.run("diff", node="")

    assert (found.out[:7], found.err, found.code) == ("equal: ", source(daemon), 0)


def test_flags_win_and_contradictions_are_named_with_both_values(
    commands: Commands, objects: Path
) -> None:
    """Each setting by itself: what no flag names stays as in the daemon."""
    with commands.daemon(objects, PODS, NODE_PORTS) as daemon:
        daemon.wait_for("serving metrics")
        found = commands.run("diff", "--cluster-cidr=10.99.0.0/16,fd00:10:244::/48", node="")
        same = commands.run("diff", PODS, "--hostname-override=node-1", node="")

    assert found.code == 1
    assert found.err.splitlines()[1:2] == [
        "nfproxy: warning: --cluster-cidr: '10.99.0.0/16,fd00:10:244::/48' here, and "
        "'10.244.0.0/16,fd00:10:244::/48' in the nfproxy that runs here",
    ]
    assert "chain" in found.out
    assert (same.out[:7], same.err, same.code) == ("equal: ", source(daemon), 0)


def test_a_file_of_the_command_counts_as_a_whole(
    commands: Commands, objects: Path, tmp_path: Path
) -> None:
    """What it contradicts is named; nothing is taken from the daemon."""
    path = tmp_path / "config.yaml"
    text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    path.write_text(f"{text}hostnameOverride: node-1\n")
    with commands.daemon(objects, PODS) as daemon:
        daemon.wait_for("serving metrics")
        found = commands.run("diff", "-f", objects, f"--config={path}", node="")

    assert "with the configuration of" not in found.err
    assert (
        "nfproxy: warning: clusterCIDR: empty here, and '10.244.0.0/16,fd00:10:244::/48' in the "
        "nfproxy that runs here\n"
    ) in found.err


def test_the_command_line_counts_where_the_daemon_does_not_answer(
    commands: Commands, objects: Path
) -> None:
    """Another process has taken the port of its pages."""
    taken = commands.namespace.start(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "10249"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        commands.wait_for_listener(10249)
        with commands.daemon(objects, PODS) as daemon:
            daemon.wait_for("metrics: cannot listen")
            found = commands.run("diff", node="")
    finally:
        commands.namespace.stop(taken)

    assert (found.out[:7], found.err, found.code) == ("equal: ", source(daemon), 0)


#: Answers every request with a status that names a kubeconfig, whose plug-in would be started.
_IMPOSTOR = """
import http.server, json
class Page(http.server.BaseHTTPRequestHandler):
    server_version, sys_version = "nfproxy", ""
    def version_string(self):
        return "nfproxy"
    def do_GET(self):
        body = json.dumps({"version": "1", "pid": 1, "node": "evil", "started": "",
            "manifests": "/nowhere", "configuration": {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "clientConnection": {"kubeconfig": "/tmp/evil"}}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", 10249), Page).serve_forever()
"""


@pytest.mark.parametrize(
    ("prefix", "believed"), [((), True), (("setpriv", "--reuid=65534"), False)]
)
def test_another_users_process_is_not_believed(
    commands: Commands, objects: Path, prefix: tuple[str, ...], believed: bool
) -> None:
    """It could name a kubeconfig whose credential plug-in then runs as root."""
    impostor = commands.namespace.start(
        [*prefix, sys.executable, "-c", _IMPOSTOR],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        commands.wait_for_listener(10249)
        found = commands.run("render", "-f", objects, node="")
    finally:
        commands.namespace.stop(impostor)

    assert ("Node 'evil' is unknown" in found.err) == believed


def test_an_ordinary_user_renders_with_it_too(commands: Commands, objects: Path) -> None:
    """The daemon is root's: everyone believes that."""
    with commands.daemon(objects, PODS) as daemon:
        daemon.wait_for("serving metrics")
        found = commands.run("render", "-f", objects, "-o", "json", prefix=ORDINARY_USER, node="")

    assert found.err == source(daemon)
    assert json.loads(found.out)


def test_preflight_says_once_that_nfproxy_runs(commands: Commands, objects: Path) -> None:
    """Its tables are not taken over then, and where it reads files no API server is missed."""
    with commands.daemon(objects, PODS) as daemon:
        daemon.wait_for("serving metrics")
        rows = commands.run("preflight", "-o", "json", node="").data["checks"]
    runs = [row for row in rows if "nfproxy runs here already" in row["found"]]

    assert [row["check"] for row in runs] == ["own-tables"]
    assert f"(pid {daemon.process.pid}, node node-1)" in runs[0]["found"]
    about_files = [row for row in rows if row["check"] in ("api-server", "access", "node")]
    assert [(row["check"], row["level"]) for row in about_files] == [("api-server", "skip")]
    assert not any(row["check"] == "listen" for row in rows)


def test_other_clients_get_metrics_alone(commands: Commands, objects: Path) -> None:
    """Even where metrics are open: the peer's address decides, not the one that it asks."""
    url = "http://192.168.77.11:10249"
    with commands.daemon(objects, PODS, "--metrics-bind-address=0.0.0.0") as daemon:
        daemon.wait_for("serving metrics")

        def code(path: str, source: str) -> str:
            asked = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--interface", source]
            return commands.namespace.run([*asked, f"{url}{path}"]).stdout

        assert code("/metrics", "192.168.77.11") == "200"
        assert code("/status", "192.168.77.11") == "403"
        assert code("/status", "127.0.0.1") == "200"
