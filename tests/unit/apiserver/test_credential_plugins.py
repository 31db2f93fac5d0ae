"""Credential plugins: tokens, certificates, and plugins that fail."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.client.access import connect, of

from nfproxy.apiserver import plugins
from nfproxy.apiserver.access import ClientSettings, read_access
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.plugins import PluginError
from nfproxy.apiserver.source import ApiServerSource
from nfproxy.errors import ConfigError
from nfproxy.model.changes import Problem

ROOT = Path(__file__).parents[3]


def plugin(tmp_path: Path, output: Any, fails: bool = False) -> dict[str, Any]:
    """Return a user with a credential plugin that prints something, and counts its runs."""
    script = tmp_path / "plugin"
    text = output if isinstance(output, str) else json.dumps(output)
    script.write_text(
        f"#!/bin/sh\necho run >> {tmp_path}/runs\necho \"$WORD\" >&2\ncat <<'END'\n{text}\nEND\n"
        + ("exit 3\n" if fails else "")
    )
    script.chmod(0o755)
    exec_ = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(script),
        "args": ["a"],
        "env": [{"name": "WORD", "value": "no luck"}],
    }
    return {"exec": exec_}


def credential(**status: str) -> dict[str, Any]:
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": status,
    }


def test_a_credential_plugin_gives_a_token_for_a_time(write, tmp_path):
    """Shortly before the token expires, the plugin runs again."""
    output = credential(token="abc", expirationTimestamp="2030-01-01T00:00:00Z")  # noqa: S106
    access = of(write(user=plugin(tmp_path, output)))

    expires = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    assert access.authorization() == "Bearer abc"
    assert not access.is_stale(expires - datetime.timedelta(minutes=2))
    assert access.is_stale(expires - datetime.timedelta(seconds=30))


def test_a_credential_plugin_may_give_a_certificate(write, tmp_path, authority):
    """The connection uses it."""
    certificate, key = authority.issue("client")
    output = credential(
        clientCertificateData=certificate.read_text(), clientKeyData=key.read_text()
    )
    access = of(write(user=plugin(tmp_path, output)))

    assert Path(access.configuration.cert_file).read_text() == certificate.read_text()
    connect(access)


@pytest.mark.parametrize(
    ("output", "fails", "said"),
    [
        (credential(token="a"), True, "failed with status 3: no luck;"),  # noqa: S106
        ("garbage", False, "printed no ExecCredential"),
        (credential(token="a\nb"), False, "its token holds a line break"),  # noqa: S106
        (credential(), False, "neither a token nor a client certificate"),
        (credential(clientCertificateData="x"), False, "neither a token"),
        (credential() | {"apiVersion": "other"}, False, "printed apiVersion 'other'"),
        (credential() | {"status": 5}, False, "status: is a whole number"),
    ],
)
def test_a_credential_plugin_that_fails_may_work_later(write, tmp_path, output, fails, said):
    """So it is no error of the configuration; the message names the program."""
    with pytest.raises(PluginError, match=said) as caught:
        of(write(user=plugin(tmp_path, output, fails)))
    assert "credential plugin" in str(caught.value)


def test_a_credential_plugin_that_is_not_there(write):
    """A program may be installed later."""
    missing = {"exec": {"apiVersion": "v1", "command": "/nowhere/plugin"}}

    with pytest.raises(PluginError, match="/nowhere/plugin"):
        of(write(user=missing))


def script(tmp_path: Path, text: str, name: str = "plugin", **fields: Any) -> dict[str, Any]:
    """Return a user whose plugin is a shell script; it finds the answer in ``$TMP/answer``."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nTMP={tmp_path}\n{text}\n")
    path.chmod(0o755)
    (tmp_path / "answer").write_text(json.dumps(credential(token="abc")))  # noqa: S106
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}
    return {"exec": exec_ | fields}


def gone(pid_file: Path) -> bool:
    """Return whether the process whose number is in a file ends, within a moment."""
    pid = int(pid_file.read_text())
    for _ in range(200):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(") ")[2].startswith("Z"):
            return True
        time.sleep(0.02)
    return False


