"""The latest good version of each object, and what of it is passed on."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.objects.cache import Cache, data

from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName

A, B, C = (ObjectName("default", name) for name in "abc")
SLICE = ObjectName("default", "a-1")


def bad(name: str | None = "a", spec: Any = 5) -> bytes:
    """Return a Service that cannot be used."""
    return json.dumps({"metadata": {"name": name}, "spec": spec}).encode()


def piece(address: str = "10.1.0.1", at: str = "") -> bytes:
    """Return the JSON of an EndpointSlice of Service a, changed at a time."""
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": at} if at else {}
    labels = {"kubernetes.io/service-name": "a"}
    metadata = {"name": "a-1", "labels": labels, "annotations": annotations}
    endpoints = [{"addresses": [address]}]
    return json.dumps(
        {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints}
    ).encode()


def test_only_latest_values_are_passed_on():
    """What happened in between is lost, on purpose."""
    cache = Cache()
    for version in (1, 2, 3):
        cache.put_service(data("a", version))

    assert cache.versions() == {A: 3}
    assert not cache.take()


def test_what_came_and_went_is_no_change():
    """Nor is what changed and changed back."""
    cache = Cache()
    cache.put_service(data("a", 1))
    cache.take()

    cache.put_service(data("a", 2))
    cache.put_service(data("a", 1))
    cache.put_service(data("b", 1))
    cache.remove_service("b")

    assert not cache.take()


def test_changes_are_in_order_of_name():
    """So the same objects are planned in the same order, however they arrived."""
    cache = Cache()
    for name in "cab":
        cache.put_service(data(name))

    assert list(cache.take().services) == [A, B, C]


def test_a_version_that_reads_the_same_is_no_change():
    """An object has many fields that nfproxy does not read."""
    cache = Cache()
    first = cache.put_service(data("a", 1))
    again = cache.put_service(data("a", 1, resourceVersion="7"))

    assert (first.changed, again.changed) == (True, False)


def test_an_object_that_has_no_part_in_proxying_counts_as_gone():
    """A Service that became headless goes as if it were deleted."""
    cache = Cache()
    cache.put_service(data("a", 1))
    cache.take()

    headless = json.dumps({"metadata": {"name": "a"}, "spec": {"clusterIP": "None"}})
    outcome = cache.put_service(headless.encode())

    assert outcome.changed
    assert cache.versions() == {A: None}


def test_a_list_that_was_broken_off_deletes_nothing():
    """Only what a complete list does not hold is gone."""
    cache = Cache()
    cache.put_service(data("a", 1))
    cache.put_service(data("b", 1))
    cache.take()

    cache.begin_list(Kind.SERVICE)
    cache.put_service(data("a", 2))

    assert cache.versions() == {A: 2}

    cache.begin_list(Kind.SERVICE)
    cache.put_service(data("a", 2))
    gone = cache.end_list(Kind.SERVICE)

    assert [(outcome.name, outcome.changed) for outcome in gone] == [(B, True)]
    assert cache.versions() == {B: None}


def test_a_list_of_one_kind_says_nothing_of_another():
    """Each kind is listed by itself."""
    cache = Cache()
    cache.put_service(data("a", 1))
    cache.take()

    cache.begin_list(Kind.ENDPOINT_SLICE)

    assert cache.end_list(Kind.ENDPOINT_SLICE) == []
    assert not cache.take()


def test_an_event_during_a_list_counts_as_seen():
    """What is deleted while a list is under way stays deleted."""
    cache = Cache()
    cache.put_service(data("a", 1))
    cache.begin_list(Kind.SERVICE)
    cache.put_service(data("a", 1))
    cache.remove_service("a")
    cache.put_service(data("b", 1))

    assert cache.end_list(Kind.SERVICE) == []
    assert cache.versions() == {B: 1}


def test_an_unusable_version_leaves_the_last_good_one():
    """What is wrong is news only once."""
    cache = Cache()
    cache.put_service(data("a", 1))
    cache.take()

    first = cache.put_service(bad())
    again = cache.put_service(bad())
    other = cache.put_service(bad(spec={"ports": "all"}))

    assert [len(outcome.problems) for outcome in (first, again, other)] == [1, 0, 1]
    assert not first.is_usable
    assert not first.changed
    assert not cache.take()
    assert cache.problems == other.problems


def test_an_unusable_object_in_a_list_is_not_gone():
    """Its last good version goes on through a new list."""
    cache = Cache()
    cache.put_service(data("a", 1))
    cache.take()

    cache.begin_list(Kind.SERVICE)
    cache.put_service(bad())

    assert cache.end_list(Kind.SERVICE) == []
    assert not cache.take()


def test_an_object_that_was_never_usable_is_not_there():
    """There is no version to keep."""
    cache = Cache()
    cache.put_service(bad())

    assert not cache.take()
    assert len(cache.problems) == 1


def test_problems_end_with_what_caused_them():
    """A good version ends them, and so do a deletion and a list without the object."""
    cache = Cache()
    cache.put_service(bad())
    cache.put_service(data("a", 1))
    assert cache.problems == ()

    cache.put_service(bad())
    cache.remove_service("a")
    assert cache.problems == ()

    cache.put_service(bad())
    cache.put_service(bad(None))
    cache.begin_list(Kind.SERVICE)
    cache.end_list(Kind.SERVICE)
    assert cache.problems == ()


def test_an_object_without_a_name_is_a_problem_and_nothing_else():
    """It costs only itself."""
    cache = Cache()

    outcome = cache.put_service(bad(None))

    assert outcome.name is None
    assert len(outcome.problems) == 1
    assert not cache.take()


def test_of_nodes_only_this_one_is_kept():
    """Whatever an API server sends."""
    cache = Cache()
    for name in ("n1", "n2"):
        cache.put(Kind.NODE, json.dumps({"metadata": {"name": name}}).encode())

    changes = cache.take()
    assert changes.node is not None
    assert changes.node.name == "n1"

    cache.remove(Kind.NODE, b'{"metadata": {"name": "n1"}}')
    changes = cache.take()
    assert (changes.node, changes.node_gone) == (None, True)


def test_trigger_times_are_those_of_changes_since_the_start():
    """A change that alters nothing has none, and a slice that goes takes its Service's along."""
    cache = ObjectCache("n1", started_s=60.0)
    cache.put(Kind.ENDPOINT_SLICE, piece("10.1.0.1", "1970-01-01T00:00:59Z"))
    cache.put(Kind.ENDPOINT_SLICE, piece("10.1.0.2", "1970-01-01T00:01:01Z"))
    cache.put(Kind.ENDPOINT_SLICE, piece("10.1.0.2", "1970-01-01T00:01:02Z"))
    assert list(cache.take().triggers.values()) == [((Family.IPV4, 61.0),)]

    cache.put(Kind.ENDPOINT_SLICE, piece("10.1.0.3", "1970-01-01T00:01:03Z"))
    cache.remove(Kind.ENDPOINT_SLICE, piece())
    changes = cache.take()
    assert (changes.slices, changes.triggers) == ({SLICE: None}, {})


