"""Single objects, and who may touch them. Holds for the stand-in and for kube-apiserver."""

import pytest
from support.apiserver.subject import Subject, slice_content

pytestmark = pytest.mark.doubles

SLICES = "endpointslices"


def test_an_object_gets_what_the_server_sets(server: Subject):
    """A new object has a uid, a creation time, a version, and a generation that counts changes."""
    made = server.slice("one")
    labelled = server.merge(SLICES, "one", metadata={"labels": {"a": "b"}})
    changed = server.merge(SLICES, "one", endpoints=[])

    first, second, third = (item["metadata"] for item in (made, labelled, changed))
    assert {"uid", "creationTimestamp", "resourceVersion"} <= first.keys()
    assert first["namespace"] == server.namespace
    assert first["uid"] == third["uid"]
    assert int(first["resourceVersion"]) < int(second["resourceVersion"])
    assert int(second["resourceVersion"]) < int(third["resourceVersion"])
    assert third["generation"] > first["generation"]


def test_an_object_is_found_by_name(server: Subject):
    """GET gives the object, with its kind."""
    made = server.slice("one")

    answer = server.client.get(server.path(SLICES, "one"))

    assert answer.content["kind"] == "EndpointSlice"
    assert answer.content["metadata"] == made["metadata"]


def test_what_is_not_there_is_not_found(server: Subject):
    """404 says which resource and which name."""
    for answer in (
        server.client.get(server.path(SLICES, "none")),
        server.delete(SLICES, "none"),
        server.client.merge(server.path(SLICES, "none"), {"endpoints": []}),
    ):
        assert (answer.code, answer.content["reason"]) == (404, "NotFound")
        assert answer.content["message"] == 'endpointslices.discovery.k8s.io "none" not found'
        assert answer.content["details"] == {
            "name": "none",
            "group": "discovery.k8s.io",
            "kind": "endpointslices",
        }


def test_a_name_is_taken_once(server: Subject):
    """Creating what exists is a conflict."""
    server.slice("one")

    answer = server.client.post(
        server.path(SLICES), {"metadata": {"name": "one"}, **slice_content()}
    )

    assert (answer.code, answer.content["reason"]) == (409, "AlreadyExists")
    assert answer.content["message"] == 'endpointslices.discovery.k8s.io "one" already exists'


def test_a_replacement_must_know_the_latest_version(server: Subject):
    """PUT with the version of an older state is a conflict; with the latest it counts."""
    old = server.slice("one")
    new = server.merge(SLICES, "one", endpoints=[])

    stale = server.client.put(server.path(SLICES, "one"), old)
    fresh = server.client.put(server.path(SLICES, "one"), {**new, "endpoints": old["endpoints"]})

    assert (stale.code, stale.content["reason"]) == (409, "Conflict")
    assert "the object has been modified" in stale.content["message"]
    assert fresh.code == 200
    assert fresh.content["endpoints"] == old["endpoints"]


def test_a_deletion_says_what_it_deleted(server: Subject):
    """DELETE answers with a Status that names the object and its uid."""
    made = server.slice("one")

    answer = server.delete(SLICES, "one")

    assert answer.code == 200
    assert answer.content["status"] == "Success"
    assert answer.content["details"] == {
        "name": "one",
        "group": "discovery.k8s.io",
        "kind": "endpointslices",
        "uid": made["metadata"]["uid"],
    }


def test_events_are_taken_and_patched(server: Subject):
    """An Event is created, and its series patched, as event recorders do it."""
    event = {
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "kube-proxy",
        "reportingInstance": "kube-proxy-node-1",
        "action": "Listen",
        "reason": "FailedToStartServiceHealthcheck",
        "type": "Warning",
        "note": "a note",
        "regarding": {"kind": "Service", "name": "web", "namespace": server.namespace},
    }
    server.create("events", "web.1", **event)

    series = {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}
    patched = server.merge("events", "web.1", series=series)

    assert patched["series"] == series
    assert patched["note"] == "a note"


def test_a_wrong_token_is_unauthorized(server: Subject):
    """401 comes as a Status."""
    answer = server.client.request(
        "GET", server.path(SLICES), headers={"Authorization": "Bearer wrong"}
    )

    assert answer.code == 401
    assert answer.content == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        (
            "GET",
            "/apis/discovery.k8s.io/v1/endpointslices?watch=1",
            'endpointslices.discovery.k8s.io is forbidden: User "system:anonymous" cannot watch '
            'resource "endpointslices" in API group "discovery.k8s.io" at the cluster scope',
        ),
        (
            "POST",
            "/api/v1/namespaces/default/services",
            'services is forbidden: User "system:anonymous" cannot create '
            'resource "services" in API group "" in the namespace "default"',
        ),
        (
            "GET",
            "/api/v1/nodes/node-1",
            'nodes "node-1" is forbidden: User "system:anonymous" cannot get '
            'resource "nodes" in API group "" at the cluster scope',
        ),
        ("GET", "/metrics", 'forbidden: User "system:anonymous" cannot get path "/metrics"'),
    ],
)
def test_a_forbidden_request_learns_the_missing_rule(
    server: Subject, method: str, path: str, message: str
):
    """403 names the user, the verb, the resource and where."""
    answer = server.client.anonymous().request(method, path)

    assert (answer.code, answer.content["reason"]) == (403, "Forbidden")
    assert answer.content["message"] == message


@pytest.mark.parametrize("path", ["/readyz", "/livez", "/healthz"])
def test_health_needs_no_credentials(server: Subject, path: str):
    """Health needs no credentials."""
    answer = server.client.anonymous().get(path)

    assert (answer.code, answer.content) == (200, "ok")


def test_version_and_resources_can_be_discovered(server: Subject):
    """/version, /api and /apis list what exists."""
    get = server.client.get
    listed = get("/apis/discovery.k8s.io/v1").content

    assert get("/version").content["gitVersion"].startswith("v1.")
    assert "v1" in get("/api").content["versions"]
    assert "networking.k8s.io" in {group["name"] for group in get("/apis").content["groups"]}
    assert "endpointslices" in {resource["name"] for resource in listed["resources"]}
    assert get("/apis/nothing.example/v1/things").code == 404


def test_unknown_resources_get_two_kinds_of_answers(server: Subject):
    """An unknown resource of a known group is a Status, an unknown group plain text."""
    resource = server.client.get("/apis/networking.k8s.io/v1/nothings")
    group = server.client.get("/apis/nothing.example/v1/things")

    assert (resource.code, resource.content["reason"]) == (404, "NotFound")
    assert resource.content["message"] == "the server could not find the requested resource"
    assert (group.code, group.content) == (404, "404 page not found\n")


def test_methods_that_a_resource_does_not_have_are_refused(server: Subject):
    """Creating below a name is not allowed, patches of an unknown kind are not taken."""
    server.slice("one")
    path = server.path(SLICES, "one")

    created = server.client.post(path, {})
    patched = server.client.request("PATCH", path, {}, {"Content-Type": "text/plain"})

    assert (created.code, created.content["reason"]) == (405, "MethodNotAllowed")
    assert (patched.code, patched.content["reason"]) == (415, "UnsupportedMediaType")


def test_empty_lists_come_back_as_null(server: Subject):
    """The storage keeps no difference between an empty list and none: a slice shows null."""
    server.slice("one")
    server.merge(SLICES, "one", endpoints=[], ports=[])

    found = server.client.get(server.path(SLICES, "one")).content

    assert (found["endpoints"], found["ports"]) == (None, None)
