"""
The API server, the Node, memory and addresses to listen at, judged.
"""

import pytest

from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.node import Node
from nfproxy.tools.preflight.facts import Api, Attempt, Memory, Port, Server
from nfproxy.tools.preflight.findings import Level, Verdict
from nfproxy.tools.preflight.judge import api, process

DIRECT = Server("https://192.0.2.1:6443", "192.0.2.1:6443", ("192.0.2.1",), 200)
SERVICE = Server("", "10.96.0.1:443", ("10.96.0.1",), 200)
DOWN = Server("https://192.0.2.2:6443", "192.0.2.2:6443", ("192.0.2.2",), 0, "it refuses; look")
MI = 1 << 20


def levels(verdicts: list[Verdict]) -> list[Level]:
    """Return the levels of some verdicts."""
    return [verdict.level for verdict in verdicts]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Api(servers=(DIRECT,)), [Level.OK]),
        (Api(servers=(DOWN,)), [Level.FAIL]),
        (Api(servers=(DIRECT, DOWN)), [Level.OK, Level.WARN]),
        (Api(servers=(DIRECT._replace(code=401, trouble="401 no: who; ask"),)), [Level.FAIL]),
        (Api(servers=(DIRECT._replace(code=403, trouble="403 no"),)), [Level.OK]),
        (Api(servers=(DIRECT._replace(code=404, trouble="404 what"),)), [Level.FAIL]),
        (Api(servers=(DIRECT._replace(code=503, trouble="503 later"),)), [Level.FAIL]),
        (Api(servers=(DIRECT,), borrowed=True), [Level.OK, Level.WARN]),
    ],
)
def test_servers(found: Api, expected: list[Level]) -> None:
    """
    One that may not tell its version is there all the same; borrowed credentials prove little.
    """
    assert expected == levels(api.servers(found))


@pytest.mark.parametrize(
    ("trouble", "found", "remedy"),
    [
        ("config: No such file; check it", "config: No such file", "check it"),
        ("--master: 'x:y' is no address", "--master: 'x:y' is no address", "give --kubeconfig"),
    ],
)
def test_what_keeps_every_server_from_being_asked(trouble: str, found: str, remedy: str) -> None:
    """
    Whose fault it is stays with what is wrong.
    """
    (verdict,) = api.servers(Api(trouble=trouble))
    assert (verdict.level, verdict.found) == (Level.FAIL, found)
    assert verdict.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (Api(servers=(SERVICE,), env_host="10.96.0.1"), Level.FAIL, "KUBERNETES_SERVICE_HOST"),
        (
            Api(servers=(SERVICE,), env_host="10.96.0.1", kubernetes=(parse_address("10.96.0.1"),)),
            Level.FAIL,
            "cluster IP 10.96.0.1 of Service default/kubernetes, which answers only as long",
        ),
        (
            Api(servers=(SERVICE,), service_cidrs=(parse_prefix("10.96.0.0/16"),)),
            Level.FAIL,
            "range 10.96.0.0/16",
        ),
        # A platform that points pods to the API server itself, and says so in the environment.
        (
            Api(
                servers=(DIRECT,),
                env_host="192.0.2.1",
                kubernetes=(parse_address("10.96.0.1"),),
            ),
            Level.OK,
            "answers, without a Service in between",
        ),
        (
            Api(
                servers=(SERVICE._replace(host="api.example:443", addresses=("10.96.0.1",)),),
                kubernetes=(parse_address("10.96.0.1"),),
            ),
            Level.FAIL,
            "api.example:443 is the cluster IP",
        ),
        (
            Api(servers=(SERVICE._replace(code=0, trouble="no route"),), env_host="10.96.0.1"),
            Level.FAIL,
            "which nobody serves here",
        ),
    ],
)
def test_an_address_of_a_service(found: Api, level: Level, words: str) -> None:
    """
    What the API tells of Services counts before what the environment suggests.
    """
    (verdict,) = api.servers(found)

    assert level is verdict.level
    assert words in verdict.found
    assert ("--master" in verdict.remedy) is (level is Level.FAIL)


