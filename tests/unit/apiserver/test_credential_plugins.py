"""Credential plugins: tokens, certificates, and plugins that fail."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from support.client.access import connect, of

from nfproxy.apiserver.credentials import PluginError


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
    """
    Shortly before the token expires, the plugin runs again.
    """
    output = credential(token="abc", expirationTimestamp="2030-01-01T00:00:00Z")  # noqa: S106
    access = of(write(user=plugin(tmp_path, output)))

    expires = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    assert access.authorization() == "Bearer abc"
    assert not access.is_stale(expires - datetime.timedelta(minutes=2))
    assert access.is_stale(expires - datetime.timedelta(seconds=30))


def test_a_credential_plugin_may_give_a_certificate(write, tmp_path, authority):
    """
    The connection uses it.
    """
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
        (credential(token="a"), True, "process returned 3.*no luck"),  # noqa: S106
        ("garbage", False, "decode"),
        (credential(token="a\nb"), False, "its token holds a line break"),  # noqa: S106
        (credential(), False, "neither a token nor a client certificate"),
        (credential(clientCertificateData="x"), False, "neither a token"),
        (credential() | {"apiVersion": "other"}, False, "version"),
        (credential() | {"status": 5}, False, "no(t|) an object|not an object"),
    ],
)
def test_a_credential_plugin_that_fails_may_work_later(write, tmp_path, output, fails, said):
    """
    So it is no error of the configuration; the message names the program.
    """
    with pytest.raises(PluginError, match=said) as caught:
        of(write(user=plugin(tmp_path, output, fails)))
    assert "credential plugin" in str(caught.value)


def test_a_credential_plugin_that_is_not_there(write):
    """
    A program may be installed later.
    """
    missing = {"exec": {"apiVersion": "v1", "command": "/nowhere/plugin"}}

    with pytest.raises(PluginError, match="/nowhere/plugin"):
        of(write(user=missing))
