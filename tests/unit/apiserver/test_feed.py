"""Troubles of the four resources: reported once, and their end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from nfproxy.apiserver import feed as module
from nfproxy.apiserver.feed import Troubles
from nfproxy.kube.identity import Kind
from nfproxy.model.changes import Problem

HOST: Any = SimpleNamespace(host="192.0.2.1:6443")


def test_a_trouble_of_several_resources_is_reported_once(monkeypatch, caplog):
    """It ends with the last of them, and the line has how long that took."""
    now_s = 100.0
    monkeypatch.setattr(module, "monotonic_s", lambda: now_s)
    reported: list[Problem] = []
    troubles = Troubles(HOST, reported.append)
    with caplog.at_level("INFO"):
        for kind in Kind:
            troubles.set(kind, "connection refused", "check")
        assert [str(one) for one in reported] == [
            "API server 192.0.2.1:6443: connection refused; check"
        ]
        assert len(set(troubles.problems)) == 1
        now_s = 112.0
        for kind in Kind:
            assert caplog.messages == []
            troubles.clear(kind)
    assert caplog.messages == [
        "API server 192.0.2.1:6443: reachable again after 12 s (was: connection refused)"
    ]
    assert troubles.problems == ()


def test_another_trouble_of_the_same_outage_is_reported_too(monkeypatch, caplog):
    """The time counts from the first."""
    now_s = 100.0
    monkeypatch.setattr(module, "monotonic_s", lambda: now_s)
    reported: list[Problem] = []
    troubles = Troubles(HOST, reported.append)
    troubles.set(Kind.NODE, "connection refused", "")
    now_s = 105.0
    for _ in range(2):
        troubles.set(Kind.NODE, "503", "")
    now_s = 109.0
    with caplog.at_level("INFO"):
        troubles.clear(Kind.NODE)
        troubles.clear(Kind.NODE)

    assert [one.what for one in reported] == ["connection refused", "503"]
    assert [line.partition("again ")[2] for line in caplog.messages] == ["after 9 s (was: 503)"]
