"""Kubeconfigs, service accounts and --master: what is read, and what is wrong with it."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.certificates import Authority

from nfproxy.errors import ConfigError
from nfproxy.sources.apiserver.access import Access, ClientSettings, check_tls, read_access
from nfproxy.sources.apiserver.plugins import PluginError, PluginRunner
from nfproxy.sources.apiserver.transport import Transport

SERVER = "https://192.0.2.1:6443"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write a kubeconfig with what is given of cluster and user."""

    def writer(cluster: Any = None, user: Any = None, change: Change = lambda config: None) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": SERVER} | (cluster or {})}],
            "users": [{"name": "u", "user": user or {}}],
        }
        change(config)
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    return writer


def read(settings: ClientSettings, environ: dict[str, str] | None = None) -> Access:
    async def reading() -> Access:
        return await read_access(settings, environ or {}, PluginRunner())

    return asyncio.run(reading())


def connect(access: Access) -> None:
    """Make the transport, which is to be done where it is used."""

    async def making() -> None:
        check_tls(access, Transport)

    asyncio.run(making())


def of(path: Path) -> Access:
    return read(ClientSettings(kubeconfig=str(path)))


def test_a_token_file_is_read_each_time(write, tmp_path):
    """
    Its path is relative to the kubeconfig, and what stands around the token is no part of it.
    """
    (tmp_path / "token").write_text(" first\n")
    access = of(write(user={"tokenFile": "token", "token": "another"}))
    assert access.authorization() == "Bearer first"

    (tmp_path / "token").write_text("second\n")
    assert access.authorization() == "Bearer second"


def test_a_token_file_that_is_gone_says_so(write, tmp_path):
    """
    The file is named.
    """
    token = tmp_path / "token"
    token.write_text("first")
    access = of(write(user={"tokenFile": "token"}))
    contents = {"": "is empty", "two\nlines": "line break", "\x00": "control character"}
    for content, said in contents.items():
        token.write_text(content)
        with pytest.raises(ConfigError, match=f"{token}: .*{said}"):
            access.authorization()
    token.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        access.authorization()


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"token": "abc"}, "Bearer abc"),
        ({"username": "a", "password": "b"}, f"Basic {base64.b64encode(b'a:b').decode()}"),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_other_credentials_are_the_client_s(write, user, expected):
    """
    A user without credentials sends none.
    """
    assert of(write(user=user)).authorization() == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["contexts"][0]["context"].pop("user"),
        lambda c: (c["contexts"][0]["context"].pop("user"), c.pop("users")),
        lambda c: c["users"][0].update(user=None),
    ],
)
def test_a_context_needs_no_user(write, change):
    """
    An API server may ask for no credentials.
    """
    access = of(write(change=change))

    assert access.authorization() == ""
    assert access.host == "192.0.2.1:6443"


def test_the_cluster_s_fields_reach_the_client(write, authority):
    """
    Server, CA as data, name to verify, proxy.
    """
    data = base64.b64encode(authority.file.read_bytes()).decode()
    access = of(
        write(
            cluster={
                "certificate-authority-data": data,
                "tls-server-name": "api.example.org",
                "proxy-url": "http://proxy.example:3128",
            }
        )
    )

    assert access.configuration.ca_cert_data == authority.file.read_text()
    assert access.configuration.tls_server_name == "api.example.org"
    assert access.configuration.proxy == "http://proxy.example:3128"
    assert access.configuration.verify_ssl


def test_keys_inside_the_kubeconfig_are_used_and_left_nowhere(write, authority):
    """
    They become files in memory, gone as soon as there is a connection to use them.
    """
    certificate, key = authority.issue("client")
    user = {
        f"client-{what}-data": base64.b64encode(path.read_bytes()).decode()
        for what, path in (("certificate", certificate), ("key", key))
    }
    access = of(write(user=user))
    paths = [Path(access.configuration.cert_file), Path(access.configuration.key_file)]
    assert [p.read_text() for p in paths] == [certificate.read_text(), key.read_text()]

    connect(access)
    assert not any(p.exists() and p.read_text() == key.read_text() for p in paths)
    assert not access.stale(datetime.datetime.now(datetime.UTC))


