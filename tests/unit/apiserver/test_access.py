"""Addresses and credentials of API servers: --master, service accounts, token files."""

from __future__ import annotations

import datetime

import pytest
from support.client.access import of, read

from nfproxy.apiserver.access import ClientSettings
from nfproxy.errors import ConfigError


def test_a_token_file_is_read_each_time(write, tmp_path):
    """Its path is relative to the kubeconfig; white space around the token does not count."""
    (tmp_path / "token").write_text(" first\n")
    access = of(write(user={"tokenFile": "token", "token": "another"}))
    assert access.authorization() == "Bearer first"

    (tmp_path / "token").write_text("second\n")
    assert access.authorization() == "Bearer second"


def test_a_token_file_that_is_gone_says_so(write, tmp_path):
    """The error names the file."""
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


def test_master_replaces_the_server(write):
    """The kubeconfig's credentials stay; --master alone has none."""
    path = str(write(user={"token": "abc"}, change=lambda c: c["clusters"][0]["cluster"].clear()))
    access = read(ClientSettings(kubeconfig=path, master="https://192.0.2.9:443"))
    assert (access.servers[0].host, access.authorization()) == ("192.0.2.9:443", "Bearer abc")

    alone = read(ClientSettings(master="192.0.2.9:8080"))
    assert (alone.configuration.host, alone.authorization()) == ("http://192.0.2.9:8080", "")


def test_an_address_without_scheme_is_one_with_tls_where_there_is_a_ca(write, authority):
    """As in client-go."""
    cluster = {"server": "192.0.2.1:6443", "certificate-authority": str(authority.file)}
    access = of(write(cluster=cluster))

    assert access.configuration.host == "https://192.0.2.1:6443"
    assert access.configuration.ssl_ca_cert == str(authority.file)


@pytest.mark.parametrize("host", ["10.96.0.1", "fd00::1"])
def test_a_pod_s_service_account(tmp_path, authority, host):
    """The address comes from the environment, IPv6 in brackets; the token is read each time."""
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
    """The error says what to give."""
    with pytest.raises(ConfigError, match="give a kubeconfig"):
        read(ClientSettings())
    environ = {"KUBERNETES_SERVICE_HOST": "a", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ConfigError, match=str(tmp_path)):
        read(ClientSettings(service_account=str(tmp_path)), environ)


def test_a_proxy_of_the_environment_is_used_unless_excepted(write):
    """The kubeconfig's own proxy has priority."""
    settings = ClientSettings(kubeconfig=str(write()))
    environ = {"HTTPS_PROXY": "http://proxy.example:1"}
    assert read(settings, environ).servers[0].proxy == "http://proxy.example:1"
    excepted = environ | {"NO_PROXY": "192.0.2.0/24"}
    assert read(settings, excepted).servers[0].proxy is None
    write(cluster={"proxy-url": "http://own.example:2"})
    assert read(settings, excepted).servers[0].proxy == "http://own.example:2"


def test_a_file_that_changes_makes_what_was_read_stale(write, authority, tmp_path):
    """
    Kubeconfig, CA and client certificate rotate; a token file is read with each request anyway.
    """
    now = datetime.datetime.now(datetime.UTC)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.file.read_bytes())
    (tmp_path / "token").write_text("a")
    path = write(cluster={"certificate-authority": "ca.crt"}, user={"tokenFile": "token"})
    access = of(path)
    (tmp_path / "token").write_text("bb")
    assert not access.is_stale(now)

    ca.write_bytes(authority.file.read_bytes() + b"\n")
    assert access.is_stale(now)
    access = of(path)
    assert not access.is_stale(now)
    path.write_text(path.read_text() + "\n")
    assert access.is_stale(now)


def test_several_masters_share_credentials_and_scheme(write, authority):
    """Spaces and repetitions do not count; each server has its own proxy."""
    path = str(write(cluster={"certificate-authority": str(authority.file)}, user={"token": "abc"}))
    masters = "https://192.0.2.1:6443, 192.0.2.2:6443,https://192.0.2.1:6443/,[2001:db8::1]:6443"
    environ = {"HTTPS_PROXY": "http://proxy.example:1", "NO_PROXY": "192.0.2.2"}

    access = read(ClientSettings(kubeconfig=path, master=masters), environ)

    assert [(server.url, server.proxy) for server in access.servers] == [
        ("https://192.0.2.1:6443", "http://proxy.example:1"),
        ("https://192.0.2.2:6443", None),
        ("https://[2001:db8::1]:6443", "http://proxy.example:1"),
    ]
    assert access.authorization() == "Bearer abc"


def test_masters_without_a_scheme_have_tls_also_where_certificates_are_not_checked(write):
    """As in client-go: a token must not be sent in the clear because verification is off."""
    path = str(write(cluster={"insecure-skip-tls-verify": True}, user={"token": "abc"}))

    access = read(ClientSettings(kubeconfig=path, master="192.0.2.1:6443,192.0.2.2:6443"))

    assert [server.url for server in access.servers] == [
        "https://192.0.2.1:6443",
        "https://192.0.2.2:6443",
    ]


@pytest.mark.parametrize("masters", ["https://a,", "https://a,,https://b", "https://a,ftp://b"])
def test_each_master_has_to_be_an_address(masters):
    """The error quotes the one that is not."""
    with pytest.raises(ConfigError, match=r"--master: '(ftp://b|)' is not an address"):
        read(ClientSettings(master=masters))


@pytest.mark.parametrize(
    ("masters", "token"),
    [
        ("https://192.0.2.1:6443,https://192.0.2.2:6443", "Bearer abc"),
        ("192.0.2.1:6443", "Bearer abc"),
        ("http://192.0.2.1:8080", ""),
        ("HTTP://192.0.2.1:8080", ""),
        ("https://192.0.2.1:6443,http://192.0.2.2:8080", ""),
    ],
)
def test_in_a_pod_its_service_account_serves_for_masters_with_tls(
    tmp_path, authority, masters, token
):
    """Without TLS the token is not sent. The address in the environment is not used."""
    (tmp_path / "token").write_text("abc")
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    settings = ClientSettings(master=masters, service_account=str(tmp_path))

    for given in (environ, {}):
        access = read(settings, given)
        assert access.authorization() == token
        assert access.configuration.ssl_ca_cert == (str(tmp_path / "ca.crt") if token else None)
        assert {server.host.partition(":")[0] for server in access.servers} <= {
            "192.0.2.1",
            "192.0.2.2",
        }
        assert not access.in_cluster
