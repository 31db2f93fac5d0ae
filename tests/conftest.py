"""What all tests share."""

import os
import random
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from support.leftovers import Leftovers

COVERAGE = None
if "NFPROXY_COVERAGE" in os.environ:
    from support.coverage import Coverage

    COVERAGE = Coverage(os.environ["NFPROXY_COVERAGE"])  # before the plugins import nfproxy

pytest_plugins = ["support.fixtures", "kind.selection"]

# A run for a commit is the same run each time; on a person's machine the search goes on.
settings.register_profile("repeatable", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options: of files to compare with, of random walks, of the integration suite."""
    parser.addoption(
        "--update-golden", action="store_true", help="overwrite the expected files of tests/golden"
    )
    parser.addoption(
        "--doubles",
        action="store_true",
        help="also test what tests are made of; or name the files (default: left out)",
    )
    parser.addoption(
        "--soak",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="how long each test marked soak looks for trouble (default: 2)",
    )
    parser.addoption(
        "--chaos",
        type=float,
        default=12.0,
        metavar="SECONDS",
        help="how long tests/chaos lets things go wrong (default: 12)",
    )
    parser.addoption(
        "--chaos-seed",
        type=int,
        default=None,
        metavar="NUMBER",
        help="which faults and changes, in which order (default: others each time; the same in CI)",
    )
    parser.addoption(
        "--chaos-only",
        default="",
        metavar="NAMES",
        help="the faults of tests/chaos to choose from: names, with commas (default: all)",
    )
    parser.addoption(
        "--cluster",
        choices=["namespaces", "kind", "existing"],
        default="namespaces",
        help="what tests/kind runs against (default: network namespaces of this machine)",
    )
    parser.addoption(
        "--kubectl",
        default="",
        metavar="COMMAND",
        help='how kubectl reaches that cluster: "kubectl --kubeconfig FILE"',
    )
    parser.addoption(
        "--on-node",
        default="",
        metavar="COMMAND",
        help='what runs a command on its nodes: "ssh {node}"',
    )
    parser.addoption(
        "--outside",
        default="",
        metavar="COMMAND",
        help="what runs tests/kind/peer.py, {peer}, outside of that cluster (default: here)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Look around every test for what it leaves behind, and measure coverage if asked to."""
    # A shell starts background jobs with SIGINT ignored, and all their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(Leftovers())
    if COVERAGE:
        config.pluginmanager.register(COVERAGE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests that enter network namespaces, and leave out tests of what tests are made of."""
    for item in items:
        if "namespaces_allowed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.namespaces)
    named = {Path(one.partition("::")[0]).resolve() for one in config.args}
    left_out = [
        item
        for item in items
        if item.get_closest_marker("doubles")
        and not config.getoption("doubles")
        and item.path not in named
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session")
def soak_s(pytestconfig: pytest.Config) -> float:
    """How long a test marked soak may run."""
    return float(pytestconfig.getoption("soak"))


@pytest.fixture(scope="session")
def chaos_s(pytestconfig: pytest.Config) -> float:
    """How long tests/chaos may let things go wrong."""
    return float(pytestconfig.getoption("chaos"))


@pytest.fixture(scope="session")
def chaos_seed(pytestconfig: pytest.Config) -> int:
    """Which faults tests/chaos chooses."""
    given = pytestconfig.getoption("chaos_seed")
    if given is not None:
        return int(given)
    return 1 if os.environ.get("CI") else random.randrange(1_000_000)
