"""WATCH: where it begins, what it sends, how it ends. Holds for the stand-in and kube-apiserver."""

import pytest
from support.apiserver.subject import Subject, kinds_and_names

pytestmark = pytest.mark.doubles

SLICES = "endpointslices"
INITIAL_END = {"k8s.io/initial-events-end": "true"}


def test_a_watch_sends_what_comes_after_its_version(server: Subject):
    """Events are those after the version given, with whole objects that say their kind."""
    server.slice("before")
    version = server.version()
    server.slice("after", "10.244.1.1")

    with server.watch(SLICES, resourceVersion=version) as watch:
        added = watch.next()
        changed = server.merge(SLICES, "after", endpoints=[])
        modified = watch.next()
        server.delete(SLICES, "before")
        deleted = watch.next()

    assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", "after")
    assert added["object"]["kind"] == "EndpointSlice"
    assert added["object"]["apiVersion"] == "discovery.k8s.io/v1"
    assert modified["type"] == "MODIFIED"
    assert modified["object"]["metadata"] == changed["metadata"]
    assert (deleted["type"], deleted["object"]["metadata"]["name"]) == ("DELETED", "before")


def test_a_deletion_has_a_version_of_its_own(server: Subject):
    """DELETED carries the object as it was, at the version of the deletion."""
    made = server.slice("one", "10.244.1.7")
    with server.watch(SLICES, resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        server.delete(SLICES, "one")
        gone = watch.next()["object"]

    assert int(gone["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert gone["endpoints"] == made["endpoints"]
    assert gone["metadata"]["uid"] == made["metadata"]["uid"]
    assert int(server.version()) >= int(gone["metadata"]["resourceVersion"])


def test_an_update_that_changes_nothing_is_no_event(server: Subject):
    """Writing what is there already makes no version, and no event."""
    made = server.slice("one")
    with server.watch(SLICES, resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        same = server.merge(SLICES, "one", addressType="IPv4")
        server.slice("two")

        assert kinds_and_names(watch, 1) == [("ADDED", "two")]
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


@pytest.mark.parametrize("version", ["", "0"])
def test_without_a_version_a_watch_begins_with_what_is_there(server: Subject, version: str):
    """Objects that exist come as ADDED, then a bookmark says that was all, then events follow."""
    for name in ("a", "b"):
        made = server.slice(name)
    server.answer_list(
        SLICES, resourceVersion=made["metadata"]["resourceVersion"]
    )  # the cache has them

    query = {"resourceVersion": version} if version else {}
    with server.watch(SLICES, allowWatchBookmarks="true", **query) as watch:
        assert kinds_and_names(watch, 2) == [("ADDED", "a"), ("ADDED", "b")]
        bookmark = watch.next()
        server.slice("c")
        assert kinds_and_names(watch, 1) == [("ADDED", "c")]

    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == INITIAL_END


def test_a_streaming_list_ends_in_a_bookmark(server: Subject):
    """With sendInitialEvents a watch takes the place of a list, at the bookmark's version."""
    made = server.slice("a")
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}

    with server.watch(SLICES, allowWatchBookmarks="true", **query) as watch:
        added, bookmark = watch.take(2)

    assert added["object"]["metadata"] == made["metadata"]
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["kind"] == "EndpointSlice"
    assert bookmark["object"]["apiVersion"] == "discovery.k8s.io/v1"
    assert bookmark["object"]["endpoints"] is None
    metadata = bookmark["object"]["metadata"]
    assert metadata["annotations"] == INITIAL_END
    assert int(metadata["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])


def test_a_streaming_list_of_nothing_is_a_bookmark(server: Subject):
    """Where there is nothing, the bookmark comes at once."""
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}

    with server.watch("services", allowWatchBookmarks="true", **query) as watch:
        assert watch.next()["object"]["metadata"]["annotations"] == INITIAL_END


def test_without_bookmarks_nothing_marks_the_end_of_the_initial_events(server: Subject):
    """Who does not allow bookmarks gets none."""
    server.slice("a")
    with server.watch(SLICES) as watch:
        assert kinds_and_names(watch, 1) == [("ADDED", "a")]
        server.slice("b")
        assert kinds_and_names(watch, 1) == [("ADDED", "b")]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"sendInitialEvents": "true"}, "resourceVersionMatch"),
        ({"resourceVersionMatch": "NotOlderThan"}, "resourceVersionMatch"),
        (
            {"sendInitialEvents": "false", "resourceVersionMatch": "Exact"},
            "resourceVersionMatch",
        ),
    ],
)
def test_contradictory_options_are_invalid(server: Subject, query: dict[str, str], field: str):
    """Options that do not go together are refused before the watch begins."""
    answer = server.answer_list(SLICES, watch="true", resourceVersion="1", **query)

    assert (answer.code, answer.content["reason"]) == (422, "Invalid")
    assert field in {cause["field"] for cause in answer.content["details"]["causes"]}


