"""What the object cache makes of manifest files."""

from __future__ import annotations

from typing import Any

from support.objects.cache import Cache

from nfproxy.kube.heldfiles import FileContent, ObjectKey, UnusableObject
from nfproxy.kube.identity import Kind
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName, Service

A, B, C = (ObjectName("default", name) for name in "abc")


def content(*objects: str, **fields: Any) -> FileContent:
    """Return a file's content; ``a1`` stands for version 1 of Service a."""
    found = {
        key(text[0]): Service(
            name=ObjectName("default", text[0]),
            cluster_ips=(bytes([10, 0, 0, int(text[1])]),),
            ports=(),
        )
        for text in objects
    }
    return FileContent(objects=dict(found), **fields)


def key(name: str) -> ObjectKey:
    return ObjectKey(Kind.SERVICE, ObjectName("default", name))


def test_a_files_content_replaces_what_the_file_held():
    """What is missing in it is gone."""
    cache = Cache()
    cache.replace_file("/m/x", content("a1", "b1"))
    cache.take()
    cache.replace_file("/m/x", content("a2", "c1"))

    assert cache.versions() == {A: 2, B: None, C: 1}


def test_the_first_file_in_path_order_has_an_object_that_two_hold():
    """The order of reading does not matter; the other file is a conflict."""
    cache = Cache()
    cache.replace_file("/m/y", content("a2"))
    cache.replace_file("/m/x", content("a1"))

    assert cache.versions() == {A: 1}
    assert cache.source_file(A) == "/m/x"
    conflict = "/m/y: Service default/a: is also in /m/x, which counts"
    assert [str(problem) for problem in cache.conflicts()] == [conflict]

    cache.remove_file("/m/x")
    assert cache.versions() == {A: 2}
    assert cache.source_file(A) == "/m/y"
    assert cache.conflicts() == []

    cache.remove_file("/m/y")
    assert cache.versions() == {A: None}
    assert cache.source_file(A) == ""


def test_an_object_that_moves_between_files_is_no_change():
    """Whichever of the two files is read first."""
    cache = Cache()
    cache.replace_file("/m/x", content("a1"))
    cache.take()
    cache.replace_file("/m/x", content())
    cache.replace_file("/m/y", content("a1"))

    assert not cache.take()


def test_what_may_still_be_in_a_file_stays():
    """A file that does not parse, and an object in it that cannot be used."""
    cache = Cache()
    cache.replace_file("/m/x", content("a1", "b1"))
    cache.take()
    cache.replace_file("/m/x", content(parsed=False))
    assert not cache.take()
    assert cache.texts == ["/m/x: 2 objects of the last good version in use"]

    unusable = frozenset([UnusableObject(Kind.SERVICE, "default", "b")])
    cache.replace_file("/m/x", content("a2", unusable=unusable))
    assert cache.versions() == {A: 2}
    assert cache.texts == ["/m/x: 1 object of the last good version in use"]

    cache.replace_file("/m/x", content("a2"))
    assert cache.versions() == {B: None}
    assert cache.texts == []


def test_problems_of_a_file_are_those_of_its_last_version():
    """They go with the file."""
    cache = Cache()
    problem = Problem("/m/x", "Service default/a", "spec", "is missing")
    cache.replace_file("/m/x", content(problems=(problem,)))
    assert cache.problems == (problem,)

    cache.remove_file("/m/x")
    assert cache.problems == ()