def test_verification_is_off_only_where_the_kubeconfig_says_so(write):
    """
    A false there leaves it on.
    """
    off = of(write(cluster={"insecure-skip-tls-verify": True}))
    on = of(write(cluster={"insecure-skip-tls-verify": False}))

    assert (off.configuration.verify_ssl, on.configuration.verify_ssl) == (False, True)


@pytest.mark.parametrize("field", ["certificate-authority", "certificate-authority-data"])
def test_verification_is_not_off_where_there_is_a_ca(write, authority, field):
    """
    One of the two is a mistake, and which one only its writer knows.
    """
    data = base64.b64encode(authority.file.read_bytes()).decode()
    ca = data if field.endswith("data") else str(authority.file)

    with pytest.raises(ConfigError, match=f"insecure-skip-tls-verify: .* {field};"):
        of(write(cluster={"insecure-skip-tls-verify": True, field: ca}))
    checking = of(write(cluster={"insecure-skip-tls-verify": False, field: ca}))
    assert checking.configuration.verify_ssl


def test_base64_may_stand_in_lines(write, authority):
    """
    As ``base64`` without options prints it.
    """
    data = base64.encodebytes(authority.file.read_bytes()).decode()
    access = of(write(cluster={"certificate-authority-data": data.replace("\n", "\r\n")}))

    assert access.configuration.ca_cert_data == authority.file.read_text()


def test_the_master_takes_the_place_of_the_server(write):
    """
    With the kubeconfig's credentials, or alone without any.
    """
    path = str(write(user={"token": "abc"}, change=lambda c: c["clusters"][0]["cluster"].clear()))
    access = read(ClientSettings(kubeconfig=path, master="https://192.0.2.9:443"))
    assert (access.host, access.authorization()) == ("192.0.2.9:443", "Bearer abc")

    alone = read(ClientSettings(master="192.0.2.9:8080"))
    assert (alone.configuration.host, alone.authorization()) == ("http://192.0.2.9:8080", "")


