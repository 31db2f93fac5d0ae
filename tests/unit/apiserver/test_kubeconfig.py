"""Kubeconfigs: what the client gets, and errors with file and field."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path

import pytest
import yaml
from support.client.access import connect, kubeconfig, of

from nfproxy.errors import ConfigError


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"token": "abc"}, "Bearer abc"),
        ({"username": "a", "password": "b"}, f"Basic {base64.b64encode(b'a:b').decode()}"),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_official_client_reads_the_other_credentials(write, user, expected):
    """A user without credentials sends none."""
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
    """An API server may ask for no credentials."""
    access = of(write(change=change))

    assert access.authorization() == ""
    assert [server.host for server in access.servers] == ["192.0.2.1:6443"]


def test_the_cluster_s_fields_reach_the_client(write, authority):
    """These are server, CA as data, name to verify, and proxy."""
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
    """They become files in memory, which go once the TLS context has them."""
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
    assert not access.is_stale(datetime.datetime.now(datetime.UTC))


def test_verification_is_off_only_where_the_kubeconfig_says_so(write):
    """A false leaves it on."""
    off = of(write(cluster={"insecure-skip-tls-verify": True}))
    on = of(write(cluster={"insecure-skip-tls-verify": False}))

    assert (off.configuration.verify_ssl, on.configuration.verify_ssl) == (False, True)


@pytest.mark.parametrize("field", ["certificate-authority", "certificate-authority-data"])
def test_verification_is_not_off_where_there_is_a_ca(write, authority, field):
    """One of the two is a mistake, and only the author knows which."""
    data = base64.b64encode(authority.file.read_bytes()).decode()
    ca = data if field.endswith("data") else str(authority.file)

    with pytest.raises(ConfigError, match=f"insecure-skip-tls-verify: .* {field};"):
        of(write(cluster={"insecure-skip-tls-verify": True, field: ca}))
    checking = of(write(cluster={"insecure-skip-tls-verify": False, field: ca}))
    assert checking.configuration.verify_ssl


def test_base64_may_stand_in_lines(write, authority):
    """``base64`` without options prints lines."""
    data = base64.encodebytes(authority.file.read_bytes()).decode()
    access = of(write(cluster={"certificate-authority-data": data.replace("\n", "\r\n")}))

    assert access.configuration.ca_cert_data == authority.file.read_text()


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
    """The error is a ConfigError, in one line."""
    path = write(change=change)
    with pytest.raises(ConfigError, match=said) as caught:
        of(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "not valid YAML at '{', line 1"),
        (b"a: [\n", "not valid YAML: it ends too early, line 2"),
        (b"", "no mapping"),
        (b"[1, 2]", "no mapping"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"a: !!python/object:os.system {}", "is not supported, line 1"),
    ],
)
def test_a_file_that_is_no_kubeconfig(tmp_path, text, said):
    """The error names the line."""
    path = tmp_path / "kubeconfig"
    path.write_bytes(text)

    with pytest.raises(ConfigError, match=f"{path}: .*{said}"):
        of(path)


def test_a_kubeconfig_that_is_not_there(tmp_path):
    """The error names the flag."""
    with pytest.raises(ConfigError, match="No such file or directory; check --kubeconfig"):
        of(tmp_path / "nowhere")


def test_certificates_that_do_not_parse_name_their_field(write, tmp_path, authority):
    """The error says whether the CA or the client certificate is wrong."""
    (tmp_path / "empty").write_text("nothing")
    certificate, _ = authority.issue("client")
    bad_ca = of(write(cluster={"certificate-authority": "empty"}))
    bad_key = of(write(user={"client-certificate": str(certificate), "client-key": "empty"}))

    with pytest.raises(ConfigError, match="certificate-authority"):
        connect(bad_ca)
    with pytest.raises(ConfigError, match="client-certificate"):
        connect(bad_key)


def test_several_files_are_merged_as_kubectl_does(tmp_path):
    """
    The first that names something counts; each file's paths are relative to it; some are missing.
    """
    first, second = tmp_path / "a" / "config", tmp_path / "b" / "config"
    for path in (first, second):
        path.parent.mkdir()
        (path.parent / "token").write_text(path.parent.name)
    first.write_text(
        yaml.safe_dump(
            {
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {"tokenFile": "token"}}],
            }
        )
    )
    kubeconfig(second, {"server": "https://192.0.2.9:6443"}, {"tokenFile": "token"})
    many = f"{tmp_path}/missing:{first}::{second}"

    access = of(many)
    assert access.servers[0].url == "https://192.0.2.9:6443"
    assert access.authorization() == "Bearer a"
    assert of(f"{second}:{first}").authorization() == "Bearer b"

    now = datetime.datetime.now(datetime.UTC)
    assert not access.is_stale(now)
    (tmp_path / "missing").write_text("{}")
    assert access.is_stale(now)


def test_several_files_of_which_none_is_there(tmp_path):
    """An error, as for one file."""
    with pytest.raises(ConfigError, match="none of these files exists"):
        of(f"{tmp_path}/a:{tmp_path}/b")


@pytest.mark.parametrize("nothing", ["", "# nothing yet\n", "---\n", "{}\n", "null\n"])
def test_a_file_of_several_may_hold_nothing(tmp_path, nothing):
    """As kubectl permits: `touch` made it, or /dev/null stands for none. One alone may not."""
    path, empty = kubeconfig(tmp_path / "config", user={"token": "t"}), tmp_path / "empty"
    empty.write_text(nothing)
    assert of(f"{path}:{empty}").authorization() == "Bearer t"
    assert of(f"{empty}:{path}").authorization() == "Bearer t"
    with pytest.raises(ConfigError):
        of(str(empty))


def test_a_file_whose_name_has_a_colon_is_one_file(tmp_path):
    """If it exists."""
    path = kubeconfig(tmp_path / "a:b", user={"token": "t"})
    assert of(path).authorization() == "Bearer t"


def test_relative_paths_are_beside_the_kubeconfig(tmp_path, monkeypatch):
    """Wherever nfproxy runs, and also where the kubeconfig's own path is relative."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("t")
    kubeconfig(Path("kubeconfig"), user={"tokenFile": "token"})
    access = of("kubeconfig")
    monkeypatch.chdir("/")
    assert access.authorization() == "Bearer t"
