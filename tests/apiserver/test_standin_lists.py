"""LIST: pages, versions, selectors. Holds for the stand-in and for kube-apiserver."""

import base64
import json
from typing import Any

import pytest
from support.apiserver.subject import Subject

pytestmark = pytest.mark.doubles

SLICES = "endpointslices"


def test_a_list_says_its_kind_and_its_items_do_not(server: Subject):
    """A list has kind, apiVersion and a version; its items leave kind and apiVersion out."""
    made = server.slice("one")

    answer = server.answer_list(SLICES)

    assert answer.code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.content["kind"] == "EndpointSliceList"
    assert answer.content["apiVersion"] == "discovery.k8s.io/v1"
    version = answer.content["metadata"]["resourceVersion"]
    assert int(version) >= int(made["metadata"]["resourceVersion"])
    (item,) = answer.content["items"]
    assert {"kind", "apiVersion"}.isdisjoint(item)
    assert item["metadata"]["uid"] == made["metadata"]["uid"]


def test_an_empty_list_has_items(server: Subject):
    """Where there is nothing, `items` is an empty list, not null."""
    assert server.answer_list("services").content["items"] == []


def test_a_list_is_in_the_order_of_names(server: Subject):
    """Objects come in the order of their names, bytewise."""
    for name in ("b", "a-1", "a", "a.1"):
        server.slice(name)

    assert server.names(SLICES) == ["a", "a-1", "a.1", "b"]


def test_pages_show_one_moment(server: Subject):
    """The later pages of a list show what was there at the first one."""
    for number in range(5):
        server.slice(f"s-{number}")
    first = server.answer_list(SLICES, limit=2)
    server.delete(SLICES, "s-3")
    server.merge(SLICES, "s-4", endpoints=[])
    server.slice("s-2a")

    pages = [first]
    while rest := pages[-1].content["metadata"].get("continue"):
        pages.append(server.answer_list(SLICES, limit=2, **{"continue": rest}))

    names = [item["metadata"]["name"] for page in pages for item in page.content["items"]]
    assert names == ["s-0", "s-1", "s-2", "s-3", "s-4"]
    assert [p.content["metadata"].get("remainingItemCount") for p in pages] == [3, 1, None]
    assert len({page.content["metadata"]["resourceVersion"] for page in pages}) == 1
    assert pages[-1].content["items"][0]["endpoints"]


def test_pages_of_a_selection_have_no_remaining_count(server: Subject):
    """With a selector a page is filled with what it selects, and how much remains is unknown."""
    for number in range(6):
        server.slice(f"s-{number}", half="left" if number % 2 else "right")

    page = server.answer_list(SLICES, limit=2, labelSelector="half=left")

    assert [item["metadata"]["name"] for item in page.content["items"]] == ["s-1", "s-3"]
    assert "remainingItemCount" not in page.content["metadata"]
    rest = page.content["metadata"]["continue"]
    last = server.answer_list(SLICES, limit=2, labelSelector="half=left", **{"continue": rest})
    assert [item["metadata"]["name"] for item in last.content["items"]] == ["s-5"]
    assert "continue" not in last.content["metadata"]


def test_a_page_may_go_on_without_limit(server: Subject):
    """A continued list without a limit gives all the rest."""
    for number in range(4):
        server.slice(f"s-{number}")
    rest = server.answer_list(SLICES, limit=1).content["metadata"]["continue"]

    assert server.names(SLICES, **{"continue": rest}) == ["s-1", "s-2", "s-3"]


def test_a_token_goes_on_at_the_latest_version_when_it_says_so(server: Subject):
    """The token that comes with "expired" goes on with what is there now."""
    for number in range(3):
        server.slice(f"s-{number}")
    token = {"v": "meta.k8s.io/v1", "rv": -1, "start": "s-0\0"}
    text = base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")

    assert server.names(SLICES, **{"continue": text}) == ["s-1", "s-2"]


@pytest.mark.parametrize(
    "token",
    [
        "!!!",
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1","rv":0,"start":"a"}').decode(),
    ],
)
def test_a_malformed_token_is_refused(server: Subject, token: str):
    """A continue token that the server did not give is a bad request."""
    answer = server.answer_list(SLICES, limit=1, **{"continue": token})

    assert (answer.code, answer.content["reason"]) == (400, "BadRequest")
    assert "continue key is not valid" in answer.content["message"]


def test_a_continued_list_takes_no_version(server: Subject):
    """A version beside a continue token is a bad request."""
    for name in ("a", "b"):
        server.slice(name)
    rest = server.answer_list(SLICES, limit=1).content["metadata"]["continue"]

    answer = server.answer_list(SLICES, resourceVersion="5", **{"continue": rest})

    assert answer.code == 400
    assert "specifying resource version is not allowed" in answer.content["message"]


def test_version_zero_knows_no_pages(server: Subject):
    """A list at any version comes out of the cache in one piece, whatever the limit."""
    version = ""
    for name in ("a", "b", "c"):
        version = server.slice(name)["metadata"]["resourceVersion"]
    server.answer_list(SLICES, resourceVersion=version, resourceVersionMatch="NotOlderThan")

    answer = server.answer_list(SLICES, resourceVersion="0", limit=1)

    assert len(answer.content["items"]) == 3
    assert "continue" not in answer.content["metadata"]


