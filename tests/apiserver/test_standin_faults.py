"""The faults of the stand-in, on command, and that it recovers afterwards."""

import itertools
import socket
import ssl
from pathlib import Path

import pytest
from support.apiserver import StandIn
from support.apiserver.client import Answer, Client
from support.objects.model import endpoint_slice, service
from support.processes.commands import eventually

pytestmark = pytest.mark.doubles

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


def names(answer: Answer) -> list[str]:
    """Return the names in a list."""
    return [item["metadata"]["name"] for item in answer.content["items"]]


@pytest.mark.parametrize(("code", "reason"), [(500, "InternalError"), (503, "ServiceUnavailable")])
def test_requests_fail_as_often_as_commanded(
    standin: StandIn, admin: Client, code: int, reason: str
):
    """The next requests to a resource fail with a Status, and only these."""
    standin.fail_next("services", code, times=2, retry_after_s=3)

    failed = [admin.get(SERVICES) for _ in range(2)]

    assert admin.get(SERVICES).code == 200
    assert admin.get(SLICES).code == 200
    for answer in failed:
        assert (answer.code, answer.content["reason"]) == (code, reason)
        assert answer.headers["Retry-After"] == "3"
    assert [r.code for r in standin.requests("services", "list")] == [code, code, 200]


def test_too_many_requests_is_no_status(standin: StandIn, admin: Client):
    """429 is plain text, as priority and fairness sends it; Retry-After can be left out."""
    standin.fail_next("", 429, verb="list")

    answer = admin.get(SERVICES)

    assert answer.code == 429
    assert answer.content == "Too many requests, please try again later.\n"
    assert "Retry-After" not in answer.headers


def test_any_body_can_be_answered(standin: StandIn, admin: Client):
    """A body can replace the Status."""
    standin.fail_next("services", 502, body="{}")

    assert admin.get(SERVICES).content == {}


def test_connections_are_refused_and_taken_again(standin: StandIn, admin: Client):
    """
    While it refuses, no socket listens, and open streams continue. Later it has the same port.
    """
    with admin.watch(SERVICES, resourceVersion=standin.version) as watch:
        standin.refuse()
        with pytest.raises(ConnectionRefusedError):
            admin.get(SERVICES)
        standin.apply(service("web"))
        assert watch.next()["type"] == "ADDED"
        standin.listen()

    assert names(admin.get(SERVICES)) == ["web"]


def test_a_stopped_server_drops_its_connections(standin: StandIn, admin: Client):
    """Stopping resets open streams."""
    with admin.watch(SERVICES, resourceVersion=standin.version) as watch:
        standin.stop()
        eventually(True, watch.was_reset)
        with pytest.raises(ConnectionError):
            watch.next()
    standin.start()

    assert admin.get(SERVICES).code == 200


def test_a_frozen_server_accepts_and_is_silent(standin: StandIn, admin: Client):
    """
    Frozen, it accepts connections and answers none, not even the TLS handshake; thawed, it
    goes on.
    """
    with admin.watch(SERVICES, resourceVersion=standin.version) as watch:
        standin.freeze()
        standin.apply(service("web"))
        with socket.create_connection(("127.0.0.1", standin.port)) as sock:
            sock.settimeout(0.2)
            context = ssl.create_default_context(cafile=standin.ca_file)
            with pytest.raises(TimeoutError):
                context.wrap_socket(sock, server_hostname="localhost")
        standin.thaw()
        assert watch.next()["type"] == "ADDED"

    assert admin.get(SERVICES).code == 200


def test_muted_watches_stay_open_and_others_work(standin: StandIn, admin: Client):
    """A muted watch sends nothing and does not end, while a new one sends everything."""
    query = {"resourceVersion": standin.version, "timeoutSeconds": 1}
    with admin.watch(SERVICES, **query) as muted:
        assert standin.mute_watches("services") == 1
        standin.apply(service("web"))
        with admin.watch(SERVICES, **query) as watch:
            assert [event["type"] for event in watch.rest()] == ["ADDED"]
        assert standin.watches("services") == 1
        muted.set_timeout(0.1)
        with pytest.raises(TimeoutError):
            muted.next()


