"""What ``tests/run.sh --kernels`` is asked for, and what counts as failed."""

from __future__ import annotations

import pytest
from tools.kernel_tests import EVERYTHING, SELECTION, Outcome, Round, rounds_by_kernel

pytestmark = pytest.mark.doubles

GOOD = Round("6.1.0-50-cloud-amd64", 0, tests=3)


@pytest.mark.parametrize(
    ("arguments", "rounds"),
    [
        ([], dict(EVERYTHING)),
        (["6.12"], {"6.12": EVERYTHING["6.12"]}),
        (["--selection"], dict(SELECTION)),
        (["6.1", "-k", "x"], {"6.1": [["-k", "x"]]}),
        (["tests/packets"], {"6.1": [["tests/packets"]], "6.12": [["tests/packets"]]}),
    ],
)
def test_kernels_come_first_and_then_what_pytest_gets(
    arguments: list[str], rounds: dict[str, list[list[str]]]
) -> None:
    """Both kernels and everything unless others are named."""
    assert rounds == rounds_by_kernel(arguments)


def outcome(*rounds: Round, reason: str = "") -> Outcome:
    """Return what a guest did that printed nothing."""
    return Outcome("6.1", rounds, reason, "", 12.3)


def test_all_rounds_count() -> None:
    """The line at the end names the kernel that ran, and adds up."""
    both = outcome(GOOD, GOOD._replace(tests=2))

    assert both.good
    assert str(both) == "Linux 6.1.0-50-cloud-amd64: 5 of 5 tests passed, 12 s"


@pytest.mark.parametrize(
    "failed",
    [
        outcome(GOOD, GOOD._replace(exit=1, failures=1)),
        outcome(GOOD._replace(skipped=1)),
        outcome(GOOD._replace(tests=0)),
        outcome(GOOD, reason="the kernel says 'Kernel panic'"),
    ],
    ids=["a failure", "a skipped test", "no test", "a panic"],
)
def test_whatever_is_not_a_test_that_passed_is_a_failure(failed: Outcome) -> None:
    """A guest that ran nothing has shown nothing."""
    assert not failed.good


def test_a_guest_that_did_not_get_far_is_named_by_its_version() -> None:
    """What uname says is not known then."""
    assert str(outcome(reason="no output for 360 s")) == (
        "Linux 6.1: 0 of 0 tests passed, 12 s: no output for 360 s"
    )