def test_an_exact_version_shows_the_past(server: Subject):
    """A list at an exact version shows what was there then."""
    server.slice("a")
    version = server.slice("b")["metadata"]["resourceVersion"]
    server.delete(SLICES, "a")

    then = server.answer_list(SLICES, resourceVersion=version, resourceVersionMatch="Exact")
    legacy = server.answer_list(SLICES, resourceVersion=version, limit=10)

    assert [item["metadata"]["name"] for item in then.content["items"]] == ["a", "b"]
    assert then.content["metadata"]["resourceVersion"] == version
    assert [item["metadata"]["name"] for item in legacy.content["items"]] == ["a", "b"]
    assert server.names(SLICES, resourceVersion=version) == ["b"]


def test_a_version_that_is_not_there_yet_is_a_timeout(server: Subject):
    """A request for a version beyond the current one gets 504 with Retry-After."""
    ahead = int(server.version()) + 100_000

    answer = server.answer_list(SLICES, resourceVersion=ahead, resourceVersionMatch="NotOlderThan")

    assert (answer.code, answer.content["reason"]) == (504, "Timeout")
    assert answer.content["message"].startswith(
        f"Timeout: Too large resource version: {ahead}, current: "
    )
    assert answer.content["details"]["retryAfterSeconds"] == 1
    assert answer.content["details"]["causes"] == [
        {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    ]
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"resourceVersionMatch": "Exact"}, "resourceVersionMatch"),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, "resourceVersionMatch"),
        ({"resourceVersionMatch": "Newest", "resourceVersion": "5"}, "resourceVersionMatch"),
        ({"sendInitialEvents": "true"}, "sendInitialEvents"),
    ],
)
def test_contradictory_options_are_invalid(server: Subject, query: dict[str, str], field: str):
    """Options that do not go together are refused, with the field that is to blame."""
    answer = server.answer_list(SLICES, **query)

    assert (answer.code, answer.content["reason"]) == (422, "Invalid")
    assert answer.content["message"].startswith('ListOptions.meta.k8s.io "" is invalid: ')
    (cause,) = answer.content["details"]["causes"]
    assert cause["field"] == field


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("zone", ["a", "b", "empty"]),
        ("!zone", ["none"]),
        ("zone=a", ["a"]),
        ("zone==a", ["a"]),
        ("zone!=a", ["b", "empty", "none"]),
        ("zone=", ["empty"]),
        ("zone in (a, b)", ["a", "b"]),
        ("zone notin (a,b)", ["empty", "none"]),
        ("zone,zone!=a", ["b", "empty"]),
        ("zone in (a,b),tier=db", ["b"]),
        ("example.com/long", []),
        ("", ["a", "b", "empty", "none"]),
    ],
)
def test_label_selectors(server: Subject, selector: str, expected: list[str]):
    """Labels select by presence, value, and sets of values."""
    server.slice("a", zone="a")
    server.slice("b", zone="b", tier="db")
    server.slice("empty", zone="")
    server.slice("none")

    assert server.names(SLICES, labelSelector=selector) == expected


def test_field_selectors(server: Subject):
    """Fields select by name, namespace, and a Service's cluster IP."""
    server.create("services", "headless", spec={"clusterIP": "None", "ports": [{"port": 80}]})
    server.create("services", "web", spec={"ports": [{"port": 80}]})

    def names(selector: str) -> list[str]:
        return server.names("services", fieldSelector=selector)

    assert names("spec.clusterIP!=None") == ["web"]
    assert names("spec.clusterIP=None") == ["headless"]
    assert names("metadata.name=web") == ["web"]
    assert names("metadata.name!=web") == ["headless"]
    assert names(f"metadata.namespace={server.namespace},metadata.name=web") == ["web"]
    assert names("metadata.namespace=elsewhere") == []


@pytest.mark.parametrize(
    "query",
    [
        {"fieldSelector": "spec.color=red"},
        {"fieldSelector": "nonsense"},
        {"labelSelector": "a in b"},
        {"labelSelector": "=x"},
        {"resourceVersion": "latest"},
        {"limit": "many"},
    ],
)
def test_what_cannot_be_read_is_a_bad_request(server: Subject, query: dict[str, Any]):
    """Selectors, versions and numbers that make no sense are refused."""
    answer = server.answer_list(SLICES, **query)

    assert (answer.code, answer.content["reason"]) == (400, "BadRequest")


def test_a_list_of_all_namespaces_holds_them_all(server: Subject):
    """Without a namespace in the path, objects of every namespace are listed."""
    server.slice("mine")
    selector = {"fieldSelector": "metadata.name=mine"}

    found = server.client.get("/apis/discovery.k8s.io/v1/endpointslices", **selector)

    assert server.namespace in [i["metadata"]["namespace"] for i in found.content["items"]]


def test_large_lists_are_compressed_for_who_likes_it(server: Subject):
    """From 128 KiB on a list is sent gzipped to a client that accepts that."""
    addresses = [f"10.244.{i // 250}.{i % 250 + 1}" for i in range(1000)]
    for name in ("a", "b", "c", "d", "e"):
        server.slice(name, *addresses)

    with server.client.open(server.path(SLICES), {"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.read(2) == b"\x1f\x8b"
    assert len(server.answer_list(SLICES).content["items"]) == 5