names = st.sampled_from(["a", "b", "c"])
steps = st.one_of(
    st.tuples(st.just("put"), names, st.integers(1, 3)),
    st.tuples(st.just("unusable"), names),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("list"), st.dictionaries(names, st.integers(1, 3))),
    st.tuples(st.just("take")),
)


@given(st.lists(steps))
def test_any_history_passed_on_ends_as_what_is_there(history):
    """
    A reader that applies every batch holds what the API server has, and no batch says nothing.
    """
    cache = Cache()
    there: dict[ObjectName, int] = {}
    held: dict[ObjectName, int] = {}

    def take() -> None:
        for name, version in cache.versions().items():
            assert held.get(name) != version
            if version is None:
                del held[name]
            else:
                held[name] = version

    for step in history:
        match step:
            case ("put", name, version):
                cache.put_service(data(name, version))
                there[ObjectName("default", name)] = version
            case ("unusable", name):
                cache.put_service(bad(name))
            case ("remove", name):
                cache.remove_service(name)
                there.pop(ObjectName("default", name), None)
            case ("list", objects):
                cache.begin_list(Kind.SERVICE)
                for name, version in objects.items():
                    cache.put_service(data(name, version))
                cache.end_list(Kind.SERVICE)
                there = {ObjectName("default", name): v for name, v in objects.items()}
            case _:
                take()
    take()

    assert there == held
