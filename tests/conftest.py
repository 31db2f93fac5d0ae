"""What all tests share."""

import os

import pytest
from hypothesis import settings

pytest_plugins = ["support.fixtures"]

# A run for a commit is the same run each time; on a person's machine the search goes on.
settings.register_profile("repeatable", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of tests that compare with files, and of those that walk at random."""
    parser.addoption(
        "--update-golden", action="store_true", help="write the expected files of tests/golden anew"
    )
    parser.addoption(
        "--soak",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="how long each test marked soak looks for trouble (default: 2)",
    )


@pytest.fixture(scope="session")
def soak_s(pytestconfig: pytest.Config) -> float:
    """How long a test marked soak may run."""
    return float(pytestconfig.getoption("soak"))