def test_an_object_comes_and_goes_with_its_labels(server: Subject):
    """
    To a watch with a selector, an object that begins to match is ADDED, and one that ceases
    to is DELETED: as it was when it matched, at the version of the change.
    """
    made = server.slice("one", hidden="")
    with server.watch(
        SLICES, labelSelector="!hidden", resourceVersion=made["metadata"]["resourceVersion"]
    ) as watch:
        server.merge(SLICES, "one", metadata={"labels": {"hidden": None, "seen": "yes"}})
        server.merge(SLICES, "one", endpoints=[])
        last = server.merge(SLICES, "one", metadata={"labels": {"hidden": "", "seen": None}})
        server.delete(SLICES, "one")
        server.slice("two")
        added, modified, deleted, following = watch.take(4)

    assert [added["type"], modified["type"], deleted["type"]] == ["ADDED", "MODIFIED", "DELETED"]
    assert deleted["object"]["metadata"]["labels"] == {"seen": "yes"}
    version = last["metadata"]["resourceVersion"]
    assert deleted["object"]["metadata"]["resourceVersion"] == version
    assert following["object"]["metadata"]["name"] == "two"


def test_field_selectors_hold_for_watches(server: Subject):
    """A watch with kube-proxy's field selector does not see headless Services."""
    selector = {"fieldSelector": "spec.clusterIP!=None", "resourceVersion": server.version()}
    with server.watch("services", **selector) as watch:
        server.create("services", "headless", spec={"clusterIP": "None", "ports": [{"port": 80}]})
        server.create("services", "web", spec={"ports": [{"port": 80}]})

        assert kinds_and_names(watch, 1) == [("ADDED", "web")]


def test_one_object_is_watched_by_name(server: Subject):
    """A field selector on the name gives the events of one object only."""
    selector = {"fieldSelector": "metadata.name=mine", "resourceVersion": server.version()}
    with server.watch(SLICES, **selector) as watch:
        server.slice("other")
        server.slice("mine")

        assert kinds_and_names(watch, 1) == [("ADDED", "mine")]


def test_a_path_with_a_name_is_no_watch(server: Subject):
    """Asked to watch the path of one object, the server gives the object."""
    made = server.slice("one")

    answer = server.client.get(server.path(SLICES, "one"), watch=1, timeoutSeconds=1)

    assert answer.content["metadata"] == made["metadata"]


def test_a_version_too_old_is_an_event(server: Subject):
    """A watch from a version that is forgotten is answered 200, with a Status 410 in the stream."""
    with server.watch(SLICES, resourceVersion="1") as watch:
        (event,) = watch.rest()

    status = event["object"]
    assert event["type"] == "ERROR"
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
    assert status["message"].startswith("too old resource version: 1 (")


def test_a_streaming_list_ahead_of_time_is_an_error_event(server: Subject):
    """A streaming list at a version that does not come is answered 200, with a Status 504."""
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "resourceVersion": int(server.version()) + 100_000,
    }
    with server.watch(SLICES, allowWatchBookmarks="true", **query) as watch:
        (event,) = watch.rest()

    assert (event["type"], event["object"]["code"]) == ("ERROR", 504)
    assert event["object"]["reason"] == "Timeout"


def test_a_watch_ahead_of_time_is_silent(server: Subject):
    """A plain watch from a version beyond the current one ends without a word."""
    ahead = int(server.version()) + 100_000
    with server.watch(SLICES, resourceVersion=ahead, timeoutSeconds=1) as watch:
        server.slice("one")

        assert watch.rest() == []


def test_a_watch_ends_in_good_order_after_its_time(server: Subject):
    """After timeoutSeconds the stream ends; shortly before, a bookmark has the latest version."""
    version = server.version()
    query = {"resourceVersion": version, "timeoutSeconds": 3, "allowWatchBookmarks": "true"}
    with server.watch(SLICES, **query) as watch:
        made = server.slice("one")
        added, *bookmarks = watch.rest()

    assert added["object"]["metadata"]["name"] == "one"
    assert {event["type"] for event in bookmarks} == {"BOOKMARK"}
    last = bookmarks[-1]["object"]["metadata"]
    assert "annotations" not in last
    assert int(last["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])
