"""The API servers, judged."""

import pytest
from support.preflight import SUBJECT, levels

from nfproxy.errors import NfproxyError
from nfproxy.model.addresses import parse_address, parse_prefix
from nfproxy.tools.preflight import apiserver
from nfproxy.tools.preflight.apiserver import ApiServer, ApiServers
from nfproxy.tools.preflight.findings import Level

DIRECT = ApiServer("192.0.2.1:6443", ("192.0.2.1",), 200)


SERVICE = ApiServer("10.96.0.1:443", ("10.96.0.1",), 200)


DOWN = ApiServer("192.0.2.2:6443", ("192.0.2.2",), trouble=NfproxyError("it refuses", "look"))


def refusing(code: int, text: str) -> ApiServers:
    """Return an API server that answers with an error."""
    return ApiServers(servers=(DIRECT._replace(code=code, trouble=NfproxyError(text)),))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ApiServers(servers=(DIRECT,)), [Level.OK]),
        (ApiServers(servers=(DOWN,)), [Level.FAIL]),
        (ApiServers(servers=(DIRECT, DOWN)), [Level.OK, Level.WARN]),
        (refusing(401, "401 no: who"), [Level.FAIL]),
        (refusing(403, "403 no"), [Level.OK]),
        (refusing(404, "404 what"), [Level.FAIL]),
        (refusing(503, "503 later"), [Level.FAIL]),
        (ApiServers(servers=(DIRECT,), borrowed="/root/.kube/config"), [Level.OK, Level.WARN]),
    ],
)
def test_servers(found: ApiServers, expected: list[Level]) -> None:
    """
    A server that hides its version answers all the same. Borrowed credentials are worth a look.
    """
    assert expected == levels(apiserver.judge_servers(SUBJECT, found))


def test_files_in_place_of_api_servers() -> None:
    """An nfproxy that takes its objects from files needs no API server."""
    (finding,) = apiserver.judge_servers(SUBJECT._replace(files="/objects"), ApiServers())

    assert finding.level is Level.SKIP
    assert "/objects" in finding.found


@pytest.mark.parametrize(
    ("trouble", "found", "remedy"),
    [
        (NfproxyError("config: No such file", "check it"), "config: No such file", "check it"),
        (
            NfproxyError("--master: 'x:y' is no address"),
            "--master: 'x:y' is no address",
            "give --kubeconfig",
        ),
    ],
)
def test_what_keeps_every_server_from_being_asked(
    trouble: NfproxyError, found: str, remedy: str
) -> None:
    """Nothing else is known then; the remedy is the error's own, or names the flags."""
    (finding,) = apiserver.judge_servers(SUBJECT, ApiServers(trouble=trouble))
    assert (finding.level, finding.found) == (Level.FAIL, found)
    assert finding.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (
            ApiServers(servers=(SERVICE,), env_host="10.96.0.1"),
            Level.FAIL,
            "KUBERNETES_SERVICE_HOST",
        ),
        (
            ApiServers(
                servers=(SERVICE,), env_host="10.96.0.1", kubernetes=(parse_address("10.96.0.1"),)
            ),
            Level.FAIL,
            "cluster IP 10.96.0.1 of Service default/kubernetes, which answers only as long",
        ),
        (
            ApiServers(servers=(SERVICE,), service_cidrs=(parse_prefix("10.96.0.0/16"),)),
            Level.FAIL,
            "range 10.96.0.0/16",
        ),
        # Some platforms name the API server itself in the environment of pods.
        (
            ApiServers(
                servers=(DIRECT,),
                env_host="192.0.2.1",
                kubernetes=(parse_address("10.96.0.1"),),
            ),
            Level.OK,
            "answers, without a Service in between",
        ),
        (
            ApiServers(
                servers=(SERVICE._replace(host="api.example:443", addresses=("10.96.0.1",)),),
                kubernetes=(parse_address("10.96.0.1"),),
            ),
            Level.FAIL,
            "api.example:443 is the cluster IP",
        ),
        (
            ApiServers(
                servers=(SERVICE._replace(code=0, trouble=NfproxyError("no route")),),
                env_host="10.96.0.1",
            ),
            Level.FAIL,
            "which no proxy serves here",
        ),
    ],
)
def test_an_address_of_a_service(found: ApiServers, level: Level, words: str) -> None:
    """What the API says about Services counts more than what the environment suggests."""
    (finding,) = apiserver.judge_servers(SUBJECT, found)

    assert level is finding.level
    assert words in finding.found
    assert ("--master" in finding.remedy) is (level is Level.FAIL)
