"""Access to the API and this node's Node, judged."""

from support.preflight import SUBJECT, levels

from nfproxy.errors import NfproxyError
from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.node import Node
from nfproxy.tools.preflight import access
from nfproxy.tools.preflight.access import ApiAccess, Attempt
from nfproxy.tools.preflight.findings import Level


def test_access_is_grouped_by_resource_and_answer() -> None:
    """Refusals with the same answer share a line. A resource that the API server lacks is fine."""
    no = NfproxyError("403 no")
    attempts = (
        Attempt("list", "services", "", 403, no),
        Attempt("watch", "services", "", 403, no),
        Attempt("list", "nodes", ""),
        Attempt("watch", "nodes", "", 0, NfproxyError("no answer within 3 s")),
        Attempt("list", "servicecidrs", "networking.k8s.io", 404, no, optional=True),
        Attempt("create", "events", "events.k8s.io", 403, no, optional=True),
    )
    found = access.judge_access(SUBJECT, ApiAccess(attempts))

    assert levels(found) == [Level.FAIL, Level.FAIL, Level.OK, Level.WARN, Level.OK]
    assert "may not list and watch services" in found[0].found
    assert 'resources: ["services"], verbs: ["list", "watch"]' in found[0].remedy
    assert "cannot watch nodes: no answer" in found[1].found
    assert "no servicecidrs.networking.k8s.io" in found[2].found
    assert 'apiGroups: ["events.k8s.io"]' in found[3].remedy
    assert found[4].found == "may list nodes"


def test_access_that_was_not_tried() -> None:
    """Without an API server nothing can be tried."""
    assert levels(access.judge_access(SUBJECT, ApiAccess())) == [Level.SKIP]
    of_files = SUBJECT._replace(files="/objects")
    assert access.judge_access(of_files, ApiAccess()) == []
    assert access.judge_node(of_files, ApiAccess()) == []


def test_the_node() -> None:
    """It has to exist and have addresses; a warning of the configuration is worth a look."""
    node = Node("n", (parse_address("192.0.2.1"),), pod_cidrs=(parse_prefix("fd00::/64"),))

    assert levels(access.judge_node_object(ApiAccess(), "n", ())) == [Level.SKIP]
    absent = access.judge_node_object(ApiAccess(node_asked=True), "n", ())
    assert levels(absent) == [Level.FAIL]
    assert "--hostname-override" in absent[0].remedy
    bare = ApiAccess(node=Node("n"), node_asked=True)
    assert levels(access.judge_node_object(bare, "n", ())) == [Level.WARN]
    assert levels(
        access.judge_node_object(ApiAccess(node=node, node_asked=True), "n", ["clusterCIDR: empty"])
    ) == [
        Level.WARN,
        Level.OK,
    ]
    assert access.node_families(node) == (Family.IPV4, Family.IPV6)
    assert access.node_families(None) == ()
