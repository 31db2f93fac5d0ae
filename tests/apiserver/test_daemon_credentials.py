"""The credentials of ``nfproxy run``, and how it verifies the API server."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from support.apiserver.credentials import Kind
from support.client.connectproxy import ConnectProxy
from support.processes.apidaemon import HEALTH_PORT, Site
from support.processes.commands import endpoint_slice, errors_in, node_object, service, wait_until

WEB = "10.96.0.1:80/tcp"

#: Runs a program with a directory mounted as a pod's service account.
IN_POD = (
    "mount -t tmpfs none /var/run && mkdir -p /var/run/secrets/kubernetes.io && "
    'ln -s "$0" /var/run/secrets/kubernetes.io/serviceaccount && exec "$@"'
)


@pytest.fixture(autouse=True)
def objects(site: Site) -> None:
    """A Service with an endpoint."""
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))


def changes_arrive(site: Site) -> None:
    """Assert that a change reaches the kernel."""
    site.serves({WEB: ("10.244.1.5:8080",)})
    site.api.apply(endpoint_slice("web", "10.244.1.6"))
    site.serves({WEB: ("10.244.1.6:8080",)})


def replace(path: Path, text: str) -> None:
    """Replace a file atomically, as the kubelet does."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


@pytest.mark.parametrize("kind", ["token", "clientcert", "clientcert-data"])
def test_the_kubeconfig_names_the_user(site: Site, kind: Kind) -> None:
    """Every request comes from the user that kube-proxy's ClusterRole is bound to."""
    site.api.write_kubeconfig(site.kubeconfig, kind)
    with site.daemon():
        changes_arrive(site)
        site.wait_for_event("Starting")
    assert {request.user for request in site.api.requests()} == {"system:kube-proxy"}


@pytest.mark.parametrize("kind", ["tokenFile", "exec"])
def test_a_rotated_token_is_used_from_then_on(site: Site, kind: Kind) -> None:
    """The API server refuses the old token; nfproxy reads the new one, from a file or a plugin."""
    site.api.write_kubeconfig(site.kubeconfig, kind)
    with site.daemon() as daemon:
        site.api.wait_for_watches(count=4)
        site.api.add_token("second")
        site.api.revoke_token(site.api.token)
        replace(site.kubeconfig.with_name("kubeconfig.token"), "second")
        site.api.close_watches()
        changes_arrive(site)
        assert errors_in(daemon.log) == []
        assert "not accepted" not in daemon.log


def test_a_token_that_is_not_accepted_is_reported_until_a_valid_one_comes(site: Site) -> None:
    """Installed rules stay until the kubeconfig has a valid token."""
    with site.daemon() as daemon:
        site.api.wait_for_watches(count=4)
        site.api.revoke_token(site.api.token)
        site.api.close_watches()
        log = daemon.wait_for("401 Unauthorized")
        assert f"the credentials from {site.kubeconfig} are not accepted" in log
        assert site.commands.frontends() == {WEB: ("10.244.1.5:8080",)}

        site.api.add_token("second")
        site.api.write_kubeconfig(site.kubeconfig, token="second")  # noqa: S106

        changes_arrive(site)
        assert daemon.log.count("are not accepted") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_pod_has_a_service_account(site: Site, tmp_path: Path, host: str) -> None:
    """The environment has address and port, also for IPv6; the kubelet rotates the token."""
    account = tmp_path / "account"
    environment = site.api.write_service_account(account) | {"KUBERNETES_SERVICE_HOST": host}
    words = [f"{name}={value}" for name, value in environment.items()]
    prefix = ["unshare", "--mount", "sh", "-c", IN_POD, str(account), "env", *words]
    with site.daemon(kubeconfig=False, prefix=prefix):
        site.api.wait_for_watches(count=4)
        site.api.add_token("second")
        site.api.revoke_token(site.api.token)
        replace(account / "token", "second")
        site.api.close_watches()
        changes_arrive(site)


