"""
Who ``nfproxy run`` is to the API server, and whether it believes it is talking to that one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.apiserver.credentials import Kind
from support.client.connectproxy import ConnectProxy
from support.processes.apidaemon import Site
from support.processes.commands import endpoint_slice, errors_in, node_object, service, wait_until

WEB = "10.96.0.1:80/tcp"

#: Runs a program where the directory it is given is a pod's service account.
IN_POD = (
    "mount -t tmpfs none /var/run && mkdir -p /var/run/secrets/kubernetes.io && "
    'ln -s "$0" /var/run/secrets/kubernetes.io/serviceaccount && exec "$@"'
)


@pytest.fixture(autouse=True)
def objects(site: Site) -> None:
    """A Service with an endpoint."""
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))


def changes_arrive(site: Site) -> None:
    """Assert that a change gets into the kernel."""
    site.serves({WEB: ("10.244.1.5:8080",)})
    site.api.apply(endpoint_slice("web", "10.244.1.6"))
    site.serves({WEB: ("10.244.1.6:8080",)})


def replace(path: Path, text: str) -> None:
    """Put a file in the place of another at once, as the kubelet does."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


@pytest.mark.parametrize("kind", ["token", "clientcert", "clientcert-data"])
def test_the_kubeconfig_says_who_we_are(site: Site, kind: Kind) -> None:
    """
    To the API server every request is of the user that kube-proxy's ClusterRole is bound to.
    """
    site.api.write_kubeconfig(site.kubeconfig, kind)
    with site.daemon():
        changes_arrive(site)
        site.wait_for_event("Starting")
    assert {request.user for request in site.api.requests()} == {"system:kube-proxy"}


@pytest.mark.parametrize("kind", ["tokenFile", "exec"])
def test_a_token_that_is_rotated_is_used_from_then_on(site: Site, kind: Kind) -> None:
    """
    The old one is refused: read again, by file or plugin, without losing anything.
    """
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


def test_a_token_that_is_not_accepted_is_told_and_waited_for(site: Site) -> None:
    """
    Until the kubeconfig has one that is; what is programmed stays.
    """
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
    """
    Address and port are in the environment, also for IPv6; the token is rotated by the kubelet.
    """
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


def test_a_ca_that_is_rotated_is_believed_from_then_on(site: Site, tmp_path: Path) -> None:
    """
    A certificate of an unknown CA is refused, whoever shows it.
    """
    ca = tmp_path / "ca.crt"
    text = site.kubeconfig.read_text()
    replace(site.kubeconfig, text.replace(str(site.api.ca_file), str(ca)))
    shutil.copy(site.api.client_certificate("nobody")[0], ca)  # has not signed the server's
    with site.daemon(ready=False) as daemon:
        log = daemon.wait_for("is not trusted")
        assert "check certificate-authority and server in the kubeconfig" in log
        assert site.api.requests() == []

        replace(ca, site.api.ca_file.read_text())

        daemon.wait_for("ready after")
        changes_arrive(site)


def test_a_certificate_that_has_expired_is_told_and_waited_for(site: Site) -> None:
    """
    Renewed, the API server is followed again.
    """
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
    """
    The rule that is missing is named, once.
    """
    site.api.forbid("events")
    with site.daemon() as daemon:
        changes_arrive(site)
        log = daemon.wait_for("Events: cannot be posted: 403 Forbidden")
        assert 'resources ["events"], verbs ["create", "patch", "update"]' in log


@pytest.mark.parametrize("text", ["{", "apiVersion: v1\nkind: Config\n"], ids=["cut", "empty"])
def test_a_kubeconfig_that_cannot_be_used_ends_the_start(site: Site, text: str) -> None:
    """
    With the file's name, and before anything is programmed.
    """
    site.kubeconfig.write_text(text)
    with site.daemon(ready=False) as daemon:
        wait_until(lambda: not daemon.alive)
        assert daemon.wait() == 1
        assert str(site.kubeconfig) in daemon.log
        assert "Traceback" not in daemon.log
    site.programs_nothing()


def test_an_api_server_behind_a_proxy(site: Site, tmp_path: Path) -> None:
    """
    By ``proxy-url``: TLS ends at the API server, the proxy only relays.
    """
    with ConnectProxy(site.namespace) as proxy:
        site.kubeconfig = site.api.write_kubeconfig(tmp_path / "by-proxy", proxy_url=proxy.url)
        with site.daemon():
            changes_arrive(site)
    assert set(proxy.targets) == {f"127.0.0.1:{site.api.port}"}