#: A child in the plugin's group, and one in a session of its own.
LEFT_BEHIND = "sleep 1000 & echo $! > $TMP/child; setsid sh -c 'echo $$ > '$TMP'/far; sleep 1000' &"


def test_a_plugin_that_hangs_is_ended_with_its_children_and_run_again(write, tmp_path, monkeypatch):
    """The next request runs it again, and gets the credentials."""
    monkeypatch.setattr(plugins, "PLUGIN_S", 1.0)
    user = script(
        tmp_path,
        f"{LEFT_BEHIND}\n[ -e $TMP/again ] || {{ touch $TMP/again; sleep 1000; }}\ncat $TMP/answer",
    )
    path = write(user=user)

    async def case() -> None:
        runner = plugins.PluginRunner()
        settings = ClientSettings(kubeconfig=str(path))
        with pytest.raises(PluginError, match="did not end within 1 s, and was killed"):
            await read_access(settings, {}, runner)
        assert gone(tmp_path / "child")
        assert gone(tmp_path / "far")
        access = await read_access(settings, {}, runner)
        assert access.authorization() == "Bearer abc"
        assert gone(tmp_path / "child")
        assert gone(tmp_path / "far")

    asyncio.run(case())


DAEMON = """
import asyncio, sys
from nfproxy.apiserver.plugins import Plugin, PluginRunner
asyncio.run(PluginRunner().run(Plugin(sys.argv[1], "v1")))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_of_a_plugin_outlives_the_daemon(tmp_path, number):
    """Neither the plugin nor what it started, even after SIGKILL."""
    user = script(tmp_path, f"{LEFT_BEHIND}\necho $$ > $TMP/plugin.pid\nsleep 1000")
    command = [sys.executable, "-c", DAEMON, user["exec"]["command"]]
    daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT)
    names = ("plugin.pid", "child", "far")
    for _ in range(500):
        if all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in names):
            break
        time.sleep(0.02)
    daemon.send_signal(number)
    daemon.wait(10)
    for name in names:
        assert gone(tmp_path / name), name


def test_no_process_of_a_plugin_outlives_the_one_that_watches_it(write, tmp_path, monkeypatch):
    """The kernel may kill that one where memory runs out."""
    monkeypatch.setattr(plugins, "PLUGIN_S", 1.0)
    path = write(user=script(tmp_path, f"{LEFT_BEHIND}\nsleep 0.5; kill -9 $PPID; sleep 1000"))

    async def case() -> None:
        with pytest.raises(PluginError):
            await read_access(ClientSettings(kubeconfig=str(path)), {}, plugins.PluginRunner())

    asyncio.run(case())
    assert gone(tmp_path / "child")
    assert gone(tmp_path / "far")


def test_standard_error_of_any_size_does_not_block(write, tmp_path):
    """Its end is what an error shows, as text."""
    noise = "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'no lück' >&2"
    access = of(write(user=script(tmp_path, f"{noise}\ncat $TMP/answer")))
    assert access.authorization() == "Bearer abc"

    with pytest.raises(PluginError, match="failed with status 4: ") as caught:
        of(write(user=script(tmp_path, f"{noise}\nexit 4")))
    assert "no lück" in str(caught.value)
    assert "b'" not in str(caught.value)


def test_output_has_a_bound(write, tmp_path):
    """A plugin that prints without end is ended."""
    with pytest.raises(PluginError, match="printed more than 1 MB"):
        of(write(user=script(tmp_path, "yes")))


def test_a_secret_is_not_in_an_error(write, tmp_path):
    """What a plugin printed may be a token, whatever is wrong with it."""
    for output in ('{"token": "s3cret"', "s3cret", '{"kind": "s3cret'):
        with pytest.raises(PluginError) as caught:
            of(write(user=script(tmp_path, f"echo '{output}'")))
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("command", ["./bin/plugin", "bin/plugin", "bin/../bin/plugin"])
def test_a_relative_command_is_beside_the_kubeconfig(write, tmp_path, monkeypatch, command):
    """Wherever nfproxy runs, as kubectl does; without a slash it is in PATH."""
    user = script(tmp_path, "cat $TMP/answer", "bin/plugin")
    user["exec"]["command"] = command
    assert of(write(user=user)).authorization() == "Bearer abc"

    user["exec"]["command"] = "plugin"
    with pytest.raises(PluginError, match="plugin: is not in PATH; get it here"):
        of(write(user={"exec": user["exec"] | {"installHint": "get it here"}}))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    assert of(write(user=user)).authorization() == "Bearer abc"


def test_cluster_info_is_given_where_it_is_asked_for(write, tmp_path, authority):
    """Also the CA of a file, and the cluster's configuration for plugins."""
    text = 'printf %s "$KUBERNETES_EXEC_INFO" > $TMP/info\ncat $TMP/answer'
    cluster = {
        "certificate-authority": str(authority.file),
        "tls-server-name": "api.example.org",
        "proxy-url": "http://192.0.2.7:3128",
        "extensions": [
            {"name": "other", "extension": 1},
            {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}},
        ],
    }
    of(write(cluster, script(tmp_path, text, provideClusterInfo=True)))
    info = json.loads((tmp_path / "info").read_text())
    assert info["apiVersion"] == "client.authentication.k8s.io/v1"
    assert info["spec"] == {
        "interactive": False,
        "cluster": {
            "server": "https://192.0.2.1:6443",
            "tls-server-name": "api.example.org",
            "certificate-authority-data": base64.b64encode(authority.file.read_bytes()).decode(),
            "proxy-url": "http://192.0.2.7:3128",
            "config": {"audience": "x"},
        },
    }

    of(write(cluster, script(tmp_path, text)))
    assert json.loads((tmp_path / "info").read_text())["spec"] == {"interactive": False}