def test_access_is_grouped_by_resource_and_answer() -> None:
    """
    What is refused alike is one line; a resource the API server lacks is no fault.
    """
    attempts = (
        Attempt("list", "services", "", 403, "403 no"),
        Attempt("watch", "services", "", 403, "403 no"),
        Attempt("list", "nodes", ""),
        Attempt("watch", "nodes", "", 0, "no answer within 3 s"),
        Attempt("list", "servicecidrs", "networking.k8s.io", 404, "404", optional=True),
        Attempt("create", "events", "events.k8s.io", 403, "403 no", optional=True),
    )
    found = api.access(attempts)

    assert levels(found) == [Level.FAIL, Level.FAIL, Level.OK, Level.WARN, Level.OK]
    assert "may not list and watch services" in found[0].found
    assert 'resources: ["services"], verbs: ["list", "watch"]' in found[0].remedy
    assert "cannot watch nodes: no answer" in found[1].found
    assert "no servicecidrs.networking.k8s.io" in found[2].found
    assert 'apiGroups: ["events.k8s.io"]' in found[3].remedy
    assert found[4].found == "may list nodes"


def test_access_that_was_not_tried() -> None:
    """
    Without an API server nothing is known.
    """
    assert levels(api.access(())) == [Level.WARN]


def test_the_node() -> None:
    """
    It has to be there, with addresses; what its configuration lacks is worth a look.
    """
    node = Node("n", (parse_address("192.0.2.1"),), pod_cidrs=(parse_prefix("fd00::/64"),))

    assert levels(api.node(Api(), "n", ())) == [Level.WARN]
    absent = api.node(Api(node_asked=True), "n", ())
    assert levels(absent) == [Level.FAIL]
    assert "--hostname-override" in absent[0].remedy
    bare = Api(node=Node("n"), node_asked=True)
    assert levels(api.node(bare, "n", ())) == [Level.WARN]
    assert levels(api.node(Api(node=node, node_asked=True), "n", ["clusterCIDR: empty"])) == [
        Level.WARN,
        Level.OK,
    ]
    assert api.node_families(node) == (Family.IPV4, Family.IPV6)
    assert api.node_families(None) == ()


@pytest.mark.parametrize(
    ("limit", "services", "slices", "level"),
    [
        (None, 10_000, 10_000, Level.OK),
        (256 * MI, None, None, Level.OK),
        (256 * MI, 10_000, 10_000, Level.OK),
        (256 * MI, 10_000, 30_000, Level.FAIL),
        (256 * MI, 20_000, None, Level.WARN),
        (64 * MI, 10, 10, Level.WARN),
        (32 * MI, None, None, Level.FAIL),
    ],
)
def test_memory(limit: int | None, services: int | None, slices: int | None, level: Level) -> None:
    """
    The default limit is enough for what was measured: 131 MB with 10,000 Services.
    """
    verdict = process.memory(Memory(limit), services, slices)

    assert level is verdict.level
    assert ("resources.limits.memory" in verdict.remedy) is (level is not Level.OK)


@pytest.mark.parametrize(
    ("port", "hard_fail", "level"),
    [
        (Port("health", "0.0.0.0:10256"), True, Level.OK),
        (Port("health", "0.0.0.0:10256", "in use", "kube-proxy"), True, Level.OK),
        (Port("health", "0.0.0.0:10256", "in use", "nfproxy"), True, Level.OK),
        (Port("health", "0.0.0.0:10256", "in use"), False, Level.WARN),
        (Port("health", "0.0.0.0:10256", "in use"), True, Level.FAIL),
    ],
)
def test_addresses_to_listen_at(port: Port, hard_fail: bool, level: Level) -> None:
    """
    A stranger there is fatal only with bindAddressHardFail; a proxy is about to go.
    """
    assert [level] == levels(process.ports([port], hard_fail=hard_fail))
