"""How a list and watch goes on after a refusal, or a fault of its caller."""

from __future__ import annotations

import pytest
from support.objects.watchlines import CIDRS, SLICES, TIMES, line, machine, watching

from nfproxy.kube.apistatus import Status, refused
from nfproxy.kube.protocol import (
    Healthy,
    Trouble,
    Unavailable,
    WatchEnded,
)


def test_retry_after_is_a_lower_bound():
    """The server's wish in a Status or a header goes before our own pace."""
    protocol = machine()
    protocol.next_request(0.0)
    protocol.failed(refused(Status(429, retry_after_s=7.0)), 0.0)
    assert protocol.wait_s == 7.0


def test_an_optional_resource_is_asked_for_rarely_once_its_absence_is_certain():
    """It is no trouble, and news once; a complete list starts the count again."""
    protocol = machine(CIDRS)
    waits, news = [], []
    for _ in range(11):
        protocol.next_request(0.0)
        unavailable, healthy = protocol.failed(refused(Status(403)), 0.0)
        assert isinstance(unavailable, Unavailable)
        assert healthy == Healthy()
        waits.append(protocol.wait_s)
        news.append(unavailable.is_news)
    assert waits[:8] == pytest.approx([0.1 * 2**n for n in range(8)])
    assert waits[8:] == [TIMES.unavailable_s] * 3
    assert news == [False] * 8 + [True] + [False] * 2


def test_a_forbidden_resource_that_is_needed_is_a_trouble():
    """The machine keeps asking, and nothing waits for the objects."""
    protocol = machine(SLICES)
    protocol.next_request(0.0)
    unavailable, trouble = protocol.failed(refused(Status(403)), 0.0)
    assert isinstance(unavailable, Unavailable)
    assert isinstance(trouble, Trouble)
    assert '["endpointslices"]' in trouble.remedy


def test_a_fault_of_the_caller_lists_everything_again():
    """The cache may lack what was lost with the fault."""
    protocol = watching()
    protocol.received(line("ADDED", "a", 11), 1.0)
    assert protocol.crashed() == [WatchEnded("failed")]
    assert protocol.wait_s > 0
    assert "resourceVersion" not in protocol.next_request(1.0).query