def test_a_rotated_ca_is_trusted_from_then_on(site: Site, tmp_path: Path) -> None:
    """A certificate of an unknown CA is refused."""
    ca = tmp_path / "ca.crt"
    text = site.kubeconfig.read_text()
    replace(site.kubeconfig, text.replace(str(site.api.ca_file), str(ca)))
    shutil.copy(site.api.client_certificate("stranger")[0], ca)  # has not signed the server's
    with site.daemon(ready=False) as daemon:
        log = daemon.wait_for("is not trusted")
        assert "check certificate-authority and server in the kubeconfig" in log
        assert site.api.requests() == []

        replace(ca, site.api.ca_file.read_text())

        daemon.wait_for("ready after")
        changes_arrive(site)


def test_an_expired_certificate_is_reported_until_it_is_renewed(site: Site) -> None:
    """With a new certificate, the daemon follows the API server again."""
    with site.daemon() as daemon:
        site.api.wait_for_watches(count=4)
        site.api.renew_server_certificate(expired=True)
        site.api.restart()
        log = daemon.wait_for("has expired; renew it (kubeadm certs renew)")
        assert site.commands.frontends() == {WEB: ("10.244.1.5:8080",)}
        assert log.count("has expired") == 1

        site.api.renew_server_certificate()

        changes_arrive(site)


def test_events_that_may_not_be_written_are_no_trouble(site: Site) -> None:
    """The log names the missing rule once."""
    site.api.forbid("events")
    with site.daemon() as daemon:
        changes_arrive(site)
        log = daemon.wait_for("Events: cannot be posted: 403 Forbidden")
        assert 'resources ["events"], verbs ["create", "patch", "update"]' in log


@pytest.mark.parametrize("text", ["{", "apiVersion: v1\nkind: Config\n"], ids=["cut", "empty"])
def test_a_kubeconfig_that_cannot_be_used_ends_the_start(site: Site, text: str) -> None:
    """The error names the file, and no rule is installed."""
    site.kubeconfig.write_text(text)
    with site.daemon(ready=False) as daemon:
        wait_until(lambda: not daemon.alive)
        assert daemon.wait() == 1
        assert str(site.kubeconfig) in daemon.log
        assert "Traceback" not in daemon.log
    site.programs_nothing()


def test_an_api_server_behind_a_proxy(site: Site, tmp_path: Path) -> None:
    """With ``proxy-url``, TLS ends at the API server; the proxy only relays."""
    with ConnectProxy(site.namespace) as proxy:
        site.kubeconfig = site.api.write_kubeconfig(tmp_path / "by-proxy", proxy_url=proxy.url)
        with site.daemon():
            changes_arrive(site)
    assert set(proxy.targets) == {f"127.0.0.1:{site.api.port}"}


def test_health_answers_while_a_credential_plugin_hangs(site: Site) -> None:
    """
    The ports open before its first run ends; then page and log say what is wrong.

    A run that hangs is killed, and the plugin is run again: it works by then.
    """
    site.api.write_kubeconfig(site.kubeconfig, "exec")
    plugin = site.kubeconfig.with_name(f"{site.kubeconfig.name}.exec")
    calls = plugin.with_name(f"{plugin.name}.log")
    works = plugin.read_text()
    replace(plugin, f"#!/bin/sh\necho asked >> {shlex.quote(str(calls))}\nexec sleep 1000\n")
    plugin.chmod(0o755)
    patience = "from nfproxy.apiserver import plugins; plugins.PLUGIN_S = 3.0"
    with site.daemon(ready=False, prepare=patience) as daemon:
        wait_until(calls.read_text)
        wait_until(lambda: site.code("/healthz") == 503)
        assert site.code("/healthz") == 503
        assert site.code("/livez") == 200
        assert "was killed" not in daemon.log
        wait_until(lambda: "did not end within 3 s, and was killed" in daemon.log)
        trouble = site.page(HEALTH_PORT, "/healthz").data["apiServer"]
        assert trouble == "credentials for the API server cannot be read; the log says why"

        replace(plugin, works)
        plugin.chmod(0o755)
        daemon.wait_for("ready after")
        changes_arrive(site)
        assert site.code("/healthz") == 200
