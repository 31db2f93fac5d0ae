"""The bench of one wide Service runs, and its Service costs a sum."""

import json

import pytest

from bench.quickly import output_of

pytestmark = pytest.mark.doubles


def test_the_bench_of_a_wide_service():
    """5 ports, 10 external IPs, 20 endpoints: no product of the three."""
    found = json.loads(output_of("bench.wide"))

    assert found["elements"] < 5 * (11 + 20) + 40
    assert found["resident_mb"] < 20
