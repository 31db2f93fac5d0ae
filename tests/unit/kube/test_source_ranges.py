"""loadBalancerSourceRanges: open, guarded, closed."""

from __future__ import annotations

import pytest

from nfproxy.kube import wire
from nfproxy.kube.addresses import source_ranges
from nfproxy.kube.decoded import Problems
from nfproxy.kube.identity import Kind

NO_SOURCE_4, NO_SOURCE_6 = "0.0.0.0/32", "::/128"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (None, []),
        ([], []),
        ([" 10.0.0.0/8 "], ["10.0.0.0/8"]),
        (["10.0.0.7/8", "10.1.0.0/16", "10.0.0.0/8"], ["10.0.0.0/8"]),
        (["10.0.0.0/9", "10.128.0.0/9"], ["10.0.0.0/8"]),
        (["10.0.0.0/8", "0.0.0.0/0"], []),
        (["10.0.0.0/8", "::/0"], ["10.0.0.0/8"]),
        (["0.0.0.0/0", "fd00::/8"], ["fd00::/8"]),
        (["fd00::/8", "10.0.0.0/8"], ["10.0.0.0/8", "fd00::/8"]),
        (["010.0.0.0/8"], ["10.0.0.0/8"]),
        (["::ffff:10.0.0.0/104"], ["10.0.0.0/8"]),
    ],
)
def test_valid_lists(texts, expected):
    """A family without a range is open, and so is one with a range of length 0."""
    problems = Problems("", Kind.SERVICE, wire.Metadata("web"))

    assert expected == [str(prefix) for prefix in source_ranges(texts, problems)]
    assert problems.found == ()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["10.0.0.0/8", "10.0.0.0/33"], ["10.0.0.0/8"]),
        (["10.0.0.0/8", "office"], ["10.0.0.0/8"]),
        (["10.0.0.0/8", "fd00::/129"], ["10.0.0.0/8", NO_SOURCE_6]),
        (["fd00::/8", "10.0.0.1"], [NO_SOURCE_4, "fd00::/8"]),
        (["0.0.0.0/0", "10.0.0.0/x"], []),
        (["office"], [NO_SOURCE_4, NO_SOURCE_6]),
        ([""], [NO_SOURCE_4, NO_SOURCE_6]),
        (["10.0.0.0/99"], [NO_SOURCE_4, NO_SOURCE_6]),
    ],
)
def test_invalid_ranges_never_open_a_family(texts, expected):
    """Where nothing valid is left for a family, it is closed, unlike in kube-proxy."""
    problems = Problems("", Kind.SERVICE, wire.Metadata("web"))

    assert expected == [str(prefix) for prefix in source_ranges(texts, problems)]
    assert "spec.loadBalancerSourceRanges" in problems.found[0].field