def test_watches_end_in_good_order_or_by_reset(standin: StandIn, admin: Client):
    """Open watches are closed cleanly, or by RST; the objects are not touched."""
    with admin.watch(SERVICES, resourceVersion=standin.version) as watch:
        assert standin.close_watches("services") == 1
        with pytest.raises(EOFError):
            watch.next()
        assert not watch.was_reset()
    with admin.watch(SERVICES, resourceVersion=standin.version) as watch:
        assert standin.close_watches(abort=True) == 1
        eventually(True, watch.was_reset)
        with pytest.raises(ConnectionError):
            watch.next()
    eventually(0, standin.watches)


def test_an_event_is_cut_in_the_middle(standin: StandIn, admin: Client):
    """A cut event breaks off inside its JSON, and the connection closes."""
    with admin.watch(SERVICES, resourceVersion=standin.version) as watch:
        standin.cut_next_event("services")
        standin.apply(service("web"))
        with pytest.raises(ConnectionError, match=r"breaks off after .*ADDED"):
            watch.next()


def test_anything_can_be_said_on_a_watch(standin: StandIn, admin: Client):
    """Malformed JSON, unknown types, objects that are none, and errors can be sent."""
    with admin.open(f"{SERVICES}?watch=1&resourceVersion={standin.version}", {}) as response:
        standin.send_malformed("services")
        standin.send_event("services", "SURPRISE", {"kind": "Service", "spec": 5})
        standin.send_error("services", 500, "InternalError", "boom")
        lines = [response.readline() for _ in range(3)]

    assert lines[0] == b'{"type":"MODIFIED","object":{"metadata"\n'
    assert lines[1] == b'{"type":"SURPRISE","object":{"kind":"Service","spec":5}}\n'
    assert b'"message":"boom"' in lines[2]


def test_withheld_changes_are_only_in_lists(standin: StandIn, admin: Client):
    """No watch sends changes that are withheld, whenever it begins."""
    start = standin.apply(service("old"))
    with admin.watch(SERVICES, resourceVersion=start) as watch:
        with standin.withheld("services"):
            standin.delete("services", "default", "old")
        standin.apply(service("new"))
        assert watch.next()["object"]["metadata"]["name"] == "new"
    with admin.watch(SERVICES, resourceVersion=start) as late:
        assert late.next()["object"]["metadata"]["name"] == "new"

    assert names(admin.get(SERVICES)) == ["new"]


def test_compacted_history_is_gone(standin: StandIn, admin: Client):
    """After compaction, watches, exact lists and pages from before get 410."""
    start = standin.apply(service("a"), service("b"), service("c"))
    rest = admin.get(SERVICES, limit=1).content["metadata"]["continue"]
    standin.compact()

    with admin.watch(SERVICES, resourceVersion=start) as watch:
        (event,) = watch.rest()
    exact = admin.get(SERVICES, resourceVersion=start, resourceVersionMatch="Exact")
    page = admin.get(SERVICES, limit=1, **{"continue": rest})

    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    for answer in (exact, page):
        assert (answer.code, answer.content["reason"]) == (410, "Expired")
    fresh = page.content["metadata"]["continue"]
    assert names(admin.get(SERVICES, **{"continue": fresh})) == ["b", "c"]


def test_history_has_the_length_commanded(standin: StandIn, admin: Client):
    """Of more changes than history holds, the oldest are forgotten."""
    standin.configure(history=2)
    first, second, *_ = [standin.apply(service(f"s-{n}")) for n in range(4)]

    with admin.watch(SERVICES, resourceVersion=first) as watch:
        assert watch.next()["object"]["code"] == 410
    with admin.watch(SERVICES, resourceVersion=second) as watch:
        assert [e["object"]["metadata"]["name"] for e in watch.take(2)] == ["s-2", "s-3"]