def test_an_address_without_scheme_is_one_with_tls_where_there_is_a_ca(write, authority):
    """
    As in Go's client.
    """
    cluster = {"server": "192.0.2.1:6443", "certificate-authority": str(authority.file)}
    access = of(write(cluster=cluster))

    assert access.configuration.host == "https://192.0.2.1:6443"
    assert access.configuration.ssl_ca_cert == str(authority.file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("current-context"), "current-context"),
        (lambda c: c.pop("contexts"), "contexts"),
        (lambda c: c.pop("clusters"), "clusters"),
        (lambda c: c.update(contexts=5), "contexts"),
        (
            lambda c: c["clusters"][0]["cluster"].pop("server"),
            r"clusters\[0\].cluster.server: is missing",
        ),
        (lambda c: c["clusters"][0]["cluster"].update(server=5), "cluster.server"),
        (lambda c: c["clusters"][0]["cluster"].update(server="ftp://x"), "server: 'ftp://x'"),
        (lambda c: c["clusters"][0]["cluster"].update(server="https://x:99999"), "server"),
        (lambda c: c.update({"current-context": "there"}), "current-context is 'there'"),
        (lambda c: c["contexts"][0]["context"].update(cluster="x"), "context.cluster is 'x'"),
        (lambda c: c["contexts"][0]["context"].update(user="x"), "context.user is 'x'"),
        (lambda c: c["users"][0].pop("name"), r"users\[0\].name: is missing"),
        (
            lambda c: c["clusters"][0]["cluster"].update({"certificate-authority": "nowhere"}),
            "certificate-authority: .*nowhere: No such file",
        ),
        (
            lambda c: c["clusters"][0]["cluster"].update({"certificate-authority-data": "a"}),
            "certificate-authority-data: is no base64",
        ),
        (
            lambda c: c["clusters"][0]["cluster"].update({"certificate-authority-data": "!!!"}),
            "certificate-authority-data: is no base64",
        ),
        (
            lambda c: c["clusters"][0]["cluster"].update({"certificate-authority-data": "bm8="}),
            "certificate-authority-data: holds no PEM certificate",
        ),
        (
            lambda c: c["users"][0]["user"].update({"client-certificate-data": "YQ==YQ=="}),
            "client-certificate-data: is no base64",
        ),
        (
            lambda c: c["users"][0]["user"].update({"client-certificate-data": "bm8="}),
            "client-certificate-data: holds no PEM certificate",
        ),
        (
            lambda c: c["users"][0]["user"].update({"client-key-data": "ü"}),
            "client-key-data: is no base64",
        ),
        (
            lambda c: c["users"][0]["user"].update({"client-key-data": "bm8="}),
            "client-key-data: holds no PEM private key",
        ),
        (
            lambda c: c["clusters"][0]["cluster"].update(server="not a url"),
            "server: 'not a url' is not an address",
        ),
        (lambda c: c["clusters"][0]["cluster"].update(server="https://a\nb"), "server: "),
        (lambda c: c["users"][0]["user"].update({"token": "a\nb"}), "token: holds a line break"),
        (
            lambda c: c["users"][0]["user"].update({"auth-provider": {"name": "gcp"}}),
            "auth-provider: 'gcp' is not supported.*exec",
        ),
        (lambda c: c["users"][0]["user"].update({"as-groups": ["a"]}), "as-groups: .*without `as`"),
        (lambda c: c["users"][0]["user"].update({"as-uid": "a"}), "as-uid: .*without `as`"),
        (
            lambda c: c["users"][0]["user"].update({"as": "", "as-user-extra": {"a": ["b"]}}),
            "as-user-extra: .*without `as`",
        ),
        (lambda c: c["users"][0]["user"].update({"as": "a\nb"}), "as: holds a line break"),
        (
            lambda c: c["users"][0]["user"].update({"as": "a", "as-groups": ["b", "c\r"]}),
            "as-groups: holds a line break",
        ),
        (
            lambda c: c["users"][0]["user"].update({"as": "a", "as-user-extra": {"b": ["\0"]}}),
            "as-user-extra: holds a line break",
        ),
        (
            lambda c: c["users"][0]["user"].update({"client-certificate": "gone"}),
            "client-certificate: .*gone: No such file",
        ),
        (
            lambda c: c["users"][0]["user"].update(tokenFile="gone"),
            "tokenFile: .*gone: No such file",
        ),
        (lambda c: c["users"][0]["user"].update(exec={"command": "x"}), "exec.*apiVersion"),
        (lambda c: c["users"][0]["user"].update(exec=5), "exec"),
        (
            lambda c: c["clusters"][0]["cluster"].update({"proxy-url": "socks5://x:1"}),
            "socks5://x:1: only http",
        ),
    ],
)
def test_a_bad_kubeconfig_names_file_and_field(write, change, said):
    """
    Nothing but ConfigError, in one line.
    """
    path = write(change=change)
    with pytest.raises(ConfigError, match=said) as caught:
        of(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "is no YAML at line 1"),
        (b"a: [\n", "is no YAML at line 2"),
        (b"", "no mapping"),
        (b"[1, 2]", "no mapping"),
        (b"\xff\xfe\x00", "is no YAML"),
        (b"a: !!python/object:os.system {}", "is no YAML"),
    ],
)
def test_a_file_that_is_no_kubeconfig(tmp_path, text, said):
    """
    It says where.
    """
    path = tmp_path / "kubeconfig"
    path.write_bytes(text)

    with pytest.raises(ConfigError, match=f"{path}: .*{said}"):
        of(path)


def test_a_kubeconfig_that_is_not_there(tmp_path):
    """
    The flag is named.
    """
    with pytest.raises(ConfigError, match="No such file or directory; check --kubeconfig"):
        of(tmp_path / "nowhere")


