"""Which Node an operator may have meant, where there is none of the configured name."""

import pytest

from nfproxy.kube.nodenames import ListedNode, missing_node, near_names, read_node_names

NODES = (
    ListedNode("node-1", "node-1"),
    ListedNode("node-2", "node-2"),
    ListedNode("db.example.org", "db"),
    ListedNode("ip-10-0-0-7.ec2.internal", "worker-7"),
)


@pytest.mark.parametrize(
    ("wanted", "host", "near"),
    [
        ("node-1.example.org", "node-1.example.org", ("node-1",)),
        ("db", "db", ("db.example.org",)),
        ("db.other.net", "", ("db.example.org",)),
        ("$(node_name)", "node-2", ("node-2",)),
        ("$(node_name)", "Node-2.example.org", ("node-2",)),
        ("worker-7", "worker-7", ("ip-10-0-0-7.ec2.internal",)),
        ("worker-7.corp", "worker-7.corp", ("ip-10-0-0-7.ec2.internal",)),
        ("nod-1", "", ("node-1",)),
        ("vm", "vm", ()),
        ("", "", ()),
    ],
)
def test_near_names_are_those_of_this_host_then_those_written_alike(wanted, host, near):
    """With or without domain, by the label that the kubelet sets, or with a slip of the pen."""
    assert near_names(wanted, host, NODES) == near


def test_near_names_are_few():
    """A fleet with one short name in many domains gives three."""
    nodes = [ListedNode(f"a.d{n}") for n in range(100)]

    assert near_names("a", "a", nodes) == ("a.d0", "a.d1", "a.d10")


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"items":[{"metadata":{"name":"a","labels":{"kubernetes.io/hostname":"h"}}}]}',
         (ListedNode("a", "h"),)),
        (b'{"items":[{"metadata":{"name":"a"}},{"metadata":{}}]}', (ListedNode("a"),)),
        (b'{"items":null}', ()),
        (b"<html>", ()),
        (b'{"items":[{"metadata":{"name":5}}]}', ()),
        (b'{"items":[{"metadata":{"name":"\xff"}}]}', ()),
    ],
)  # fmt: skip
def test_any_answer_is_read(body, names):
    """What is no list of Nodes gives no names."""
    assert read_node_names(body) == names


def test_a_variable_that_was_not_replaced_is_recognised():
    """The name is in lower case by then."""
    what, remedy = missing_node("$(node_name)", ("node-2",))

    assert "variable in --hostname-override was not replaced" in what
    assert "spec.nodeName" in remedy


def test_near_names_are_named():
    """Without any, the remedy says where names are."""
    assert (
        "there is no Node 'vm', but 'vm.example.org'" in missing_node("vm", ["vm.example.org"])[0]
    )
    assert "kubectl get nodes" in missing_node("vm", [])[1]