def test_a_plugin_that_needs_a_terminal_is_an_error_of_the_configuration(write, tmp_path):
    """A daemon has none."""
    user = script(tmp_path, "cat $TMP/answer", interactiveMode="Always")
    with pytest.raises(ConfigError, match=r"exec\.interactiveMode: is Always"):
        of(write(user=user))


def test_opening_a_connection_runs_no_plugin(write, tmp_path):
    """The addresses are known at once; the first request waits for the plugin."""
    path = write(user=script(tmp_path, "touch $TMP/ran; sleep 1000"))

    async def case() -> None:
        async with Connection(ClientSettings(kubeconfig=str(path)), print) as connection:
            assert connection.host == "192.0.2.1:6443"
            assert not (tmp_path / "ran").exists()

    asyncio.run(case())


def test_while_a_plugin_fails_the_log_and_the_health_pages_say_so(write, tmp_path):
    """At the first failure, without what the plugin printed on the pages. Over when it works."""
    user = script(tmp_path, "[ -e $TMP/works ] || { echo s3cret >&2; exit 1; }; cat $TMP/answer")
    path = write(user=user, cluster={"server": "http://127.0.0.1:1"})

    async def case() -> None:
        problems: asyncio.Queue[Problem] = asyncio.Queue()
        settings = ClientSettings(kubeconfig=str(path), qps=-1)
        async with (
            Connection(settings, problems.put_nowait) as connection,
            ApiServerSource(connection, "n", problems.put_nowait) as source,
        ):
            assert source.trouble == ""
            loading = asyncio.create_task(source.load())
            problem = await asyncio.wait_for(problems.get(), 20)
            assert "failed with status 1: s3cret" in str(problem)
            assert source.trouble.startswith("credentials for the API server cannot be read")
            (tmp_path / "works").touch()
            problem = await asyncio.wait_for(problems.get(), 20)
            assert "refuses connections" in str(problem)
            assert source.trouble.startswith("the API server cannot be followed")
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    asyncio.run(asyncio.wait_for(case(), 30))
