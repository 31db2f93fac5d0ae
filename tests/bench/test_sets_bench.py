"""The bench of sizes and counters runs: nft reads each form of the maps."""

import json

import pytest

from bench.quickly import output_of

pytestmark = pytest.mark.doubles


def test_the_bench_of_sizes_and_counters():
    """Each of the four forms takes all elements, in both ways."""
    found = json.loads(output_of("bench.sets"))

    assert {(one["sizes"], one["counters"]) for one in found} == {
        (sizes, counters) for sizes in (True, False) for counters in (True, False)
    }
