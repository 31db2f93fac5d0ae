"""Signs that an API server has another history than before."""

from __future__ import annotations

import json

import pytest

from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.history import History
from nfproxy.kube.identity import Kind
from nfproxy.kube.protocol import WatchTimeouts

TIMES = WatchTimeouts()


def test_an_event_before_an_earlier_one_is_a_sign():
    """In a list, objects are in no order."""
    history = History()
    history.begin_list()
    assert not any(history.event(version) for version in ("9", "3", "7"))
    assert not history.end_list("10")
    assert not any(history.event(version) for version in ("11", "11", "12", ""))
    assert history.event("9")


def test_a_list_before_an_earlier_event_is_a_sign_once():
    """The list is what there is now, so versions count from there."""
    history = History()
    assert not history.end_list("10")
    assert not history.event("150")
    assert history.end_list("101")
    assert not history.end_list("101")
    assert not history.event("102")


def test_versions_that_are_no_numbers_are_no_sign():
    """Nothing follows from their order."""
    history = History()
    history.end_list("b")
    assert not history.event("a")
    assert not history.end_list("")


def service(uid: object) -> bytes:
    """Return a Service."""
    metadata = {"name": "web", "namespace": "default", "uid": uid, "resourceVersion": "7"}
    ports = [{"port": 80}]
    return json.dumps(
        {"metadata": metadata, "spec": {"clusterIP": "10.0.0.1", "ports": ports}}
    ).encode()


@pytest.mark.parametrize(
    ("uid", "is_another"), [("a", False), ("b", True), (None, False), (5, False)]
)
def test_an_object_with_another_uid_is_another_object(uid, is_another):
    """Unless it was removed before, or a list is under way."""
    cache = ObjectCache("n1")
    assert not cache.put(Kind.SERVICE, service("a")).is_another
    change = cache.put(Kind.SERVICE, service(uid))
    assert change.is_another is is_another
    assert change.version == "7"
    cache.remove(Kind.SERVICE, service(uid))
    assert not cache.put(Kind.SERVICE, service("a")).is_another
    cache.begin_list(Kind.SERVICE)
    assert not cache.put(Kind.SERVICE, service("b")).is_another