def test_tokens_expire_alone(standin: StandIn, admin: Client):
    """Continue tokens can expire while history is kept."""
    start = standin.apply(service("a"), service("b"))
    rest = admin.get(SERVICES, limit=1).content["metadata"]["continue"]
    standin.expire_continue_tokens()

    assert admin.get(SERVICES, **{"continue": rest}).code == 410
    assert names(admin.get(SERVICES, resourceVersion=start, limit=5)) == ["a", "b"]


def test_slow_lists_arrive_in_pieces(standin: StandIn, admin: Client):
    """A slow list is the same list."""
    standin.apply(service("a"))
    standin.slow_lists(5000, "services")

    assert names(admin.get(SERVICES)) == ["a"]


def test_a_restart_keeps_objects(standin: StandIn, admin: Client):
    """Versions go on after a restart; on a new port it is the same server."""
    version = standin.apply(service("web"))
    standin.restart()
    assert admin.get(SERVICES).content["metadata"]["resourceVersion"] == str(version)

    old = standin.port
    standin.restart(new_port=True)
    assert standin.port != old
    with pytest.raises(ConnectionRefusedError):
        admin.get(SERVICES)


def test_versions_can_begin_again(standin: StandIn, admin: Client):
    """With versions reset, objects stay and versions are lower than any before."""
    before = standin.apply(service("web"), endpoint_slice("web", "10.244.1.11"))
    standin.restart(reset_versions=True)

    page = admin.get(SERVICES).content
    assert int(page["metadata"]["resourceVersion"]) < before
    (item,) = page["items"]
    assert int(item["metadata"]["resourceVersion"]) < before


def test_streaming_lists_can_be_missing(standin: StandIn, admin: Client):
    """Older servers refuse them; newer ones on an old etcd begin with an error."""
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    standin.configure(streaming_lists=False)
    refused = admin.get(SERVICES, watch=1, allowWatchBookmarks="true", **query)
    standin.configure(streaming_lists=True, etcd_progress=False)
    with admin.watch(SERVICES, allowWatchBookmarks="true", **query) as watch:
        (event,) = watch.rest()

    assert (refused.code, refused.content["reason"]) == (422, "Invalid")
    assert (event["type"], event["object"]["code"]) == ("ERROR", 500)
    assert "RequestWatchProgress is disabled" in event["object"]["message"]


def test_a_watch_on_an_old_server_ends_its_initial_events_with_nothing(
    standin: StandIn, admin: Client
):
    """Without streaming lists, a watch from version 0 sends what is there, and no bookmark."""
    standin.configure(streaming_lists=False)
    standin.apply(service("a"))
    with admin.watch(SERVICES, resourceVersion="0", allowWatchBookmarks="true") as watch:
        standin.wait_for_watches("services")
        standin.apply(service("b"))
        assert [event["type"] for event in watch.take(2)] == ["ADDED", "ADDED"]


def test_bookmarks_come_at_the_interval_commanded(standin: StandIn, admin: Client):
    """Bookmarks come at the interval, with versions that grow as in any living cluster."""
    standin.configure(bookmark_s=0.01)
    query = {"resourceVersion": standin.version, "allowWatchBookmarks": "true"}
    with admin.watch(SERVICES, **query) as watch:
        events = watch.take(3)

    assert {event["type"] for event in events} == {"BOOKMARK"}
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert all(one < next_ for one, next_ in itertools.pairwise(versions))


def test_a_resource_can_be_missing(standin: StandIn, admin: Client):
    """A resource that an older server lacks in a known group is not found, with a Status."""
    standin.configure(without=["servicecidrs"])

    answer = admin.get("/apis/networking.k8s.io/v1/servicecidrs")

    assert (answer.code, answer.content["reason"]) == (404, "NotFound")
    assert answer.content["message"] == "the server could not find the requested resource"


def test_another_certificate_is_shown(standin: StandIn, admin: Client, tmp_path: Path):
    """New connections can get a certificate of an unknown CA, or an expired one."""
    standin.renew_server_certificate(other_ca=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get"):
        admin.get(SERVICES)
    standin.renew_server_certificate(expired=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        admin.get(SERVICES)
    standin.renew_server_certificate()
    assert admin.get(SERVICES).code == 200
