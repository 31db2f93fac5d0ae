"""Which of several API servers is in use."""

from __future__ import annotations

from collections import Counter

from nfproxy.apiserver.serverpool import Server, ServerPool
from nfproxy.kube.apistatus import RequestError

NAMES = ("10.0.0.1:6443", "10.0.0.2:6443", "10.0.0.3:6443")
THREE = tuple(Server(f"https://{name}") for name in NAMES)


def away(server: Server) -> RequestError:
    """Return the error of a request to a server that cannot be reached."""
    return RequestError(f"{server.host} is away")


def use(servers: ServerPool, count: int, at_s: float) -> list[Server]:
    """Let the server in use fail, `count` times; return these servers."""
    found = []
    for _ in range(count):
        found.append(servers.current)
        servers.failed(servers.current, away(servers.current), at_s)
    return found


def test_nodes_start_at_different_servers_and_move_to_different_ones():
    """The nodes of a server that fails do not all move to the same server."""
    orders = Counter(tuple(use(ServerPool(THREE, f"node-{n}"), 3, 0.0)) for n in range(600))

    assert len(orders) == 6
    assert min(orders.values()) > 50
    assert use(ServerPool(THREE, "node-1"), 3, 0.0) == use(ServerPool(THREE, "node-1"), 3, 0.0)
    assert use(ServerPool(THREE[::-1], "node-1"), 3, 0.0) == use(
        ServerPool(THREE, "node-1"), 3, 0.0
    )


def test_a_server_is_used_until_it_fails():
    """Nodes do not return to a server that is back."""
    servers = ServerPool(THREE)
    first = servers.current
    servers.failed(first, away(first), 1.0)
    second = servers.current
    for now_s in range(2, 200):
        assert servers.answered(second, 200, now_s) == "" or now_s == 2
        assert servers.current == second != first


def test_others_failures_do_not_move_what_is_in_use():
    """If four requests fail at one server, the client moves by one server."""
    servers = ServerPool(THREE)
    first = servers.current
    for _ in range(4):
        servers.failed(first, away(first), 1.0)

    assert use(ServerPool(THREE), 2, 0.0)[1] == servers.current


def test_when_all_have_failed_the_one_that_failed_longest_ago_is_next():
    """After a while a failure no longer counts."""
    servers = ServerPool(THREE)
    tried = []
    for now_s in (1.0, 2.0, 3.0):
        tried.append(servers.current)
        servers.failed(servers.current, away(servers.current), now_s)
    assert not servers.has_other(3.0)
    assert servers.current == tried[0]
    servers.failed(tried[0], away(tried[0]), 4.0)
    assert servers.current == tried[1]

    assert servers.has_other(60.0)


def test_the_failures_of_all_servers_are_in_the_order_given():
    """The order of the attempts varies; a text that does not change is reported once."""
    servers = ServerPool(THREE)
    use(servers, 3, 1.0)
    expected = "none of 3 API servers can be reached: " + ". ".join(f"{n} is away" for n in NAMES)
    assert str(servers.why()) == expected
    use(servers, 2, 2.0)
    assert str(servers.why()) == expected

    alone = ServerPool(THREE[:1])
    alone.failed(THREE[0], away(THREE[0]), 1.0)
    assert (alone.why().what, alone.current) == (f"{NAMES[0]} is away", THREE[0])
    assert not alone.has_other(60.0)


def test_a_change_is_logged_once_when_the_next_server_has_answered():
    """The line has the reason; the next change has its own line."""
    servers = ServerPool(THREE)
    first = servers.current
    assert servers.answered(first, 200, 0.0) == ""
    servers.failed(first, away(first), 1.0)
    second = servers.current
    said = servers.answered(second, 403, 1.1)

    assert said == (
        f"API server {second.host}: in use now, instead of {first.host}: {first.host} is away"
    )
    assert servers.answered(second, 200, 1.2) == ""
    assert servers.answered(first, 200, 1.3) == ""  # a late answer


def test_a_server_with_nothing_but_errors_counts_as_out_of_reach_in_the_end():
    """A single success in between resets that. 429 shows that the server works."""
    servers = ServerPool(THREE)
    first = servers.current
    for now_s in range(14):
        servers.answered(first, 500, now_s)
    servers.answered(first, 429, 14.0)
    for now_s in range(15, 29):
        servers.answered(first, 503, now_s)
    assert servers.current == first
    servers.answered(first, 503, 30.0)
    assert servers.current != first

    alone = ServerPool(THREE[:1])
    for now_s in range(60):
        alone.answered(THREE[0], 500, now_s)
    assert alone.why().what == ""


def test_a_request_that_fails_everywhere_moves_the_client_ever_more_rarely():
    """
    No server may be able to read some object, and each move cuts the watches of other kinds.

    After a time without errors, the client moves soon again.
    """
    servers = ServerPool(THREE)
    lefts = []
    for now_s in range(0, 1000, 5):
        before = servers.current
        servers.answered(before, 500, now_s)
        if servers.current != before:
            lefts.append(now_s)
            servers.answered(servers.current, 200, now_s)  # a watch of another kind
    assert lefts == [15, 50, 115, 240, 485, 970]

    servers.answered(servers.current, 200, 3000.0)
    last = servers.current
    for now_s in (3001, 3016):
        servers.answered(last, 500, now_s)
    assert servers.current != last
