"""The stand-in where the daemon meets it: in network namespaces, as a process, with credentials."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.apiserver import Api, StandIn
from support.apiserver.client import Client
from support.apiserver.control import StandInProcess
from support.objects.model import endpoint, endpoint_slice, service

from nfproxy.kube.decode import decode
from nfproxy.kube.identity import Kind
from nfproxy.tools.lab import Lab

pytestmark = pytest.mark.doubles

SERVICES = "/api/v1/services"


@pytest.fixture(scope="module")
def process() -> Iterator[StandInProcess]:
    """A stand-in in a process of its own."""
    with StandInProcess(bookmark_s=30.0) as made:
        yield made


def test_it_listens_inside_a_namespace(namespaces_allowed: None, tmp_path: Path):
    """Programs in its namespace reach it by IPv4 and IPv6, and no others."""
    with Lab() as lab:
        namespace = lab.namespace("node")
        namespace.run(["ip", "link", "set", "lo", "up"])
        with StandIn(namespace) as api:
            six = f"https://[::1]:{api.port}"
            clients = [
                Client(api.write_kubeconfig(tmp_path / f"config-{i}", server=url))
                for i, url in enumerate((api.url, six))
            ]
            for client in clients:
                assert namespace.call(client.get, "/readyz").content == "ok"
                with pytest.raises(ConnectionRefusedError):
                    client.get("/readyz")
            api.restart()
            assert namespace.call(clients[0].get, "/readyz").content == "ok"


def test_a_process_takes_the_same_commands(process: StandInProcess, tmp_path: Path):
    """Commands reach a process: objects, faults, and the log of requests."""
    client = Client(process.write_kubeconfig(tmp_path / "kubeconfig"))
    version = process.apply(service("web"), endpoint_slice("web", "10.244.1.11"))
    with client.watch(SERVICES, resourceVersion=version) as watch:
        process.wait_for_watches("services")
        after = process.delete("services", "default", "web")
        deleted = watch.next()
    process.fail_next("services", 503, retry_after_s=2)

    assert deleted["object"]["metadata"]["resourceVersion"] == str(after) == str(process.version)
    assert [i["metadata"]["name"] for i in process.objects("endpointslices")] == ["web-ipv4"]
    assert client.get(SERVICES).code == 503
    (request,) = process.requests("services", "list")
    assert (request.path, request.code) == (SERVICES, 503)
    with pytest.raises(LookupError, match="no services default/web"):
        process.delete("services", "default", "web")
    with pytest.raises(ValueError, match="unknown field"):
        process.configure(colour="red")


def test_a_process_ends_with_its_input(tmp_path: Path):
    """A stand-in whose parent is gone ends, and its directory with it."""
    made = StandInProcess()
    directory = made.directory
    assert directory.exists()
    made.close()

    assert made.process.returncode == 0
    assert not directory.exists()


@pytest.mark.parametrize("kind", ["token", "clientcert", "clientcert-data"])
@pytest.mark.parametrize("ca", ["file", "data"])
def test_kubeconfigs_let_clients_in(standin: StandIn, tmp_path: Path, kind: str, ca: str):
    """With a kubeconfig of any kind, a client has the right user."""
    path = standin.write_kubeconfig(tmp_path / "kubeconfig", kind, ca=ca)  # type: ignore[arg-type]

    assert Client(path).get(SERVICES).code == 200
    assert standin.requests()[-1].user == "system:kube-proxy"


def test_a_token_can_come_from_a_program(standin: StandIn, tmp_path: Path):
    """The exec plugin prints the token from a file, and records its runs."""
    path = standin.write_kubeconfig(tmp_path / "kubeconfig", "exec")
    (tmp_path / "kubeconfig.token").write_text("another")

    (user,) = yaml.safe_load(path.read_text())["users"]
    plugin = user["user"]["exec"]
    said = subprocess.run([plugin["command"]], check=True, capture_output=True).stdout

    credential = json.loads(said)
    assert credential["apiVersion"] == plugin["apiVersion"]
    assert credential["status"] == {"token": "another"}
    assert (tmp_path / "kubeconfig.exec.log").read_text() == "asked\n"


def test_a_pod_finds_its_service_account(standin: StandIn, tmp_path: Path):
    """A service account's directory holds token, CA and namespace; the environment says where."""
    environment = standin.write_service_account(tmp_path / "account", standin.admin_token)

    assert (tmp_path / "account" / "token").read_text() == standin.admin_token
    assert (tmp_path / "account" / "ca.crt").read_bytes() == standin.ca_file.read_bytes()
    assert environment == {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(standin.port),
    }


def test_tokens_come_and_go(standin: StandIn, tmp_path: Path):
    """A revoked token is refused from the next request on, while an open watch goes on."""
    client = Client(standin.write_kubeconfig(tmp_path / "kubeconfig"))
    with client.watch(SERVICES, resourceVersion=standin.version) as watch:
        standin.revoke_token(standin.token)
        standin.apply(service("web"))
        assert watch.next()["type"] == "ADDED"
    assert client.get(SERVICES).code == 401

    fresh = "fresh"
    standin.add_token(fresh)
    config = standin.write_kubeconfig(tmp_path / "kubeconfig", token=fresh)
    assert Client(config).get(SERVICES).code == 200


def test_rules_can_be_taken_and_given(standin: StandIn, tmp_path: Path):
    """What a user may do changes at once."""
    client = Client(standin.write_kubeconfig(tmp_path / "kubeconfig"))
    standin.forbid("services", "list")
    denied = client.get(SERVICES)
    standin.permit("services", "list")

    assert denied.code == 403
    assert denied.content["message"] == (
        'services is forbidden: User "system:kube-proxy" cannot list resource "services" in '
        'API group "" at the cluster scope'
    )
    assert client.get(SERVICES).code == 200


@pytest.mark.parametrize("resource", ["services", "endpointslices"])
def test_model_objects_come_back_as_they_were(standin: Api, resource: str):
    """An object of the model, put in and decoded again, is the same."""
    given = {
        "services": service(
            "web",
            cluster_ips=("10.96.0.1", "fd00:10:96::1"),
            node_port=30080,
            external_ips=("203.0.113.9",),
            load_balancer_ips=("198.51.100.7",),
            source_ranges=("192.0.2.0/24",),
            affinity_timeout_s=600,
            external_local=True,
            internal_local=True,
            created="2026-01-01T00:00:00.000000000Z",
        ),
        "endpointslices": endpoint_slice(
            "web",
            endpoint("10.244.1.11", "node-1", ready=False, terminating=True, zones=("a",)),
            endpoint("10.244.1.12", nodes=("node-2",)),
        ),
    }[resource]
    standin.apply(given)

    (item,) = standin.objects(resource)
    kind = Kind.SERVICE if resource == "services" else Kind.ENDPOINT_SLICE
    assert decode(kind, item).value == given