def test_certificates_that_do_not_parse_name_their_field(write, tmp_path, authority):
    """
    A CA that holds none is told from a client certificate that does not.
    """
    (tmp_path / "empty").write_text("nothing")
    certificate, _ = authority.issue("client")
    bad_ca = of(write(cluster={"certificate-authority": "empty"}))
    bad_key = of(write(user={"client-certificate": str(certificate), "client-key": "empty"}))

    with pytest.raises(ConfigError, match="certificate-authority"):
        connect(bad_ca)
    with pytest.raises(ConfigError, match="client-certificate"):
        connect(bad_key)


@pytest.mark.parametrize("host", ["10.96.0.1", "fd00::1"])
def test_a_pod_s_service_account(tmp_path, authority, host):
    """
    Address from the environment, in brackets for IPv6; token read each time.
    """
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}

    access = read(ClientSettings(service_account=str(tmp_path)), environ)
    (tmp_path / "token").write_text("second\n")

    shown = f"[{host}]" if ":" in host else host
    assert access.configuration.host == f"https://{shown}:443"
    assert access.configuration.ssl_ca_cert == str(tmp_path / "ca.crt")
    assert access.authorization() == "Bearer second"


def test_neither_flags_nor_pod(tmp_path):
    """
    It says what to give.
    """
    with pytest.raises(ConfigError, match="give a kubeconfig"):
        read(ClientSettings())
    environ = {"KUBERNETES_SERVICE_HOST": "a", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ConfigError, match=str(tmp_path)):
        read(ClientSettings(service_account=str(tmp_path)), environ)


def test_a_proxy_of_the_environment_is_used_unless_excepted(write):
    """
    The kubeconfig's own goes first.
    """
    settings = ClientSettings(kubeconfig=str(write()))
    environ = {"HTTPS_PROXY": "http://proxy.example:1"}
    assert read(settings, environ).configuration.proxy == "http://proxy.example:1"
    excepted = environ | {"NO_PROXY": "192.0.2.0/24"}
    assert read(settings, excepted).configuration.proxy is None
    write(cluster={"proxy-url": "http://own.example:2"})
    assert read(settings, excepted).configuration.proxy == "http://own.example:2"


def test_a_file_that_changes_makes_what_was_read_stale(write, authority, tmp_path):
    """
    Kubeconfig, CA and client certificate rotate; a token file does not need it.
    """
    now = datetime.datetime.now(datetime.UTC)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.file.read_bytes())
    (tmp_path / "token").write_text("a")
    path = write(cluster={"certificate-authority": "ca.crt"}, user={"tokenFile": "token"})
    access = of(path)
    (tmp_path / "token").write_text("bb")
    assert not access.stale(now)

    ca.write_bytes(authority.file.read_bytes() + b"\n")
    assert access.stale(now)
    access = of(path)
    assert not access.stale(now)
    path.write_text(path.read_text() + "\n")
    assert access.stale(now)


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
    Shortly before it expires the plugin is due again.
    """
    output = credential(token="abc", expirationTimestamp="2030-01-01T00:00:00Z")  # noqa: S106
    access = of(write(user=plugin(tmp_path, output)))

    expires = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    assert access.authorization() == "Bearer abc"
    assert not access.stale(expires - datetime.timedelta(minutes=2))
    assert access.stale(expires - datetime.timedelta(seconds=30))


def test_a_credential_plugin_may_give_a_certificate(write, tmp_path, authority):
    """
    It is used for the connection.
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
    So it is no fault of the configuration; the message names the program.
    """
    with pytest.raises(PluginError, match=said) as caught:
        of(write(user=plugin(tmp_path, output, fails)))
    assert "credential plugin" in str(caught.value)


def test_a_credential_plugin_that_is_not_there(write):
    """
    It may be installed later.
    """
    missing = {"exec": {"apiVersion": "v1", "command": "/nowhere/plugin"}}

    with pytest.raises(PluginError, match="/nowhere/plugin"):
        of(write(user=missing))
